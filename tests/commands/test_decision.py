"""From a front to a network: the printed commands, run as they are printed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

import pytest
from scripts import keep_workers_here, run_script

from spikefront.commands.recost import recosted
from spikefront.config import ROOT, compose
from spikefront.errors import UserError
from spikefront.nn.checkpoints import read_checkpoint
from spikefront.sweeping.study.records import records
from spikefront.sweeping.study.sources import open_study
from spikefront.sweeping.study.study import finder, load
from spikefront.sweeping.worker import processes

SWEEP = [sys.executable, str(ROOT / "src/sweep.py"), "-m"]
SHORT = ["model=sdt_1_16", "data=digits", "trainer=cpu", "trainer.max_epochs=2", "trainer.limit_train_batches=4"]
SHORT += ["trainer.limit_test_batches=1", "logger=none", "model.timesteps=2"]


def run(place: Path, *command: str) -> str:
    """A command line as a user pastes it; every number of threads is the configuration's, none the environment's."""
    environment = {k: v for k, v in os.environ.items() if not k.endswith("NUM_THREADS")}
    ran = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def within(place: Path, *command: str) -> str:
    """The same in this process, with all the processes that it would start."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as said:
        patch.chdir(place)
        keep_workers_here(patch)
        patch.setattr(processes, "run_sweep", lambda command: run_script(patch, *command[1:]))
        assert run_script(patch, *command[1:]) == 0, said.getvalue()
    return said.getvalue()


def pasted(line: str) -> list[str]:
    """``python src/train.py …`` from where the repository is not."""
    program, script, *arguments = shlex.split(line)
    assert program == "python" and script.endswith(".py")
    return [sys.executable, str(ROOT / "src" / Path(script).name), *arguments]


@pytest.fixture(scope="module", params=[within, pytest.param(run, marks=pytest.mark.slow)])
def way(request):
    """How commands are run."""
    return request.param


@pytest.fixture(scope="module")
def place(tmp_path_factory, way):
    """A sweep of two workers, and so of one thread each where there are two cores."""
    place = tmp_path_factory.mktemp("decision")
    space = ["neuron.threshold=choice(0.1,0.2)", "search/sampler=grid", "search.n_trials=null"]
    own = ["search.study=s", "search.workers=2", "search.default_first=false"]
    way(place, *SWEEP, *SHORT, *space, *own)
    return place


def study(place: Path, name: str = "s"):
    return open_study(str(place / "outputs" / "studies" / name))


@pytest.fixture
def here(place, script, monkeypatch):
    """A printed line of ``train`` or ``evaluate``, run in this process."""
    monkeypatch.chdir(place)

    def go(line: str, *more: str) -> str:
        _, name, *arguments = pasted(line)
        code, out, err = script(Path(name).stem, *arguments, *more)
        assert code == 0, err
        return out

    return go


def test_the_command_of_a_trial_gives_its_figures_to_the_last_digit(place, here):
    trial = records(study(place))["trials"][-1]  # the second; both workers may have drawn one point at first
    assert f"threads={trial['threads']}" in trial["command"]
    here(trial["command"], "hydra.run.dir=again")
    result = json.loads((place / "again" / "result.json").read_text())
    assert result["validation"]["anytime"] == [{**p} for p in trial["anytime"]]
    assert result["accuracy"] == trial["test"]["accuracy"] and result["threads"] == trial["threads"]
    assert (result["validation"]["samples"], result["samples"]) == (trial["samples"], trial["test"]["samples"])


@pytest.fixture(scope="module")
def taken(place, way):
    """The printed line that takes a point, and what it says."""
    (trial, *_) = records(study(place))["trials"]
    line = f"{trial['take']} t=1 workers=1".replace("seeds=5", "seeds=2")
    return line, way(place, *pasted(line))


@pytest.mark.slow
def test_a_point_is_taken_with_other_seeds_and_stops_at_its_timestep(place, taken, here):
    _, said = taken
    other = records(study(place, "s-trial-0"))
    assert [t["params"]["seed"] for t in other["trials"]] == [1, 2]  # seed 0 chose it
    early = [t["anytime"][0] for t in other["trials"]]
    assert all(t["params"].keys() == {"seed"} and len(t["anytime"]) == 2 for t in other["trials"])
    accuracies, energies = [p["accuracy"] for p in early], [p["energy_joules"] for p in early]
    assert f"{mean(accuracies):.4f} ± {stdev(accuracies):.4f}" in said and "the sweep said" in said
    (kept,) = records(study(place))["taken"]
    assert kept["values"] == {"accuracy": accuracies, "energy": energies} and kept["t"] == 1
    checkpoint = re.search(r"checkpoint: (.*)", said)[1]
    evaluate = next(x for x in said.splitlines() if "evaluate.py" in x)
    here(evaluate, "hydra.run.dir=evaluated", "threads=1")
    result = json.loads((place / "evaluated" / "result.json").read_text())
    best = max((0, 1), key=lambda i: accuracies[i])
    assert checkpoint.endswith("s-trial-0/t1.ckpt") and len(result["anytime"]) == 1
    assert result["validation"]["accuracy"] == accuracies[best]
    assert result["validation"]["energy_joules"] == pytest.approx(energies[best], rel=1e-6)
    assert other["command"].endswith("action=take trial=0 seeds=2 t=1")
    assert records(study(place))["settings"]["neuron"] == "lif"
    assert not (place / "outputs/studies/s/wandb").exists()


@pytest.mark.slow  # the table: tracking/wandb/test_wandb.py
def test_the_same_line_trains_no_more_and_shows_in_weights_and_biases_what_was_taken(place, taken):
    line, _ = taken
    logged = place / "outputs/studies/s/wandb"
    said = run(place, *pasted(line), 'sweep=["logger=wandb","logger.mode=offline"]')
    assert len(load({"dir": str(place / "outputs/studies"), "study": "s-trial-0"})[0].trials) == 2
    accuracies = [t["anytime"][0]["accuracy"] for t in records(study(place, "s-trial-0"))["trials"]]
    assert f"{mean(accuracies):.4f} ± {stdev(accuracies):.4f}" in said
    assert list(logged.glob("offline-run-*/files/media/table/taken_*.table.json"))


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("seeds=abc", "seeds=abc: give a whole number from 1 to 1000"),
        ("seeds=1.5", "give a whole number"),
        ("seeds=0", "give a whole number"),
        ("trial=9", "trial=9 has no result; these have: {numbers}"),
        ("t=7", "t=7: the points of the trials are those of t = 1, 2"),
        ('sweep=["search.dir=x"]', "action=take decides itself"),
    ],
)
def test_what_cannot_be_taken_is_one_line_and_trains_nothing(place, script, monkeypatch, asked, says):
    monkeypatch.chdir(place)
    before = sorted(p.name for p in (place / "outputs/studies").iterdir())
    complete = [t["number"] for t in records(study(place))["trials"] if t["state"] == "complete"]
    assert len(complete) == 2
    says = says.format(numbers=", ".join(map(str, complete)))
    code, _, err = script("study", "study=s", "action=take", asked)
    assert code == 1 and says in err and err.count("\n") == 1
    assert sorted(p.name for p in (place / "outputs/studies").iterdir()) == before


@pytest.mark.slow
def test_a_known_point_is_taken_by_its_last_timestep_and_a_path_may_be_spelled_anyhow(place):
    (place / "known.csv").write_text("neuron.threshold,accuracy,energy\n0.2,0.9,1e-9\n")
    own = ["neuron.threshold=choice(0.1,0.2)", "search.n_trials=1", "search.workers=1", "search/sampler=random"]
    run(place, *SWEEP, *SHORT, *own, 'search.study="né 2"', "search.warm_start=known.csv", "search.default_first=false")
    best = run(place, sys.executable, str(ROOT / "src/study.py"), "study='né 2'", "action=best", "trial=0")
    take = best.splitlines()[1].replace("seeds=5", "seeds=1") + " workers=1"
    said = run(place, *pasted(take))
    assert "the sweep said" in said and "0.9000" in said and "seed 1" in said
    evaluate = next(x for x in said.splitlines() if "evaluate.py" in x)
    run(place, *pasted(evaluate), "hydra.run.dir=known")
    assert len(json.loads((place / "known" / "result.json").read_text())["anytime"]) == 2


def test_another_chip_costs_the_same_trials_as_if_they_had_been_trained_for_it(place, here, script):
    found = records(study(place))
    find = finder(study(place))
    same = recosted(found, "paper", compose(["energy=paper"]).energy, find)
    assert [(p["values"], p["test"], p["member"]) for p in same["points"]] == [
        (p["values"], p["test"], p["member"]) for p in found["points"]
    ]
    assert same["trials"][0]["twin_joules"] == found["trials"][0]["twin_joules"] > 0
    chip = recosted(found, "chip_8bit", compose(["energy=chip_8bit"]).energy, find)
    here(found["trials"][-1]["command"], "energy=chip_8bit", "hydra.run.dir=chip")
    result = json.loads((place / "chip" / "result.json").read_text())
    anew = chip["trials"][-1]
    assert [p["energy_joules"] for p in anew["anytime"]] == [
        p["energy_joules"] for p in result["validation"]["anytime"]
    ]
    assert anew["test"]["energy_joules"] == result["energy_joules"] and anew["convention"] == result["convention"]
    assert chip["convention"].startswith("chip_8bit") and found["trials"][-1]["convention"].startswith("paper")

    code, out, err = script("report", "study=s", "energy=[paper,chip_8bit]", "by=neuron.threshold")
    assert code == 0, err
    assert "s (paper): " in out and "s (chip_8bit): " in out and "points of the front stay (chip_8bit" in out
    assert out.count("hypervolume neuron.threshold=0.1: ") == 2 and out.count("(1 trial)") == 4  # each for itself
    code, out, err = script("report", "study=s", "by=neuron")  # which no trial searched
    assert code == 0 and "neuron=lif" in out and "(2 trials)" in out, err
    code, _, err = script("report", "study=s", "by=3")
    assert code == 1 and "by=3: no study has it" in err
    code, out, err = script("report", "study=s", "energy=chip_8bit", "energy.memory=0")
    assert code == 0 and "s (chip_8bit): " in out, err
    code, _, err = script("report", "study=s", "energy=chip8")
    assert code == 1 and "did you mean 'chip_8bit'" in err
    (place / "outputs/studies/s/trials/00000/counts.json").rename(place / "kept")
    code, out, err = script("report", "study=s", "energy=chip_8bit")
    assert code == 0 and "left out: 1 trials whose counts were not kept" in out
    (place / "outputs/studies/s/trials/00001/counts.json").write_text("{")
    code, _, err = script("report", "study=s", "energy=chip_8bit")
    assert code == 1 and "00001/counts.json can't be read" in err
    (place / "outputs/studies/s/trials/00001/counts.json").unlink()
    code, _, err = script("report", "study=s", "energy=chip_8bit")
    assert code == 1 and "the study 's' can't be costed anew" in err and err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "s3"])
def test_machines_without_a_common_disk_take_a_point_and_cost_trials_anew(tmp_path, monkeypatch, kind, request):
    if kind == "s3":
        request.getfixturevalue("pretend_s3")
    folder = f"file://{tmp_path}/there" if kind == "file" else "s3://bucket/sweep"
    place = [f"search.dir={folder}", f"search.storage=sqlite:///{tmp_path}/s.db", "search.study=s"]
    take = [sys.executable, str(ROOT / "src/study.py"), f"study={folder}/s", "action=take", "trial=0", "seeds=1"]

    def on(machine: str, *command: str) -> str:
        monkeypatch.setenv("SPIKEFRONT_CACHE", str(tmp_path / machine))
        return within(tmp_path, *command)

    on("a", *SWEEP, *SHORT, *place, "neuron.threshold=choice(0.1)", "search.n_trials=1", "search.workers=1")
    first, second = (on(machine, *take, "workers=1") for machine in ("b", "c"))  # trained on b alone
    checkpoints = [Path(re.search(r"checkpoint: (.*)", said)[1]) for said in (first, second)]
    assert [path.is_relative_to(tmp_path / m) for path, m in zip(checkpoints, "bc", strict=True)] == [True, True]
    contents = [read_checkpoint(path)["state_dict"] for path in checkpoints]
    assert all((contents[0][name] == contents[1][name]).all() for name in contents[0])
    assert len(records(open_study(f"{folder}/s-trial-0"))["trials"]) == 1

    monkeypatch.setenv("SPIKEFRONT_CACHE", str(tmp_path / "d"))
    whole = open_study(f"{folder}/s")
    found = records(whole)
    anew = recosted(found, "paper", compose(["energy=paper"]).energy, finder(whole))
    assert anew["points"][-1]["values"] == found["points"][-1]["values"]
    kept = [p.name for p in (tmp_path / "d").rglob("trials/00000/*") if p.is_file()]
    assert kept == ["counts.json"]  # no checkpoint was needed
    with pytest.raises(UserError, match="can't be costed anew"):
        recosted(found, "paper", compose(["energy=paper"]).energy, lambda number, name: None)
