"""A user's own configuration directories: every command sees them, and so does every process that one starts."""

from __future__ import annotations

import contextlib
import io
import re
import shlex

import pytest
from scripts import keep_workers_here, run_script

import spikefront
from spikefront.config import ROOT, compose, places
from spikefront.errors import UserError
from spikefront.sweeping.study import study as studies
from spikefront.sweeping.worker.worker import Worker

SHORT = ["data=digits", "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=2", "logger=none"]
SHORT += ["trainer.limit_val_batches=1", "trainer.limit_test_batches=1"]
SEARCH = ["hparams_search=mine", "model=mine", "search.workers=1", *SHORT]


@pytest.fixture(scope="module", params=["here", pytest.param("processes", marks=pytest.mark.slow)])
def where(request):
    """Where a search's workers run."""
    return request.param


@pytest.fixture(scope="module")
def home(tmp_path_factory, where):
    """A directory with ``my conf/``: a model, a neuron and a search that no other place has."""
    home = tmp_path_factory.mktemp("home")
    files = {
        "model/mine.yaml": "defaults: [sdt_1_16, _self_]\ntimesteps: 2\n",
        "neuron/mine.yaml": "defaults: [lif, _self_]\nthreshold: 0.125\n",
        "hparams_search/mine.yaml": "# @package _global_\ndefaults: [{override /search/sampler: grid}]\nsearch:\n"
        "  n_trials: null\n  space: {neuron: 'mine,lif'}\n",
    }
    for name, text in files.items():
        path = home / "my conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return home


def sweep(home, where, *arguments):
    """What it says."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as said:
        patch.chdir(home)
        patch.setenv("OMP_NUM_THREADS", "1")
        if where == "here":
            keep_workers_here(patch)
        code = run_script(patch, str(ROOT / "src/sweep.py"), "-m", *arguments, *SEARCH)
    logs = "".join(p.read_text() for p in home.glob("outputs/studies/*/workers/*.log"))
    assert code == 0, said.getvalue() + logs
    return said.getvalue()


@pytest.fixture(scope="module")
def search(home, where):
    """What finds the study of a finished search in ``my conf``, given as a relative path."""
    said = sweep(home, where, "--config-dir=my conf")
    assert "2 complete" in said and "neuron=mine" in said
    return {"study": "mine-digits-mine", "dir": str(home / "outputs" / "studies"), "storage": None}


def test_local_workers_compose_with_it(search):
    study, _ = studies.load(search)
    assert {t.params["neuron"] for t in study.trials if t.state.name == "COMPLETE"} == {"mine", "lif"}
    assert all(len(t.user_attrs["anytime"]) == 2 for t in study.trials)  # model=mine has two timesteps


def test_workers_that_come_late_know_it_from_the_study(search):
    """If their user trusts it: who may write to a storage shall bring no configuration."""
    own = [f"search.{key}={value}" for key, value in search.items() if value]
    with pytest.raises(UserError, match=r"takes configuration from .*give hydra\.searchpath=.* search\.trust=true"):
        Worker(compose(own, root="sweep"), own)
    own.append("search.trust=true")
    worker = Worker(compose(own, root="sweep"), own)
    assert worker.compose(["neuron=mine"]).neuron.threshold == 0.125


def test_the_printed_command_trains_anywhere(search, script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = script("study", f"study={search['study']}", f"dir={search['dir']}", "action=best")
    assert code == 0, err
    words = shlex.split(next(line for line in out.splitlines() if "train.py" in line))
    assert words[:2] == ["python", "src/train.py"]
    code, _, err = script("train", *words[2:], "hydra.run.dir=again")
    assert code == 0, err
    assert re.search(r"timesteps: 2\b", (tmp_path / "again" / "config.yaml").read_text())


@pytest.mark.slow
def test_a_search_path_does_as_well_and_reaches_clusters(home):
    """submitit's processes are started as SLURM's are, but here."""
    launcher = ["hydra/launcher=submitit_local", "search.study=cluster", "search.n_trials=1"]
    said = sweep(home, "cluster", "hydra.searchpath=['my conf']", *launcher)
    assert "1 complete" in said
    study, _ = studies.load({"study": "cluster", "dir": str(home / "outputs" / "studies"), "storage": None})
    (override,) = [o for o in studies.record(study)["overrides"] if o.startswith("hydra.")]
    assert override == f"hydra.searchpath=[{home}/my conf]"


@pytest.mark.slow
def test_the_other_commands_take_it(home, search, script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = f"--config-dir={home}/my conf"
    code, out, err = script("energy", own, "model=mine", "neuron=mine", "samples=2", "format=json", "input=noise")
    assert code == 0 and '"timesteps": 2' in out, err
    code, out, err = script("train", "neuron=mine", own, "model=mine", "--cfg", "job", "-p", "neuron")
    assert code == 0 and "threshold: 0.125" in out, err
    code, _, err = script("report", own, f"study={search['study']}", f"dir={search['dir']}")
    assert code == 0 and (tmp_path / "report.html").exists(), err
    (checkpoint, *_) = home.glob("outputs/studies/mine-digits-mine/trials/*/checkpoints/last.ckpt")
    code, _, err = script("evaluate", own, f"checkpoint={checkpoint}", "hydra.run.dir=evaluated")
    assert code == 0 and (tmp_path / "evaluated" / "result.json").exists(), err
    code, _, err = script("train", "--config-dir=nowhere", "neuron=mine")
    assert code == 1 and "nowhere" in err and len(err.splitlines()) == 1


def test_paths_are_made_absolute_and_quoted(home, monkeypatch):
    monkeypatch.chdir(home)

    def given(*paths: str) -> list[str]:
        return places(compose([f"hydra.searchpath={list(paths)}"], with_hydra=True).hydra)

    assert given() == []
    assert given("file://a") == [f"hydra.searchpath=[{home}/a]"]
    assert given("pkg://spikefront.nn", "it's [b], c") == [
        f"hydra.searchpath=[pkg://spikefront.nn,'{home}/it\\'s [b], c']"
    ]
    (again,) = places(compose(given("it's [b], c"), with_hydra=True).hydra)
    assert [again] == given("it's [b], c")


def test_models_by_name_are_unaffected(search):
    assert spikefront.create_model("sdt_1_16", data="digits", timesteps=3).timesteps == 3
    with pytest.raises(Exception, match="mine"):
        spikefront.create_model("mine")
