"""How sure accuracies are: known intervals, and which points can't be told apart from a front."""

from __future__ import annotations

import made
import pytest
from pytest import approx

from spikefront.analysis.confidence import floor, interval, told_apart, wilson


def test_wilsons_interval_is_that_of_the_tables():
    # Newcombe (Statistics in Medicine 17, 1998, part I, table I): 81 of 263, 15 of 148, 0 of 20, 1 of 29
    for right, of, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson(right / of, of) == (approx(low, abs=5e-5), approx(high, abs=5e-5))


@pytest.mark.parametrize(
    ("a", "b", "low"),
    # the same author, part II, table II, method 10: the lower limit of 56/70 - 48/80 is 0.0524, of 9/10 - 3/10 0.1705,
    # of 10/10 - 0/20 0.6791; and of 29/29 less 28/29 -0.0846 or so is below zero
    [((56, 70), (48, 80), 0.0524), ((9, 10), (3, 10), 0.1705), ((10, 10), (0, 20), 0.6791), ((6, 7), (2, 7), 0.0582)],
)
def test_differences_are_told_apart_where_newcombes_interval_says_so(a, b, low):
    better, worse = wilson(a[0] / a[1], a[1]), wilson(b[0] / b[1], b[1])
    assert told_apart(better, a[0] / a[1], worse, b[0] / b[1])
    p, q = a[0] / a[1], b[0] / b[1]
    assert p - q - ((p - better[0]) ** 2 + (worse[1] - q) ** 2) ** 0.5 == approx(low, abs=5e-5)
    assert not told_apart(wilson(0.9, 40), 0.9, wilson(0.85, 40), 0.85)


def test_over_seeds_it_is_students():
    assert interval(0.92, 100, [0.90, 0.92, 0.94]) == (
        approx(0.92 - 4.302653 * 0.02 / 3**0.5),
        approx(0.92 + 4.302653 * 0.02 / 3**0.5),
    )
    assert interval(0.92, None) is None and interval(0.92, None, [0.9]) is None


def study(samples, *points):
    def trial(accuracy, energy):
        return {
            "state": "complete",
            "outcome": {"metrics": {"accuracy": accuracy, "energy": energy}, "samples": samples},
        }

    return made.records_of("s", [trial(*p) for p in points])


def test_what_is_too_close_to_the_front_to_be_told_apart():
    points = (0.9, 1.0), (0.85, 1.5), (0.5, 2.0), (0.95, 3.0), (0.91, 3.5)
    near = {n: [p["near"] for p in study(n, *points)["points"]] for n in (40, 10_000)}
    assert near == {40: [True, True, False, True, True], 10_000: [True, False, False, True, False]}
    assert [p["near"] for p in study(None, *points)["points"]] == [True, None, None, True, None]


def test_no_accuracy_below_the_floor_is_near_and_every_one_above_is():
    for accuracy in (0.6, 0.9, 1.0):
        least = floor(study(144, (accuracy, 1.0))["front"][0])
        assert 0 < least < accuracy
        for less, expected in ((least - 1e-6, False), (least + 1e-6, True)):
            beside = study(144, (accuracy, 1.0), (less, 2.0))["points"][1]
            assert beside["near"] is expected
