"""What a sweep may spend, and what a configuration must keep to before anything is spent on it."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from spikefront.config import compose
from spikefront.errors import UserError
from spikefront.planning import predict_cost
from spikefront.sweeping.search.constraints import Constraints
from spikefront.sweeping.study import accounts
from spikefront.sweeping.study.attributes import INFEASIBLE, ORIGIN, SPENT
from spikefront.sweeping.study.records import records
from spikefront.sweeping.worker import feasibility
from spikefront.sweeping.worker.budgets import BEGAN, Limits, spent
from spikefront.sweeping.worker.power import PowerMeter


def test_constraints_on_predicted_cost_and_on_the_configuration():
    cfg = compose(["model=sdt_2_64"])
    entries = {"parameters": "<= 1e5", "energy": 1.0, "memory": None, "model.dim % model.num_heads": "== 0"}
    few, cheap, whole = Constraints(entries, predict_cost).check(cfg)
    count = int(str(few).rpartition(": ")[2])
    assert few.excess == pytest.approx(count / 1e5 - 1) and count > 1e5
    assert -1 < cheap.excess < 0 and whole.excess == 0
    assert Constraints({"model.dim": "in [32, 48]"}, predict_cost).check(cfg)[0].excess == 1
    assert (
        Constraints({"model.dim": "< 64"}, predict_cost).check(cfg)[0].excess
        > 0
        >= Constraints({"model.dim": "<= 64"}, predict_cost).check(cfg)[0].excess
    )


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"parameters": "30e6"}, "not a comparison"),
        ({"parameters": "<= many"}, "'many'"),
        ({"parametres": "<= 3"}, "did you mean 'parameters'"),
        ({"model.dim": "<= 'x'"}, "can't evaluate|'<' not supported|not supported"),
    ],
)
def test_constraints_that_cannot_be_read_are_said(entries, says):
    with pytest.raises(UserError, match=says):
        Constraints(entries, predict_cost).check(compose([]))


def test_what_breaks_a_constraint_is_told_and_never_trained(make_sweep, tmp_path):
    space = ("model.timesteps=choice(1,2)", "model.dim=choice(32,64,128)", "neuron.threshold=interval(0.5,2)")
    options = ("search.n_trials=6", "search.workers=2", "search.sampler.seed=0", "search.constraints.parameters=2e5")
    search = make_sweep(*options, space=space)
    search.run_here()
    trials = search.study().trials
    finished, refused = (
        accounts.account(search.study()).finished,
        [t for t in trials if INFEASIBLE.on(t)],
    )
    assert len(finished) == 6 and refused
    assert {t.params["model.dim"] for t in finished} == {32, 64} and {t.params["model.dim"] for t in refused} == {128}
    assert all(t.constraints["parameters <= 200000"] > 0 for t in refused)
    assert all(t.constraints["parameters <= 200000"] <= 0 for t in finished)
    trained = {int(p.name) for p in (tmp_path / "s" / "trials").iterdir()}
    assert trained == {t.number for t in finished}
    states = Counter(t["state"] for t in records(search.study())["trials"])
    assert states["infeasible"] == len(refused) and states["complete"] == 6
    assert "parameters <= 200000 does not hold" in INFEASIBLE.get(next(t for t in trials if t in refused))


@pytest.mark.slow
def test_a_sampler_that_only_proposes_what_cannot_be_is_helped(make_sweep):
    space = ("neuron.threshold=interval(0.5,2)", "optimizer.lr=interval(0.001,0.01)")
    bounds = "+search.constraints={neuron.threshold: '< 0.6', optimizer.lr: '< 0.003'}"
    search = make_sweep("search.n_trials=3", "search.workers=1", bounds, space=space)
    search.run_here()
    origins = [ORIGIN.get(t) or "" for t in accounts.account(search.study()).finished]
    assert len(origins) == 3 and any(o.startswith("drawn at random") for o in origins)


def test_constraints_that_nothing_meets_end_the_sweep_in_a_line(make_sweep, monkeypatch):
    monkeypatch.setattr(feasibility, "DRAWS", 50)
    search = make_sweep("search.n_trials=2", "search.workers=1", "+search.constraints={neuron.threshold: '> 3'}")
    with pytest.raises(UserError, match="none of 50 random points of the space meets them; the closest: "):
        search.run_here()
    assert not accounts.account(search.study()).finished


def test_gpu_hours_stop_the_asking_and_more_continue(make_sweep):
    def finished(hours):
        search = make_sweep("search.n_trials=8", "search.workers=1", f"search.max_gpu_hours={hours}")
        search.run_here()
        return len(accounts.account(search.study()).finished), search.study()

    first, study = finished(0.15 / 3600)
    assert 1 <= first < 8
    assert spent(study)["gpu_hours"] >= 0.15 / 3600
    assert all(SPENT.get(t)["seconds"] > 0.04 for t in accounts.account(study).finished)
    assert finished(1)[0] == 8


@pytest.mark.parametrize("limit", ["max_hours=0", "max_joules=x", "seeds=0"])
def test_limits_that_are_none_are_refused(make_sweep, limit):
    with pytest.raises(UserError, match=limit.partition("=")[0]):
        make_sweep("search.n_trials=1", f"search.{limit}").run()


def test_joules_are_this_processs_share_of_the_packages(tmp_path):
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    (tmp_path / "intel-rapl:0:0").mkdir()  # a part of the package, counted in it
    (package / "max_energy_range_uj").write_text("1000000000\n")
    (package / "energy_uj").write_text("999000000\n")
    meter = PowerMeter(tmp_path)
    assert meter.available
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    (package / "energy_uj").write_text("9000000\n")  # the counter went round: 10 J
    first = meter.joules()
    assert 0 < first <= 10
    assert meter.joules() == pytest.approx(first)
    assert not PowerMeter(tmp_path / "nothing").available


def test_a_budget_of_joules_needs_a_counter(make_sweep, monkeypatch):
    monkeypatch.setattr(PowerMeter, "__init__", lambda self: setattr(self, "available", False))
    with pytest.raises(UserError, match="max_joules can't be kept"):
        make_sweep("search.n_trials=1", "search.max_joules=5").run_here()


def test_hours_count_from_the_command_wherever_a_worker_runs(monkeypatch):
    monkeypatch.delenv(BEGAN, raising=False)
    hour = {"max_hours": 1}
    assert Limits(hour, began=time.time() - 3700).out_of_time()
    assert not Limits(hour, began=time.time() - 3500).out_of_time()
    assert not Limits(hour, began=time.time() + 9999).out_of_time()  # another machine's clock is ahead
    monkeypatch.setenv(BEGAN, str(time.monotonic() - 100))  # on the command's own machine no clock's jump matters
    assert not Limits(hour, began=time.time() - 3700).out_of_time()
