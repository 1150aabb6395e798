"""The installed command's own part: verbs, completion, how it starts others like it. ``test_wheel`` installs it."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra

from spikefront import start
from spikefront.commands import verbs
from spikefront.config import CONF, ROOT, compose


@pytest.fixture
def command(monkeypatch, capfd):
    """``command("train", "--help")`` as ``spikefront train --help`` -> (exit code, stdout, stderr)."""
    monkeypatch.setattr(start, "_verb", [])

    def run(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["/usr/bin/spikefront", *arguments])
        GlobalHydra.instance().clear()
        code = None
        try:
            verbs.run()
        except SystemExit as stop:
            code = stop.code
        return code, *capfd.readouterr()

    return run


def test_help_has_a_line_for_every_script(command):
    code, out, _ = command("--help")
    assert code is None
    lines = {line.split()[0]: line for line in out.splitlines() if line.startswith("  ")}
    for script in (ROOT / "src").glob("*.py"):
        assert len(lines[script.stem].split()) > 3
    assert command()[1] == out


def test_help_of_a_verb_speaks_of_the_command(command, monkeypatch):
    monkeypatch.setattr(start.shutil, "which", lambda name: "/usr/bin/spikefront")
    start._installed.cache_clear()
    _, out, _ = command("study", "--help")
    start._installed.cache_clear()
    assert out.count("  spikefront study study=") >= 4 and "src/" not in out


def test_an_unknown_verb_is_a_line_with_near_matches(command):
    code, out, _ = command("trian", "model=sdt_tiny")
    assert out == ""
    assert str(code).startswith("spikefront: there is no verb 'trian'; did you mean 'train'?") and "\n" not in str(code)


def test_the_list_of_verbs_waits_for_nothing():
    program = "import sys; from spikefront.commands import verbs; verbs.run(); print(*sys.modules)"
    out = subprocess.check_output([sys.executable, "-c", program], cwd=ROOT / "src", text=True)
    assert not {"hydra", "omegaconf", "numpy", "torch"} & set(out.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("spikefront s", {"study", "sweep"}),
        ("spikefront ", {"data", "train", "sweep", "evaluate", "energy", "report", "study", "audit", "workspace"}),
        ("spikefront ex", {"export"}),
        ("spikefront audit tar", {"target="}),
        ("spikefront train neuron=p", {"neuron=plif"}),
        ("spikefront train neuron=lif optimizer.l", {"optimizer.lr="}),
        ("/opt/env/bin/spikefront sweep hparams_search=timesteps -m search/sampler=nsg", {"search/sampler=nsga2"}),
        ("spikefront study act", {"action="}),
        ("spikefront data ~/gestures time", {"timesteps="}),
        ("spikefront study 'act", set()),
        ("spikefront trian act", set()),
    ],
)
def test_completion(command, monkeypatch, line, found):
    monkeypatch.setenv("COMP_LINE", f"{line} and what is behind the cursor")
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    _, out, err = command("-sc", "query=bash")
    assert found <= set(out.split()) and bool(found) == bool(out.split())
    assert err == ""


def test_completion_knows_own_groups(command, monkeypatch, tmp_path):
    (tmp_path / "neuron").mkdir()
    (tmp_path / "neuron" / "peculiar.yaml").write_text("tau: 1")
    monkeypatch.setenv("COMP_LINE", f"spikefront train --config-dir={tmp_path} neuron=pec")
    monkeypatch.delenv("COMP_POINT", raising=False)
    assert command("-sc", "query=bash")[1].split() == ["neuron=peculiar"]


@pytest.mark.parametrize(
    ("program", "begins"),
    [
        ("/opt/env/bin/spikefront", ["/opt/env/bin/spikefront", "sweep"]),
        ("/opt/env/lib/spikefront/__main__.py", ["-m", "spikefront", "sweep"]),
    ],
)
def test_workers_are_started_as_their_sweep_was(monkeypatch, program, begins):
    monkeypatch.setattr(start, "_verb", [])
    monkeypatch.setattr(sys, "argv", [program, "sweep", "-m", "neuron=lif,if"])
    start.take_verb("sweep")
    assert sys.argv == [program, "-m", "neuron=lif,if"]  # what Hydra reads
    assert start.again() == [sys.executable, *begins]
    with start.whole_command_line():
        assert sys.argv == [program, "sweep", "-m", "neuron=lif,if"]  # what Lightning starts again
    assert sys.argv == [program, "-m", "neuron=lif,if"]


def test_scripts_are_spelled_as_they_were_started(monkeypatch):
    monkeypatch.setattr(start, "_verb", [])
    for given, spelled in {
        "src/sweep.py": "python src/train.py",
        "../my clone/src/sweep.py": "python '../my clone/src/train.py'",
        "/usr/bin/pytest": "python src/train.py",
    }.items():
        monkeypatch.setattr(sys, "argv", [given])
        assert start.spelled("train") == spelled


def test_a_flag_may_stand_between_overrides(script, tmp_path):
    more = [f"search.dir={tmp_path}", "dry_run=true"]
    code, out, err = script("sweep", "hparams_search=timesteps", "-m", "data=digits_dvs", *more)
    assert code == 0, err
    worker = shlex.split(out.splitlines()[-1])[2:]  # what it would start
    cfg = compose(worker, root="sweep")
    assert (cfg.search.study, cfg.data.name) == ("timesteps-digits_dvs-sdt_tiny", "digits_dvs")
    code, out, _ = script("train", "model=sdt_1_16", "--cfg", "job", "neuron=plif", "-p", "neuron", "neuron.tau=3")
    assert code == 0 and yaml.safe_load(out) == {**yaml.safe_load((CONF / "neuron/plif.yaml").read_text()), "tau": 3}


def test_an_unknown_flag_is_one_line(script):
    code, _, err = script("train", "model=sdt_1_16", "--paralel", "seed=1")
    assert code == 1
    assert err == "spikefront: there is no flag --paralel; --hydra-help lists the flags\n"


def test_another_python_than_that_of_the_environment_is_one_line(tmp_path):
    def run(*arguments):  # without site, a Python has no packages
        command = [sys.executable, "-S", *map(str, arguments)]
        environment = {"PYTHONPATH": str(ROOT / "src")}
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)

    done = run(ROOT / "src" / "train.py")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "source .venv/bin/activate" in done.stderr
    assert "ModuleNotFoundError" in run("-c", "import spikefront").stderr  # a library's user has a program to mend
