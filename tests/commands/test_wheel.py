"""The wheel, installed far from the repository: the command does there what the scripts do in a clone."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
from filelock import FileLock

from spikefront.config import ROOT

TINY = "model=sdt_1_16 data=digits trainer.max_epochs=1 trainer.limit_train_batches=2 logger=none"
FOLDERS = ("conf", "sweeps", "slurm")  # of the repository's top level; in the wheel inside the package
JUNK = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.so")

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """The wheel made from the source distribution, as ``python -m build`` makes it; once for all processes of a run."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    with FileLock(shared / "wheel.lock"):
        if not (shared / "wheel").exists():
            source = shared / "source"
            for folder in ("src", *FOLDERS):
                shutil.copytree(ROOT / folder, source / folder, ignore=JUNK)
            for file in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
                shutil.copy(ROOT / file, source)
            build = f"from setuptools import build_meta; build_meta.build_sdist({str(shared)!r})"
            call(sys.executable, "-c", build, cwd=source)
            (archive,) = shared.glob("spikefront-*.tar.gz")
            options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
            call(sys.executable, "-m", "pip", "wheel", *options, "-w", shared / "made", archive)
            (shared / "made").rename(shared / "wheel")
        (found,) = (shared / "wheel").glob("*.whl")
    return found


@pytest.fixture(scope="session")
def environment(wheel) -> Path:
    """A virtual environment with the wheel, which sees the packages of this one but nothing of the repository."""
    made = wheel.parents[1] / "environment"
    with FileLock(f"{made}.lock"):
        if not made.exists():
            call(sys.executable, "-m", "venv", "--without-pip", made)
            call(sys.executable, "-m", "pip", "--python", made / "bin/python", "install", "-q", "--no-deps", wheel)
            (packages,) = made.glob("lib/python*/site-packages")
            (packages / "others.pth").write_text(sysconfig.get_path("purelib"))  # its own .pth files don't count
    return made


@pytest.fixture
def installed(environment, tmp_path):
    """``installed("spikefront train …")``: what a command of that environment says, run in an empty directory."""

    def run(line: str, fails: bool = False) -> str:
        return call(*shlex.split(line), cwd=tmp_path, path=environment / "bin", fails=fails)

    return run


def call(*command: object, cwd: Path | None = None, path: Path | None = None, fails: bool = False) -> str:
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    if path is not None:
        env |= {"PATH": f"{path}:{env['PATH']}", "OMP_NUM_THREADS": "1"}
    words = [*map(str, command)]
    words[0] = shutil.which(words[0], path=env["PATH"]) or words[0]
    ran = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    assert (ran.returncode != 0) == fails, f"{shlex.join(words)}\n{ran.stdout[-3000:]}{ran.stderr[-3000:]}"
    return ran.stderr if fails else ran.stdout


def test_the_wheel_holds_all_that_the_repository_runs_on(wheel):
    there = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = [f for folder in ("src", *FOLDERS) for f in (ROOT / folder).rglob("*") if f.is_file()]
    files = [f.relative_to(ROOT) for f in files if "__pycache__" not in f.parts and ".egg-info" not in str(f)]
    scripts = {f for f in files if f.parent == Path("src")}
    wanted = {str(f.relative_to("src") if f.parts[0] == "src" else Path("spikefront", f)) for f in {*files} - scripts}
    assert there == wanted
    assert {"spikefront/py.typed", "spikefront/conf/train.yaml", "hydra_plugins/spikefront_slurm.py"} <= there


@pytest.mark.slow  # a sweep has both too
def test_networks_are_made_and_configuration_is_the_wheels(installed, environment):
    program = (
        "import spikefront, spikefront.config as c;"
        "print(sum(p.numel() for p in spikefront.create_model('sdt_1_16', data='digits').parameters()), c.CONF)"
    )
    parameters, conf = installed(f"python -c {shlex.quote(program)}").split()
    assert int(parameters) == 7616
    assert conf.startswith(str(environment)) and conf.endswith("site-packages/spikefront/conf")


@pytest.mark.slow
def test_it_trains_in_two_processes_of_which_one_starts_the_other(installed, tmp_path):
    installed(f"spikefront train {TINY} trainer=ddp_cpu")
    (result,) = tmp_path.glob("outputs/train/*/result.json")
    assert json.loads(result.read_text())["samples"] == 360


def test_a_sweep_from_search_to_page(installed, tmp_path):
    said = installed(f"spikefront sweep hparams_search=demo -m search.n_trials=2 search.workers=1 {TINY} trainer=cpu")
    study = re.findall(r"\((demo-\S+)\)", said)[-1]
    assert "2 complete" in said
    installed(f"spikefront report study={study}")
    assert (tmp_path / "report.html").stat().st_size > 10_000
    said = installed(f"spikefront study study={study} action=best").splitlines()
    command, take = [line for line in said if line.startswith("spikefront ")]
    assert command.startswith("spikefront train ") and take.startswith("spikefront study study=")
    assert [p.name for p in tmp_path.iterdir() if p.name != "report.html"] == ["outputs"]


@pytest.mark.slow  # export itself: tests/exporting
def test_a_network_is_taken_out(installed, tmp_path):
    installed(f"spikefront train {TINY} trainer=cpu hydra.run.dir=run")
    out = installed("spikefront export checkpoint=run/checkpoints/best.ckpt format=int8 directory=whole")
    assert "chip_8bit" in out and json.loads((tmp_path / "whole/export.json").read_text())["bits"] == 8
    program = "import spikefront, torch; print(spikefront.from_pretrained('whole')(torch.rand(2, 1, 8, 8)).shape)"
    assert "[2, 10]" in installed(f"python -c {shlex.quote(program)}")
    assert "did you mean 'onnx'" in installed("spikefront export checkpoint=x format=onx", fails=True)


@pytest.mark.slow  # of a clone: test_tutorials.py
def test_slurm_gets_its_script_and_its_late_workers(installed, environment, tmp_path):
    said = installed("spikefront sweep -m hparams_search=demo hydra/launcher=slurm_cpu dry_run=true search.workers=2")
    assert "#SBATCH --array=0-1" in said and f"{environment}/bin/python" in said

    (script,) = environment.glob("lib/python*/site-packages/spikefront/slurm/worker.sbatch")
    srun = environment / "bin" / "srun"  # which says what it would run
    srun.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    said = installed(f"bash {script} search.study=s").split()
    assert said[1:] == ["python3", "-m", "spikefront", "sweep", "search.worker=true", "search.study=s"]


def test_bash_completes(installed):
    def complete(line: str) -> list[str]:
        words = line.split()
        last = len(words) - (not line.endswith(" "))
        return installed(
            "bash --norc -c "
            + shlex.quote(
                'eval "$(spikefront -sc install=bash)"; complete -p spikefront >/dev/null || exit 1;'
                f"COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)} COMP_CWORD={last};"
                'hydra_bash_completion; echo "${COMPREPLY[@]}"'
            )
        ).split()

    assert complete("spikefront st") == ["study"]
    assert complete("spikefront train model=sdt_t") == ["model=sdt_tiny"]


def test_what_it_says_of_itself(installed):
    assert installed("spikefront --version") == f"spikefront {VERSION}\n"
    assert "spikefront train model=" in installed("spikefront train --help")
    assert "did you mean 'train'" in installed("spikefront trian", fails=True)
