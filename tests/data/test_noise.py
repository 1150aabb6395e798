"""Filters against what they say, told slowly in Python."""

from __future__ import annotations

import numpy as np
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefront.data.cache import EVENT
from spikefront.data.noise import hot_pixels, neighbours, refractory, without_hot_pixels

SENSOR = (7, 5)


def events(rows):
    return np.array([(x, y, t, p) for t, x, y, p in sorted(rows)], EVENT)


streams = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 6), st.integers(0, 4), st.integers(0, 1))).map(events)


@settings(deadline=None, max_examples=examples(60))
@given(streams, st.integers(0, 60))
def test_refractory_counts_from_the_last_kept_event(found, period):
    last, kept = {}, []
    for event in found.tolist():
        x, y, t, _ = event
        if (x, y) not in last or t - last[x, y] >= period:
            last[x, y] = t
            kept.append(event)
    ours, removed = refractory(found, SENSOR, period)
    assert ours.tolist() == kept
    assert removed == len(found) - len(kept)


@settings(deadline=None, max_examples=examples(60))
@given(streams, st.integers(0, 60))
def test_neighbours_support(found, window):
    kept = []
    rows = found.tolist()
    for i, (x, y, t, p) in enumerate(rows):
        near = [e for e in rows[:i] if max(abs(e[0] - x), abs(e[1] - y)) == 1 and t - e[2] <= window]
        if near:
            kept.append((x, y, t, p))
    ours, removed = neighbours(found, SENSOR, window)
    assert ours.tolist() == kept
    assert removed == len(found) - len(kept)


def test_hot_pixels_are_found_over_many_recordings_and_taken_out():
    rng = np.random.default_rng(0)
    quiet = [(int(t), int(x), int(y), 0) for t, x, y in rng.integers((900, 7, 5), size=(300, 3))]
    hot = [(3 * i, 2, 3, 1) for i in range(300)]
    parts = [events([*quiet, *hot][i::2]) for i in range(2)]
    mask = hot_pixels(parts, SENSOR)
    assert np.argwhere(mask).tolist() == [[3, 2]]
    kept, removed = without_hot_pixels(parts[0], mask)
    there = (parts[0]["x"] == 2) & (parts[0]["y"] == 3)
    assert removed == there.sum() > 100
    np.testing.assert_array_equal(kept, parts[0][~there])


def test_an_edge_that_moves_is_no_hot_pixel():
    line = events([(t, x, 2, 1) for t in range(0, 900, 3) for x in range(7)])
    assert not hot_pixels([line], SENSOR).any()
    assert not hot_pixels([line[:0]], SENSOR).any()


@pytest.mark.parametrize("filtered", [
    lambda e: refractory(e, SENSOR, 5), lambda e: neighbours(e, SENSOR, 5),
    lambda e: without_hot_pixels(e, np.zeros((5, 7), bool)), lambda e: hot_pixels([e], SENSOR),
])  # fmt: skip
def test_events_off_the_sensor_never_reach_compiled_code(filtered):
    with pytest.raises(ValueError, match="off the sensor of 7x5"):
        filtered(events([(0, 7, 1, 0)]))
