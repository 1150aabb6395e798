"""What is implausible is said; a recording in blocks is judged, and cached, as the same in one piece."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import cifar10_dvs, gesture, n_mnist, saccade_bin, stream
from test_bad_data import load, one_line
from test_recordings import build

from spikefront.data import cleaning
from spikefront.data.cache import EVENT, BadRecording, Recording, open_cache
from spikefront.data.cleaning import clean, cleaned
from spikefront.errors import UserError

SENSOR = (128, 128)


def timed(factor, n=3000, whole=False):
    events = stream(n).astype([("x", "i8"), ("y", "i8"), ("t", "f8"), ("p", "i8")])
    events["t"] *= factor
    return events.astype(stream(1).dtype) if whole else events


IMPLAUSIBLE = {
    "seconds": (timed(1e-6), "have no fractions; it may be in seconds"),
    "seconds cut to whole ones": (timed(1e-6, whole=True), "all 3000 events have the same; are they in seconds"),
    "milliseconds on a small sensor": (timed(1e-5, 60000, whole=True), "more than any camera"),
    "nanoseconds": (timed(1e3, whole=True), "less than a camera's noise; are they in nanoseconds"),
    "nanoseconds of more than 4 s": (timed(2e4, whole=True), "longer than 71 minutes"),
    "not a number": (timed(np.nan), "not a number"),
}


@pytest.mark.parametrize("case", IMPLAUSIBLE)
def test_implausible_times(case):
    events, says = IMPLAUSIBLE[case]
    with pytest.raises(BadRecording, match=says):
        clean(events, SENSOR)


def outcome(blocks):
    try:
        return np.concatenate(list(cleaned(blocks, (34, 30)))).tolist()
    except BadRecording as error:
        return str(error)


@settings(max_examples=examples(60), deadline=None)
@given(
    cuts=st.lists(st.integers(0, 100), max_size=5),
    field=st.sampled_from(["x", "y", "t", "p", None]),
    at=st.integers(0, 99),
    value=st.sampled_from([-3, 0, 1, 35, 2**33]),
)
def test_blocks_are_judged_as_the_whole(cuts, field, at, value):
    events = stream(100, (34, 30))
    if field:
        events[field][at] = value
    whole, parts = outcome([events]), outcome(np.split(events, sorted(cuts)))
    assert type(whole) is type(parts)
    assert isinstance(whole, str) or whole == parts  # of several faults another block's may be the first


def test_the_cache_takes_blocks_and_leaves_nothing_of_a_recording_that_turns_bad(tmp_path, monkeypatch):
    monkeypatch.setattr(cleaning, "AT_ONCE", 7)
    good = [stream(200, seed=i) for i in range(3)]

    def late():
        yield good[0][:150]
        raise BadRecording("the file is truncated")

    reads = [lambda: iter(np.split(good[0], 5)), late, lambda: good[1], lambda: iter([good[2]])]
    listed = [Recording(f"{i}", 0, "test" if i == 3 else "train", read) for i, read in enumerate(reads)]
    read = lambda r: cleaned([f] if isinstance(f := r.read(), np.ndarray) else f, SENSOR)
    found = open_cache(tmp_path, "x", listed, read, "skip", {})
    assert found.names == ["0", "2", "3"]
    assert list(found.skipped) == ["1"]
    for i, events in enumerate(good):
        np.testing.assert_array_equal(found[i], clean(events, SENSOR))
        assert found._crc[i] == [zlib.crc32(clean(events, SENSOR).tobytes())]
    path = found.entry / "events.bin"
    content = bytearray(path.read_bytes())
    content[EVENT.itemsize * 30] ^= 1
    path.write_bytes(content)
    mended = open_cache(tmp_path, "x", listed, read, "skip", {})
    np.testing.assert_array_equal(mended[0], clean(good[0], SENSOR))


def test_a_sensor_that_leaves_the_picture_in_a_corner(tmp_path):
    with pytest.raises(UserError, match=r"data\.sensor=\[128,128\] is implausible: the events reach 34x34") as caught:
        build("n_mnist", n_mnist(tmp_path), "data.sensor=[128,128]")
    one_line(caught)


@pytest.mark.parametrize("name", ["n_mnist", "cifar10_dvs"])
def test_a_label_beyond_the_classes_stops_before_the_first_batch(tmp_path, name):
    {"n_mnist": n_mnist, "cifar10_dvs": cifar10_dvs}[name](tmp_path)
    with pytest.raises(UserError, match=r"is of class 5, data\.num_classes=5 has 0 to 4") as caught:
        build(name, tmp_path, "data.num_classes=5")
    one_line(caught)


def test_a_gestures_class_beyond_the_classes_names_file_and_row(tmp_path):
    gesture(tmp_path)
    assert load("dvs128_gesture", tmp_path) > 20  # cached with all classes: that doesn't hide it
    with pytest.raises(UserError, match=r"user01_led_labels.csv, line 5: class 4 .*data\.num_classes=3") as caught:
        load("dvs128_gesture", tmp_path, classes=3)
    one_line(caught)


def test_a_davis_file_in_a_set_of_a_dvs128_is_refused(tmp_path):
    from written import davis, events

    cifar10_dvs(tmp_path)
    (tmp_path / "CIFAR10DVS/cat/cifar10_cat_0.aedat").write_bytes(davis(events()))
    with pytest.raises(UserError, match="its chip says 240x180"):
        load("cifar10_dvs", tmp_path)


def test_seconds_in_tonics_gestures_are_refused(tmp_path):
    from layouts import gesture_cut

    gesture_cut(tmp_path)
    file = tmp_path / "DVSGesture/ibmGestureTrain/user01_led/3.npy"
    rows = np.load(file).astype(float)
    rows[:, 3] = np.sort(np.random.default_rng(0).random(len(rows))) * 6
    np.save(file, rows)
    with pytest.raises(UserError, match="may be in seconds"):
        load("dvs128_gesture", tmp_path)


def test_a_bin_of_the_wrong_content_is_named(tmp_path):
    n_mnist(tmp_path)
    (tmp_path / "NMNIST/Train/4/00040.bin").write_bytes(saccade_bin(stream(sensor=(34, 34)))[:-3])
    with pytest.raises(UserError, match=r"00040.bin.*truncated.*bytes? into an? event"):
        load("n_mnist", tmp_path)
