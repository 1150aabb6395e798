"""Trials held against each other by a parameter: who is ahead where."""

from __future__ import annotations

from itertools import pairwise

import made
import pytest

from spikefront.analysis.compare import (
    best_within,
    cheapest_above,
    differences,
    joint_front,
    levels,
    sides,
    stretches,
)
from spikefront.tracking.pages.comparison import comparison, told_differences


@pytest.fixture(scope="module")
def study():
    return made.study("s", 40, importance=False)


def test_each_value_has_its_own_front_and_all_points_are_some_ones(study):
    every = sides([study], "neuron")
    assert [s["value"] for s in every] == ["if", "lif", "plif"] and [
        s["value"] for s in sides([study], "model.dim")
    ] == [
        *("32", "48", "64", "96"),
    ]
    assert sum(len(s["points"]) for s in every) == len(study["points"]) and sum(s["trials"] for s in every) == 40
    for side in every:
        (part,) = side["records"]
        assert {p["params"]["neuron"] for p in part["points"]} == {side["value"]}
        for point in part["front"]:  # no other of the side dominates it
            own = point["values"]
            assert not any(
                p["values"]["accuracy"] >= own["accuracy"] and p["values"]["energy"] < own["energy"]
                for p in part["points"]
            )
    assert study["trials"][0]["on_front"] == made.study("s", 40, importance=False)["trials"][0]["on_front"]  # untouched


def test_tables_say_the_best_within_an_energy_and_the_least_energy_for_an_accuracy(study):
    every = sides([study], "neuron")
    costs, gains = levels(every)
    for side in every:
        for cost in costs:
            within = [y for _, x, y in side["points"] if x <= cost]
            found = best_within(side, cost)
            assert (found is None) if not within else (found[2] == max(within))
        for gain in gains:
            above = [x for _, x, y in side["points"] if y >= gain]
            found = cheapest_above(side, gain)
            assert (found is None) if not above else (found[1] == min(above))


def test_the_joint_front_is_shared_out_without_a_gap(study):
    every = sides([study], "neuron")
    joint = joint_front(every)
    assert [(p["number"], p["t"]) for _, (p, _, _) in joint] == [
        (p["number"], p["t"]) for p in reversed(study["front"])
    ][::-1]
    pieces = stretches(every)
    assert sum(n for *_, n in pieces) == len(joint) and pieces[0][1] == joint[0][1][1]
    assert all(a[0] != b[0] and a[2] < b[1] for a, b in pairwise(pieces))


def test_studies_are_compared_by_what_only_one_searched(study):
    other = made.records_of(
        "other",
        [{"state": "complete", "outcome": {"metrics": {"accuracy": 0.99, "energy": 1e-9}}}],
        space={"model.depth": "choice(1,2)"},
    )
    other["settings"]["neuron"] = "qif"
    every = sides([study, other], "neuron")
    assert [s["value"] for s in every] == ["if", "lif", "plif", "qif"]
    assert [r["study"] for r in every[3]["records"]] == ["other, neuron=qif"]
    assert stretches(every)[0][0] == "qif" or len(stretches(every)) > 1
    other["settings"]["trainer.max_epochs"], study["settings"]["trainer.max_epochs"] = 10, 20
    assert differences([study, other])["trainer.max_epochs"] == [20, 10]
    assert "trainer.max_epochs: 20 in s, 10 in other" in told_differences([study, other])
    assert not any(line.startswith("neuron:") for line in told_differences([study, other]))  # searched in one
    with pytest.raises(KeyError):
        sides([study, other], "model.depht")


def test_nothing_finished_is_no_comparison():
    shown, lines = comparison([made.study("s", 0, importance=False)], "neuron")
    assert shown and all("hypervolume" in str(line) for line in lines)
