"""Runs of one search, put together."""

from __future__ import annotations

import made

from spikefront.analysis.attainment import attainment, searches
from spikefront.analysis.compare import sides
from spikefront.tracking.pages.comparison import told_volumes


def run(name, *points, **options):
    trials = [{"state": "complete", "outcome": {"metrics": {"accuracy": a, "energy": e}}} for e, a in points]
    return made.records_of(name, trials, **options)


def test_what_one_half_and_all_runs_attain():
    runs = [run("a", (1, 0.5), (3, 0.9)), run("b", (2, 0.6), (3, 0.8)), run("c", (2, 0.7))]
    (found,) = attainment(runs)
    assert found["runs"] == [0, 1, 2]
    assert found["best"] == [(1, 0.5), (2, 0.7), (3, 0.9)]
    assert found["median"] == [(2, 0.6), (3, 0.8)]
    assert found["worst"] == [(2, 0.5), (3, 0.7)]  # c has no more
    (two,) = attainment(runs[:2])
    assert two["median"] == []  # of two it would be the best
    *own, together = told_volumes(runs)
    # up to 3: a (3 - 1) * 0.5, b (3 - 2) * 0.6, c (3 - 2) * 0.7, what costs 3 adds nothing
    assert [line.split(",")[0] for line in own] == ["a: hypervolume 1", "b: hypervolume 0.6", "c: hypervolume 0.7"]
    assert together.startswith("3 runs of one search (a, b, c): hypervolume 0.7667 ± 0.21, with energy in decades ")


def test_other_searches_and_the_same_study_again_are_no_further_runs():
    one, two = run("a", (1, 0.5)), run("b", (2, 0.6))
    assert searches([one, two]) == [[0, 1]]
    assert searches([one, one]) == [] == searches([one, run("none")])
    assert searches([one, run("b", (2, 0.6), data="mnist")]) == []
    assert searches([one, run("b", (2, 0.6), space={**made.SPACE, "neuron": "lif,plif"})]) == []
    assert searches([one, {**two, "settings": {**two["settings"], "trainer.max_epochs": 3}}]) == []
    assert searches([one, {**two, "settings": {**two["settings"], "seed": 3}}]) == [[0, 1]]
    assert searches([one, {**two, "convention": "another"}]) == []
    study = made.study("s", 20, importance=False)
    assert searches([r for s in sides([study], "neuron") for r in s["records"]]) == []
