"""What is known already: other studies, CSV files, W&B."""

from __future__ import annotations

import csv
from types import SimpleNamespace

import pytest
import wandb
from optuna.trial import TrialState
from pretended import Sweep

from spikefront.commands.study import inspect
from spikefront.errors import UserError
from spikefront.sweeping.study import accounts
from spikefront.sweeping.study.attributes import KNOWN, ORIGIN
from spikefront.sweeping.study.records import records


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    search = Sweep(tmp_path_factory.mktemp("earlier"), "search/sampler=random", "search.n_trials=5", "search.workers=1")
    search.run_here()
    return search


def place(search):
    return f"{search.cfg().search.dir}/s"


def test_another_study_of_the_same_configuration_is_known(make_sweep, earlier):
    search = make_sweep("search.n_trials=2", "search.workers=1", f"search.warm_start='{place(earlier)}'")
    search.run_here()
    search.run_here()  # takes each source once
    trials = search.study().trials
    known = [t for t in trials if KNOWN.on(t)]
    assert len(accounts.account(search.study()).finished) == 2 and len(known) == 5 and len(trials) == 7
    assert ORIGIN.get(trials[0]) == "default configuration" and not KNOWN.on(trials[0])
    before = earlier.study().trials
    assert [(t.params, t.values) for t in known] == [(t.params, t.values) for t in before]
    front = records(search.study())["front"]
    assert any(p["t"] == 1 for p in front)  # their anytime points came along


def test_another_configurations_front_is_trained_first(make_sweep, earlier):
    numbers = {p["number"] for p in records(earlier.study())["front"]}
    options = ("search.n_trials=7", "search.workers=1", "trainer.max_epochs=3")
    search = make_sweep(*options, f"search.warm_start=['{place(earlier)}']")
    search.run_here()
    trials = search.study().trials
    wanted = [earlier.study().trials[n].params for n in sorted(numbers - {0})]  # trial 0 is the same default
    assert [t.params for t in trials[1 : 1 + len(wanted)]] == wanted
    assert not any(KNOWN.on(t) for t in trials)


def test_a_table_that_an_export_wrote_is_known(make_sweep, earlier, tmp_path):
    path = tmp_path / "points.csv"
    base = {"study": "s", "dir": earlier.cfg().search.dir, "storage": None, "output": str(path)}
    inspect({**base, "action": "export", "trial": None, "seeds": 1})
    with path.open("a") as file:
        columns = next(csv.reader(path.open()))
        row = {"model.timesteps": "2", "neuron.threshold": "0.75"}
        file.write(",".join(row.get(c, "") for c in columns) + "\n")
    search = make_sweep("search.n_trials=2", "search.workers=1", f"search.warm_start='{path}'")
    search.run_here()
    trials = search.study().trials
    assert sum(KNOWN.on(t) for t in trials) == 5
    queued = next(t for t in trials if t.params["neuron.threshold"] == 0.75)
    assert queued.state == TrialState.COMPLETE and ORIGIN.get(queued) == "line 7 of points.csv"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a,b\n1,2\n", "no column is a parameter of this search; name them model.timesteps"),
        ("model.timesteps,neuron.threshold\n3,1\n", "line 2: model.timesteps=3 is not in choice"),
        ("model.timesteps,neuron.threshold\n2,many\n", "line 2: neuron.threshold=many"),
        ("model.timesteps,neuron.threshold,accuracy,energy\n2,1,high,low\n", "line 2: could not convert"),
        (None, "No such file"),
    ],
)
def test_tables_that_cannot_be_read_are_said(make_sweep, tmp_path, content, says):
    path = tmp_path / "points.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=says):
        make_sweep("search.n_trials=1", f"search.warm_start='{path}'").run_here()


def test_weights_and_biases_runs_are_known(make_sweep, monkeypatch):
    """The client's answers are stood in for: an account is needed for its own."""
    asked = {}

    def run(name, timesteps, threshold, target="spikefront.nn.PLIF", **summary):
        config = {"model": {"timesteps": timesteps}, "neuron": {"_target_": target, "threshold": threshold}}
        return SimpleNamespace(name=name, config=config, summary=summary)

    runs = [
        run("a", 2, 0.8, **{"val/accuracy": 0.7, "val/energy_joules": 3e-7}),
        run("b", 4, 0.9, target="spikefront.nn.LIF"),
        run("c", 16, 0.9, **{"val/accuracy": 0.9, "val/energy_joules": 9e-7}),  # not in the space
    ]
    api = SimpleNamespace(runs=lambda path, filters: asked.update(path=path, **filters) or runs)
    monkeypatch.setattr(wandb, "Api", lambda **_: api)
    space = ("model.timesteps=choice(1,2,4)", "neuron.threshold=interval(0.5,2)", "neuron=lif,plif")
    options = ("search.n_trials=2", "search.workers=1", "search.warm_start=wandb://team/project/s")
    search = make_sweep(*options, space=space)
    search.run_here()
    assert asked == {"path": "team/project", "state": "finished", "group": "s"}
    known, queued = search.study().trials[1:3]
    assert known.params == {"model.timesteps": 2, "neuron.threshold": 0.8, "neuron": "plif"}
    assert known.values == [0.7, 3e-7] and KNOWN.get(known) == "W&B run a of team/project"
    assert queued.params == {"model.timesteps": 4, "neuron.threshold": 0.9, "neuron": "lif"}
    assert len(search.study().trials) == 3
    with pytest.raises(UserError, match="wandb://entity/project"):
        make_sweep("search.n_trials=1", "search.warm_start=wandb://team", space=space).run_here()
