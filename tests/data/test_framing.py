"""From a sensor to the network's square: nothing is distorted, and counts stay counts."""

from __future__ import annotations

import numpy as np
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from own import events

from spikefront.data.binning import to_frames
from spikefront.data.framing import Framing
from spikefront.errors import UserError


def counts(made: np.ndarray, size) -> np.ndarray:
    return to_frames(made, size, n_event_bins=1)[0] if len(made) else np.zeros((2, size[1], size[0]), int)


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(2, 40), st.integers(2, 40), st.sampled_from(["pad", "square"]), st.integers(1, 20), st.data())
def test_it_does_with_events_what_numpy_does_with_their_counts(width, height, fit, pooled, data):
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    crop = [left, top, data.draw(st.integers(1, width - left)), data.draw(st.integers(1, height - top))]
    made = events(True, count=300, sensor=(width + 4, height))
    made["x"] = made["x"].clip(0, width - 1)
    framing = Framing((width, height), crop, fit, pooled)
    found = counts(framing(made), framing.size)
    expected = counts(made, (width, height))[:, top : top + crop[3], left : left + crop[2]]
    side = max(crop[2:]) if fit == "pad" else min(crop[2:])
    for axis in (1, 2):
        more = side - expected.shape[axis]
        if more >= 0:
            around = [(0, 0)] * 3
            around[axis] = (more // 2, more - more // 2)
            expected = np.pad(expected, around)
        else:
            first = -(more // 2)
            expected = expected.take(range(first, first + side), axis)
    if side > pooled:
        places = np.arange(side) * pooled // side
        pooled_counts = np.zeros((2, pooled, pooled), int)
        np.add.at(pooled_counts, (slice(None), places[:, None], places[None]), expected)
        expected = pooled_counts
    np.testing.assert_array_equal(found, expected)


def test_every_event_of_a_large_sensor_is_counted_in_a_small_square():
    made = events(False, count=5000, sensor=(1280, 720))
    framing = Framing((1280, 720), None, "pad", 64)
    assert counts(framing(made), (64, 64)).sum() == 5000
    assert repr(framing) == "1280x720, padded to 1280x1280, 20 by 20 pixels pooled into 64x64"
    assert repr(Framing((346, 260), [40, 0, 260, 260])) == "346x260, cut to 260x260"


def test_a_square_sensor_is_left_as_it_is():
    made = events(True, sensor=(16, 16))
    assert Framing((16, 16), None, "pad", 16)(made) is made
    assert Framing((24, 16), None, "squash")(made) is made


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ({"fit": "stretch"}, "data.fit is 'stretch'; did you mean|data.fit is 'stretch'; options"),
        ({"crop": [0, 0, 9]}, "give x, y, width and height"),
        ({"crop": [0, 0, 0, 9]}, "give x, y, width and height"),
        ({"crop": [20, 0, 9, 9]}, r"data.crop=\[20, 0, 9, 9\] reaches beyond the sensor of 24x16"),
    ],
)
def test_wrong_settings_are_one_line(how, line):
    with pytest.raises(UserError, match=line):
        Framing((24, 16), **how)
