"""Networks in which nothing fires, told from those that are only quiet."""

from __future__ import annotations

import io

import made

from spikefront.analysis.silence import silent, unfed
from spikefront.commands.study import rows_of
from spikefront.console import console
from spikefront.tracking.pages.front_table import front_table


def layers(*rates):
    return [{"name": f"l{i}", "group": "mlp", "joules": 1e-9, "firing_rate": r} for i, r in enumerate(rates)]


def trial(rate, *rates):
    outcome = {"metrics": {"accuracy": 0.1, "energy": 1e-9}, "firing_rate": rate, "energy_layers": layers(*rates)}
    (found,) = made.records_of("s", [{"state": "complete", "outcome": outcome}])["trials"]
    return found


def test_silent_is_no_spike_at_all():
    assert silent(trial(0.0, None, 0.0, 0.0)) and silent(trial(0.0))
    assert not silent(trial(1e-6, None, 1e-6, 0.0)) and unfed(trial(1e-6, None, 1e-6, 0.0)) == ["l2"]
    assert not silent(trial(0.0, None, None)) and unfed(trial(0.0, None, None)) == []  # no layer reads spikes
    assert not silent(trial(None)) and unfed(trial(0.0, None, 0.0)) == []


def test_a_silent_member_of_the_front_is_marked_where_it_is_listed():
    study = made.records_of("s", [{"state": "complete", "outcome": o} for o in outcomes()])
    out = console(file=io.StringIO(), width=160)
    out.print(front_table(study))
    assert "x 0" in out.file.getvalue() and "x silent: no neuron fires" in out.file.getvalue()
    assert [r["silent"] for r in rows_of(study)] == [True, False]


def outcomes():
    metrics = ({"accuracy": 0.1, "energy": 1e-9}, {"accuracy": 0.9, "energy": 1e-7})
    return [{"metrics": m, "firing_rate": rate} for m, rate in zip(metrics, (0.0, 0.2), strict=True)]
