"""When a training that fires nothing is ended, and when it isn't."""

from __future__ import annotations

import pytest

from spikefront.sweeping.search.hopeless import hopeless


def point(rate=0.0, accuracy=0.1):
    return {"firing_rate": rate, "accuracy": accuracy, "energy_joules": 1e-9, "anytime": [(accuracy, 1e-9)]}


def test_it_is_ended_half_way_and_says_why():
    said = hopeless(5, 9, point(), 10)
    assert said == (
        "after epoch 5 of 9 no neuron fires and the accuracy, 0.100, is chance (search.stop_silent=false trains on)"
    )
    assert hopeless(8, 9, point(), 10) and hopeless(50, 100, point(), 10)


@pytest.mark.parametrize(
    ("epoch", "epochs", "rate", "accuracy"),
    [
        (4, 9, 0.0, 0.1),  # many fire a little later
        (4, 6, 0.0, 0.1),
        (49, 100, 0.0, 0.1),
        (9, 9, 0.0, 0.1),  # it has ended
        (1, 2, 0.0, 0.1),
        (5, -1, 0.0, 0.1),  # as long as it takes
        (5, 9, 0.001, 0.1),  # something fires
        (5, 9, 0.0, 0.16),  # or is right without spikes
    ],
)
def test_there_is_hope(epoch, epochs, rate, accuracy):
    assert hopeless(epoch, epochs, point(rate, accuracy), 10) is None
