"""What study.py says about a study, and takes from it."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
from collections import Counter

import pytest
from examples import few
from optuna.trial import TrialState

from spikefront.commands.study import inspect
from spikefront.config import compose
from spikefront.errors import UserError
from spikefront.sweeping.study import attributes, presence
from spikefront.sweeping.study.records import records


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    from pretended import Sweep

    search = Sweep(tmp_path_factory.mktemp("s"), "search.n_trials=4", "search.workers=1", "search/sampler=random")
    search.run_here()
    study = search.study()
    study.tell(study.ask(), state=TrialState.FAIL)
    return search


def run(search, **options):
    base = {"study": "s", "dir": search.cfg().search.dir, "storage": None, "output": None, "trial": None, "t": None}
    inspect({**base, **options})


def test_status_counts_and_weighs(search, capsys):
    run(search, action="status")
    said = capsys.readouterr().out
    found = records(search.study())
    assert Counter(t["state"] for t in found["trials"]) == {"complete": 4, "failed": 1}
    assert "4 of 4 trials finished\n4 complete, 1 failed\n  trial 4 failed: " in said
    for point in found["front"]:  # each is a row of the table
        assert re.search(rf"^ *{point['number']} +{point['t']} .* {point['values']['accuracy']:.4f} ", said, re.M)
    front = [(p["values"]["accuracy"], p["values"]["energy"]) for p in found["front"]]
    assert f"hypervolume {area(front, found['reference']):.4g}, with energy in decades {found['decades']:.4g} " in said
    assert "(what dominates accuracy 0.0000, energy " in said
    assert "depends on" not in said  # of four trials nobody can say


def area(front, reference):
    """What a front of accuracies and energies covers, by strips between its members' accuracies."""
    covered, below = 0.0, reference["accuracy"]
    for accuracy, energy in sorted(front):
        covered += (accuracy - below) * (reference["energy"] - energy)
        below = accuracy
    return covered


@pytest.mark.slow  # the shares: analysis/test_importance.py
def test_status_weighs_parameters_once_there_are_trials_enough(tmp_path, capsys):
    """Of the stand-in's trials energy is set by the timesteps more than by the threshold."""
    from pretended import Sweep, pretend

    def train(cfg, callbacks=()):
        return pretend(cfg, callbacks, seconds=0, steps=1)

    search = Sweep(tmp_path, "search.n_trials=24", "search/sampler=random", "search.sampler.seed=0", train=train)
    search.run_here()
    run(search, action="status")
    told = re.search(r"what energy depends on: (\S+) (\d+)% ± \d+%, (\S+) (\d+)%", capsys.readouterr().out)
    assert (told[1], told[3]) == ("model.timesteps", "neuron.threshold") and int(told[2]) > int(told[4])


def test_a_stopped_sweep_says_from_where_each_trial_goes_on_and_how(tmp_path, capsys):
    from pretended import Sweep

    search = Sweep(tmp_path, "search.n_trials=3", "search.workers=1", "search/sampler=random", "trainer.max_epochs=8")
    search.changed("search.n_trials=1").run_here()
    study = search.study()
    attributes.BUDGET.set(study, 3)
    for lived in (0, 60):  # one worker that is here, one whose process number another has by now
        trial = study.ask()
        trial.suggest_float("neuron.threshold", 0.5, 2)
        attributes.set_point(trial, 2, {"accuracy": 0.5, "energy_joules": 1e-7, "firing_rate": 0.1})
        me = presence.identity(os.getpid())
        own = {**me, "id": "x", "beat": 1, "since_boot": me["since_boot"] - lived}
        attributes.set_lease(study._storage, trial._trial_id, own)
    run(search, action="status")
    said = capsys.readouterr().out
    assert "1 of 3 trials finished" in said and "it goes on with" not in said
    assert re.search(r"trial 1 runs since .*, epoch 2 of 8, about \d+ s left", said)
    assert "trial 2 waits and goes on from epoch 2 of 8: neuron.threshold=" in said
    found = records(study)
    assert [t["state"] for t in found["trials"]] == ["complete", "running", "waiting"]
    study.tell(1, state=TrialState.FAIL)
    run(search, action="status")
    assert f"it goes on with: {found['command']}" in capsys.readouterr().out
    assert found["command"].startswith("python src/sweep.py -m ") and "search.study=s" in found["command"]


def test_export_has_every_trial(search, tmp_path):
    run(search, action="export", output=tmp_path / "x.json")
    run(search, action="export", output=tmp_path / "x.csv")
    trials = json.loads((tmp_path / "x.json").read_text())["trials"]
    rows = list(csv.DictReader((tmp_path / "x.csv").open()))
    assert len(trials) == 5 and {int(r["number"]) for r in rows} == set(range(5))
    own = [r for r in rows if r["final"] == "True"]  # a row is a point, of a trial of T timesteps T
    assert [float(r["accuracy"]) for r in own] == [t["values"]["accuracy"] for t in trials if t["values"]]
    assert len(rows) == 1 + sum(len(t["anytime"]) for t in trials)
    with pytest.raises(UserError, match="csv"):
        run(search, action="export", output=tmp_path / "x.xml")


def test_best_prints_commands_that_retrain(search, capsys):
    run(search, action="best", trial=0, t=1)
    said = capsys.readouterr()
    again, take = said.out.splitlines()
    assert said.err.startswith("trial 0, t = 1 (stopped early), ") and "accuracy 0." in said.err
    params = records(search.study())["trials"][0]["params"]
    retrained = compose(shlex.split(again)[2:])
    assert (retrained.model.timesteps, retrained.neuron.threshold) == tuple(params.values())
    assert again.startswith("python src/train.py")
    assert take.startswith("python src/study.py study=") and take.endswith(" action=take trial=0 seeds=5 t=1")
    run(search, action="best")
    assert "on the front: accuracy" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"trial=99 has no result; these have: 0, 1, 2, 3"):
        run(search, action="best", trial=99)
    for trial in records(search.study())["trials"]:
        steps = ", ".join(str(point["t"]) for point in trial["anytime"])
        if steps:
            told = f"t=9: the points of trial {trial['number']} are those of t = {steps}$"
            with pytest.raises(UserError, match=told):
                run(search, action="best", trial=trial["number"], t=9)


def test_a_key_that_is_added_is_searched_shown_and_retrained(tmp_path, capsys):
    from pretended import Sweep, pretend

    seen = []
    spaces = ("+optimizer.eps=choice(1e-8,1e-6)", "++model.timesteps=choice(2,4)")
    options = ("search/sampler=grid", "search.n_trials=null", "search.workers=1")

    def train(cfg, callbacks):
        seen.append(cfg.copy())
        return pretend(cfg, callbacks)

    search = Sweep(tmp_path, *options, space=spaces, train=train)
    search.run_here()
    assert {(cfg.optimizer.eps, cfg.model.timesteps) for cfg in seen} == {(e, t) for e in (1e-8, 1e-6) for t in (2, 4)}
    search.run_here()  # the same command continues
    assert "optimizer.eps=choice" in capsys.readouterr().out
    run(search, action="status")
    run(search, action="best")
    command = shlex.split(next(x for x in capsys.readouterr().out.splitlines() if "train.py" in x))
    cfg = compose(command[2:])
    assert "+optimizer.eps" in " ".join(command) and cfg.optimizer.eps in (1e-8, 1e-6)
    with pytest.raises(UserError, match=r"lr.*without the \+"):
        Sweep(tmp_path, space=("+optimizer.lr=choice(1,2)",)).run_here()
    with pytest.raises(UserError, match=r"'\+optimizer\.epsilon=…'"):
        Sweep(tmp_path, space=("optimizer.epsilon=choice(1,2)",)).run_here()


def test_unknown_studies_and_actions_are_said(search):
    with pytest.raises(UserError, match="no study 'nope'"):
        run(search, action="status", study="nope")
    with pytest.raises(UserError, match="did you mean 'status'"):
        run(search, action="statos")


SEARCHES = {
    "all": ("search/sampler=grid", "search.n_trials=null"),
    "grid": ("search/sampler=grid", "search.n_trials=2"),
    "random": ("search/sampler=random", "search.sampler.seed=0", "search.n_trials=2"),
}


@pytest.mark.parametrize("searching", few(SEARCHES))
def test_retry_queues_each_failed_trial_once_and_the_next_command_trains_it(tmp_path, searching):
    """Where nothing else is left to train: all that was asked for is finished, and nothing else is trained then."""
    from pretended import Sweep, pretend

    seen, broken = [], [True]

    def train(cfg, callbacks=()):
        seen.append((cfg.model.timesteps, cfg.neuron.threshold))
        if broken[0] and cfg.model.timesteps == 4:  # the default: trial 0
            raise RuntimeError("no such luck")
        return pretend(cfg, callbacks)

    space = ("model.timesteps=choice(1,2,4)", "neuron.threshold=choice(1)")
    search = Sweep(tmp_path, *SEARCHES[searching], "search.workers=1", space=space, train=train)
    search.run_here()
    assert sorted(seen) == [(1, 1), (2, 1), (4, 1)]
    broken[0] = False
    for _ in range(2):
        run(search, action="retry")
    waiting = search.study().get_trials(states=(TrialState.WAITING,))
    assert [t.system_attrs["fixed_params"]["model.timesteps"] for t in waiting] == [4]
    for _ in range(2):
        search.run_here()
        assert sorted(seen) == [(1, 1), (2, 1), (4, 1), (4, 1)]
    assert len(search.study().get_trials(states=(TrialState.COMPLETE,))) == 3
