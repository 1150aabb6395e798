"""What is known already: other studies, CSV files, W&B."""

from __future__ import annotations

import csv
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import optuna
import pytest
import wandb
from optuna.trial import TrialState
from pretended import Sweep

from spikefront.commands.cli import plain
from spikefront.commands.study import inspect
from spikefront.config import compose
from spikefront.errors import UserError
from spikefront.sweeping.search.space import Space
from spikefront.sweeping.study import accounts, warm
from spikefront.sweeping.study.attributes import KNOWN, ORIGIN, asked_for
from spikefront.sweeping.study.records import records
from spikefront.sweeping.study.study import record
from spikefront.tracking.wandb.filters import told_apart


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
    search.changed(f"search.warm_start='{place(earlier)}/study.db'").run_here()  # and each study, by whichever address
    trials = search.study().trials
    known = [t for t in trials if KNOWN.on(t)]
    assert len(accounts.account(search.study()).finished) == 2 and len(known) == 5 and len(trials) == 7
    assert ORIGIN.get(trials[0]) == "default configuration" and not KNOWN.on(trials[0])
    before = earlier.study().trials
    assert [(t.params, t.values) for t in known] == [(t.params, t.values) for t in before]
    front = records(search.study())["front"]
    assert any(p["t"] == 1 for p in front)  # their anytime points came along


def test_a_space_of_which_all_is_known_is_done_with(make_sweep, tmp_path, capsys):
    path = tmp_path / "points.csv"
    path.write_text("model.timesteps,accuracy,energy\n1,0.5,1e-6\n2,0.6,2e-6\n4,0.7,4e-6\n")
    options = ("search.n_trials=5", "search.workers=1", f"search.warm_start='{path}'")
    search = make_sweep(*options, space=("model.timesteps=choice(1,2,4)",), train=None)
    for _ in range(2):
        search.run_here()
        said = "all 3 points of the search space are done with: 0 trained, 3 known before"
        assert said in capsys.readouterr().out
    assert accounts.account(search.study()).infeasible == 0


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
    inspect({**base, "action": "export", "trial": None})
    with path.open("a") as file:
        columns = next(csv.reader(path.open()))
        row = {"model.timesteps": "2", "neuron.threshold": "0.75"}
        file.write(",".join(row.get(c, "") for c in columns) + "\n")
    last = len(path.read_text().splitlines())  # early points stand in it too, which are no trials
    search = make_sweep("search.n_trials=2", "search.workers=1", f"search.warm_start='{path}'")
    search.run_here()
    trials = search.study().trials
    assert sum(KNOWN.on(t) for t in trials) == 5
    queued = next(t for t in trials if t.params["neuron.threshold"] == 0.75)
    assert queued.state == TrialState.COMPLETE and ORIGIN.get(queued) == f"line {last} of points.csv"


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


@pytest.fixture
def on_wandb(monkeypatch):
    """``on_wandb(run, …)`` stands in for the client's answer: an account is needed for its own; what it was asked."""

    def serve(*runs):
        asked = {}
        api = SimpleNamespace(runs=lambda path, filters: asked.update(path=path, **filters) or list(runs))
        monkeypatch.setattr(wandb, "Api", lambda **_: api)
        return asked

    return serve


def logged(name, *overrides, trial=None, **summary):
    """A run as ours are logged."""
    config = json.loads(json.dumps(told_apart(plain(compose(["logger=none", *overrides])))))
    if trial is not None:
        config["trial"] = {"params": trial}
    return SimpleNamespace(name=name, config=config, summary=summary)


def test_weights_and_biases_runs_are_known_where_they_are_what_this_study_trains(make_sweep, on_wandb):
    good = {"accuracy": 0.7, "energy": 3e-7}
    asked = on_wandb(
        logged("a", "model.timesteps=2", "neuron=plif", "neuron.threshold=0.8", **good),
        logged(
            "trial", "model.timesteps=2", trial={"model.timesteps": 2, "neuron.threshold": 1.0, "neuron": "lif"}, **good
        ),
        logged("elsewhere", "data=cifar10", "model.timesteps=4", "neuron.threshold=0.9", **good),
        logged("longer", "trainer.max_epochs=3", "model.timesteps=4", "neuron.threshold=0.8", **good),
        logged("pruned", "model.timesteps=4", "neuron.threshold=0.7", pruned=True, **good),
        logged("unfinished", "model.timesteps=4", "neuron.threshold=0.6"),
        logged("outside", "model.timesteps=16", **good),
    )
    space = ("model.timesteps=choice(1,2,4)", "neuron.threshold=interval(0.5,2)", "neuron=lif,plif")
    options = ("search.n_trials=1", "search.workers=1", "search.warm_start=wandb://team/project/s")
    search = make_sweep(*options, space=space)
    search.run_here()
    assert asked == {"path": "team/project", "state": "finished", "group": "s"}
    trials = search.study().trials
    known = [t for t in trials if KNOWN.on(t)]
    assert [t.params for t in known] == [
        {"model.timesteps": 2, "neuron.threshold": 0.8, "neuron": "plif"},
        {"model.timesteps": 2, "neuron.threshold": 1.0, "neuron": "lif"},
    ]
    assert [t.values for t in known] == [[0.7, 3e-7]] * 2 and KNOWN.get(known[0]) == "W&B run a of team/project"
    tried = [t for t in trials[1:] if not KNOWN.on(t)]
    assert [asked_for(t)["neuron.threshold"] for t in tried] == [0.9, 0.8, 0.7, 0.6]
    with pytest.raises(UserError, match="wandb://entity/project"):
        make_sweep("search.n_trials=1", "search.warm_start=wandb://team", space=space).run_here()


def test_one_run_is_not_a_mean_over_seeds(make_sweep, on_wandb):
    on_wandb(logged("a", "model.timesteps=2", "neuron.threshold=0.8", accuracy=0.7, energy=3e-7))
    search = make_sweep("search.n_trials=1", "search.workers=1", "search.seeds=2", "search.warm_start=wandb://t/p")
    search.run_here()
    assert not any(KNOWN.on(t) for t in search.study().trials)
    assert any(asked_for(t) == {"model.timesteps": 2, "neuron.threshold": 0.8} for t in search.study().trials[1:])


def table(path, points):
    lines = [f"2,{0.5 + i / 1000},0.{i},1e-7" for i in range(1, points + 1)]
    lines += [f"4,{0.5 + i / 1000},," for i in range(1, points + 1)]  # to be trained
    path.write_text("\n".join(["model.timesteps,neuron.threshold,accuracy,energy", *lines]) + "\n")
    return path


def test_a_warm_start_that_was_killed_goes_on_where_it_was(make_sweep, tmp_path, monkeypatch):
    path = table(tmp_path / "points.csv", 4)
    search = make_sweep("search.n_trials=1", "search.workers=1", f"search.warm_start='{path}'")
    for method, left in (("add_trial", 2), ("enqueue_trial", 3)):  # in its midst, twice
        whole, calls = getattr(optuna.Study, method), []

        def dying(self, *given, whole=whole, calls=calls, left=left, **more):
            calls.append(given)
            if len(calls) > left:
                raise KeyboardInterrupt
            whole(self, *given, **more)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(optuna.Study, method, dying)
            search.run_here()
    search.run_here()
    trials = search.study().trials
    assert sorted(t.values[0] for t in trials if KNOWN.on(t)) == [0.1, 0.2, 0.3, 0.4]
    assert sorted(asked_for(t)["neuron.threshold"] for t in trials[1:] if not KNOWN.on(t)) == [
        0.501,
        0.502,
        0.503,
        0.504,
    ]


def test_two_commands_that_start_at_once_bring_each_point_once(make_sweep, tmp_path, monkeypatch):
    path = table(tmp_path / "points.csv", 5)
    search = make_sweep("search.n_trials=1", "search.workers=1")
    search.run_here()
    studies, space = [search.study(), search.study()], Space.parse(record(search.study())["space"])
    both = threading.Barrier(2)
    read = warm._points
    monkeypatch.setattr(warm, "_points", lambda *given: (both.wait(30), read(*given))[1])
    with ThreadPoolExecutor() as pool:
        said = list(pool.map(lambda study: warm.start(study, [str(path)], space, None, None, ""), studies))
    trials = search.study().trials
    assert sum(KNOWN.on(t) for t in trials) == 5 and len(trials) == 1 + 10
    assert sorted(said) == ["", "warm start: 5 known points, 5 to be trained first"]


def test_many_points_read_the_study_a_few_times(make_sweep, tmp_path, monkeypatch):
    search = make_sweep("search.n_trials=1", "search.workers=1")
    search.run_here()
    study, space = search.study(), Space.parse(record(search.study())["space"])
    looks, look = [], optuna.Study.get_trials
    monkeypatch.setattr(optuna.Study, "get_trials", lambda *a, **k: (looks.append(1), look(*a, **k))[1])
    warm.start(study, [str(table(tmp_path / "points.csv", 30))], space, None, None, "")
    assert len(look(study)) == 61 and len(looks) < 5
