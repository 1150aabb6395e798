"""Constraints on what is measured: trained all the same, told to the sampler and the pruner, kept off the front."""

from __future__ import annotations

import pytest
from examples import few

from spikefront.config import compose, override
from spikefront.errors import UserError
from spikefront.sweeping.search.constraints import Constraints, Measured
from spikefront.sweeping.search.pruning import FrontPruner, Seen
from spikefront.sweeping.study import accounts
from spikefront.sweeping.study.records import records
from spikefront.sweeping.worker.proposal import sampler

FLOOR = "+search.constraints={accuracy: '>= 0.6', measured.energy: '<= 3e-6'}"


def test_bounds_on_what_is_measured_are_told_from_those_on_what_is_predicted():
    entries = {"parameters": 1e6, "accuracy": ">= 0.9", "measured.energy": 2e-6, "latency": None}
    assert Constraints(entries, None).texts == ["parameters <= 1e+06"]
    bounds = Measured(entries)
    kept, beyond = bounds.verdicts({"accuracy": 0.95, "energy": 3e-6})
    assert kept.excess < 0 and beyond.excess == pytest.approx(0.5)
    assert bounds.broken({"accuracy": 0.8, "energy": 1e-6}) == ["accuracy >= 0.9 does not hold: 0.8"]
    assert bounds.broken({"accuracy": 0.95}) == ["measured.energy <= 2e-06 does not hold: not measured"]
    assert Measured({"latency": 1.0}).broken_by(0.1, 1.0) == [] != Measured({"accuracy": ">= 0.9"}).broken_by(0.1, 1.0)


def test_what_is_measured_is_not_compared_with_what_is_not():
    with pytest.raises(UserError, match=r"compares what is measured with model\.dim"):
        Measured({"latency / model.dim": "< 3"})
    with pytest.raises(UserError, match="did you mean 'latency'"):
        Constraints({"latencies": 3}, None).check(compose([]))


@pytest.mark.parametrize("name", few(["tpe", "gp", "nsga2"]))
def test_what_breaks_one_is_trained_and_on_no_front(make_sweep, name):
    search = make_sweep("search.n_trials=8", "search.workers=1", f"search/sampler={name}", FLOOR)
    search.run_here()
    found = records(search.study())
    assert len(accounts.account(search.study()).finished) == 8
    broken = [t for t in found["trials"] if t["breaks"]]
    assert broken and any(not t["breaks"] for t in found["trials"]) and all(t["values"] for t in found["trials"])
    for point in found["points"]:
        assert point["feasible"] == (point["values"]["accuracy"] >= 0.6 and point["values"]["energy"] <= 3e-6)
        assert point["feasible"] or not (point["member"] or point["near"])
    assert found["front"] and all(p["feasible"] for p in found["front"])
    loosened = search.changed("search.constraints.accuracy='>= 0.1'", "search.n_trials=9")
    loosened.run_here()
    before, now = ([p["feasible"] for p in points] for points in (found["points"], records(loosened.study())["points"]))
    assert sum(now[: len(before)]) > sum(before)  # what was trained before is judged anew


def test_no_feasible_network_is_an_empty_front_and_no_failure(make_sweep):
    search = make_sweep("search.n_trials=3", "search.workers=1", "+search.constraints={accuracy: '> 1'}")
    search.run_here()
    found = records(search.study())
    assert found["front"] == [] and found["hypervolume"] == 0 and all(t["breaks"] for t in found["trials"])


@pytest.mark.parametrize("name", few(["tpe", "gp"]))
def test_a_sampler_sees_all_constraints_of_what_a_warm_start_brought(make_sweep, tmp_path, name):
    known = tmp_path / "known.csv"
    known.write_text("model.timesteps,neuron.threshold,accuracy,energy\n1,1.0,0.6,1e-6\n2,1.0,0.9,2e-6\n")
    bounds = "+search.constraints={accuracy: '>= 0.8', neuron.threshold: '<= 1.9'}"
    search = make_sweep(
        "search.n_trials=3",
        "search.workers=1",
        f"search/sampler={name}",
        bounds,
        override("search.warm_start", str(known)),
    )
    search.run_here()
    study = search.study()
    shown = sampler(
        search.cfg().search, {"accuracy": "maximize", "energy": "minimize"}, accounts.space_of(study)
    ).sampler
    shown._look(study)
    seen = {t.values[0]: t.constraints for t in shown._view(study).get_trials() if t.values}
    assert len(seen) == 5 and all(set(c) == {"accuracy >= 0.8", "neuron.threshold <= 1.9"} for c in seen.values())
    assert seen[0.6]["accuracy >= 0.8"] > 0 > seen[0.9]["accuracy >= 0.8"]
    assert not any(p["values"]["accuracy"] == 0.6 for p in records(study)["front"])


def test_a_pruner_stops_what_cannot_reach_the_floor_and_is_beaten_only_by_what_keeps_it():
    def curve(accuracy, energy):
        return {1: {"accuracy": accuracy, "energy_joules": energy, "anytime": [(accuracy, energy)]}}

    ended = [Seen({"a": i / 8}, curve(0.5 + i / 50, 1e-6), [(0.7 + i / 50, 1e-6)]) for i in range(8)]
    floor, pruner = Measured({"accuracy": ">= 0.9"}), FrontPruner()
    cheap = ({"a": 0.5}, curve(0.5, 1e-7), ended)
    assert pruner.judge(*cheap) is None
    assert "breaks search.constraints: accuracy >= 0.9" in pruner.judge(*cheap, floor.broken_by).reason
    dear = ({"a": 0.5}, curve(0.52, 9e-7), [*ended, Seen({"a": 0.5}, curve(0.9, 1e-7), [(0.99, 1e-7)])])
    assert pruner.judge(*dear) is not None
    slow = Seen({"a": 0.5}, curve(0.9, 1e-7), [(0.99, 1e-7)], infeasible=[0])  # by its latency
    assert pruner.judge(*dear[:2], [*ended, slow]) is None
