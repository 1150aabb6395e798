"""Events: the simulated recordings, binning bit for bit as tonic's, what a bad recording says."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from examples import few
from hydra.errors import InstantiationException
from tonic.transforms import ToFrame

from spikefront.config import compose
from spikefront.data import build_data
from spikefront.data.binning import to_frames
from spikefront.data.cache import EVENT, BadRecording
from spikefront.data.events import clean
from spikefront.data.saccades import SACCADE, TONIC, record
from spikefront.errors import UserError


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def digits_dvs(cache, *overrides, timesteps=6):
    data = build_data(compose(["data=digits_dvs", f"data.cache={cache}", *overrides]).data, timesteps)
    data.setup()
    return data


def test_a_network_that_is_stopped_early_sees_the_first_of_all_frames(cache):
    whole, early, binned = (
        digits_dvs(cache),
        digits_dvs(cache, "data.frames=6", timesteps=2),
        digits_dvs(cache, timesteps=2),
    )
    for part in ("train_set", "val_set", "test_set"):
        sets = [getattr(d, part) for d in (whole, early, binned)]
        if part == "train_set":  # which is augmented
            assert sets[1][3][0].shape == sets[0][3][0][:2].shape
        else:
            assert np.array_equal(sets[1][3][0], sets[0][3][0][:2]) and not np.array_equal(sets[1][3][0], sets[2][3][0])
    with pytest.raises(InstantiationException, match=r"data\.frames=3 is less than model\.timesteps=6"):
        digits_dvs(cache, "data.frames=3")


def stream(n=5000, sensor=(34, 30), seed=0):
    rng = np.random.default_rng(seed)
    events = np.empty(n, TONIC)
    events["x"], events["y"] = rng.integers(sensor[0], size=n), rng.integers(sensor[1], size=n)
    events["t"], events["p"] = np.sort(rng.integers(300_000, size=n)), rng.integers(2, size=n)
    return events


@pytest.mark.parametrize("bins", [{"n_time_bins": 7}, {"n_event_bins": 7}, {"time_window": 40_000}])
@pytest.mark.parametrize("n", [1, 50, 5000])
def test_binning_is_tonics_bit_for_bit(bins, n):
    if n < 7 and "n_event_bins" in bins:
        pytest.skip("tonic's slicer makes no bins of fewer events than bins")
    events = stream(n)
    expected = ToFrame(sensor_size=(34, 30, 2), **bins)(events)
    ours = to_frames(clean(events, (34, 30)), (34, 30), **bins)
    if n == 1 and "time_window" not in bins:
        expected = expected[: len(ours)]
    np.testing.assert_array_equal(ours, expected)


def test_few_events_stand_one_in_a_frame_in_order():
    events = clean(stream(3), (34, 30))
    frames = to_frames(events, (34, 30), n_event_bins=7)
    assert frames.sum((1, 2, 3)).tolist() == [1, 0, 1, 0, 1, 0, 0]
    for frame, event in zip(frames[[0, 2, 4]], events, strict=True):
        assert frame[event["p"], event["y"], event["x"]] == 1


def test_a_hot_pixels_count_does_not_wrap_around():
    events = np.zeros(35_000, EVENT)
    events["t"] = np.arange(len(events))
    assert to_frames(events, (34, 30), n_event_bins=1).max() == 35_000


def test_compiled_code_writes_on_its_frames_alone():
    """Whatever a cache holds: here events of a larger sensor."""
    with pytest.raises(ValueError, match="off the sensor of 8x8"):
        to_frames(clean(stream(), (34, 30)), (8, 8), n_time_bins=4)


@pytest.mark.parametrize(
    ("overrides", "says"),
    few(
        [
            (
                ["+data.binning.window=1", "data.binning.mode=window"],
                r"mode=window .* leaves out 99\.\d% of the events",
            ),
            (["data.binning.mode=count"], r"mode=count with 700 timesteps leaves out \d\d\.\d% of the events"),
            (["data.binning.mode=time"], r"mode=time with 3000 timesteps leaves \d\d% of the frames empty"),
        ],
    ),
    ids=["window", "count", "time"],
)
def test_what_the_binning_leaves_out_is_said(cache, capfd, overrides, says):
    timesteps = {"count": 700, "time": 3000}.get(overrides[-1].rpartition("=")[2], 4)
    digits_dvs(cache, *overrides, timesteps=timesteps)
    assert re.search(says, capfd.readouterr().err)
    digits_dvs(cache)
    assert not capfd.readouterr().err


def test_a_moving_edge_makes_events_of_both_polarities_within_three_saccades():
    image = np.zeros((1, 8, 8), np.float32)
    image[0, 2:6, 2:6] = 1
    (events,) = record(image, (16, 16), 0.3)
    assert events.dtype == TONIC
    assert set(events["p"].tolist()) == {False, True}
    assert (np.diff(events["t"]) >= 0).all()
    assert events["t"][0] >= 0 and events["t"][-1] <= 3 * SACCADE
    assert np.unique(np.minimum(events["t"] // SACCADE, 2)).tolist() == [0, 1, 2]
    (again,) = record(image, (16, 16), 0.3)
    np.testing.assert_array_equal(events, again)
    (fewer,) = record(image, (16, 16), 0.6)
    assert 0 < len(fewer) < len(events)
    assert not len(record(np.full((1, 8, 8), 0.0, np.float32), (16, 16), 0.3)[0])


def test_digits_dvs_has_the_digits_split_and_frames(cache):
    data = digits_dvs(cache)
    assert (len(data.train_set), len(data.val_set), len(data.test_set)) == (1293, 144, 360)
    frames, label = data.test_set[0]
    assert frames.shape == (6, 2, 16, 16)
    assert frames.dtype == torch.float32
    assert 0 <= label < 10
    images, _ = next(iter(data.train_dataloader()))
    assert images.shape == (64, 6, 2, 16, 16)


def test_timesteps_change_the_binning_and_never_the_cache(cache):
    six = digits_dvs(cache)
    entries = sorted(p.name for p in cache.iterdir())
    two = digits_dvs(cache, timesteps=2)
    assert sorted(p.name for p in cache.iterdir()) == entries
    assert two.test_set[3][0].shape[0] == 2
    torch.testing.assert_close(two.test_set[3][0].sum(0), six.test_set[3][0].sum(0))


def test_a_damaged_cache_entry_is_rebuilt_and_reported(tmp_path, capfd):
    before = digits_dvs(tmp_path).test_set[5][0]
    (events,) = tmp_path.glob("digits_dvs-*/events.bin")
    content = bytearray(events.read_bytes())
    for i in range(0, len(content), 1000):
        content[i] ^= 255
    events.write_bytes(content)
    torch.testing.assert_close(digits_dvs(tmp_path).test_set[5][0], before)
    assert "damaged" in capfd.readouterr().err
    events.write_bytes(content[:100])
    torch.testing.assert_close(digits_dvs(tmp_path).test_set[5][0], before)


def change(field, index, value):
    def make():
        events = stream(100).astype([("x", "i8"), ("y", "i8"), ("t", "i8"), ("p", "i8")])
        events[field][index] = value
        return events

    return make


BAD = {
    "off the sensor to the right": (change("x", 3, 34), "x = 34"),
    "off the sensor to the left": (change("x", 3, -1), "x = -1"),
    "off the sensor below": (change("y", 3, 30), "y = 30"),
    "negative time": (change("t", 0, -5), "negative time"),
    "unsorted times": (change("t", 50, 0), "unsorted"),
    "third polarity": (change("p", 0, 2), "polarities"),
    "empty": (lambda: stream(0), "empty"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_recording_says_what_is_wrong(case):
    make, says = BAD[case]
    with pytest.raises(BadRecording, match=says):
        clean(make(), (34, 30))


def test_a_clean_recording_starts_at_zero():
    events = clean(stream(100), (34, 30))
    assert events.dtype == EVENT
    assert events["t"][0] == 0


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("data.binning.mode=tme", "data.binning.mode"),
        ("data.binning.mode=window", "data.binning.window"),
        ("+data.binning.window=-5", "data.binning.window is -5"),
        ("+data.binning.window=abc", "data.binning.window is 'abc'"),
        ("+data.binning={representation: voxel_grid, mode: count}", "voxel_grid is made of equal times"),
        ("+data.binning.representation=voxel_grid", "data.channels is 2"),
        ("data.threshold=0", "data.threshold"),
        ("data.on_error=ignore", "data.on_error"),
        ("data.sensor=abc", "data.sensor is abc"),
        ("data.sensor=[16]", "data.sensor is [16]"),
        ("data.sensor=[0,16]", "data.sensor is [0, 16]"),
        ("+data.augmentation={_target_: spikefront.data.EventAugmentation, flip: 2}", "data.augmentation.flip is 2"),
        ("+data.augmentation={_target_: spikefront.data.EventAugmentation, drop: -1}", "data.augmentation.drop is -1"),
    ],
)
def test_a_wrong_setting_is_one_line(tmp_path, override, says):
    from spikefront.commands.cli import explain

    with pytest.raises(Exception) as caught:
        digits_dvs(tmp_path, override)
    assert says in explain(caught.value)
    assert "\n" not in explain(caught.value)


def test_digits_dvs_trains(script, quick, tmp_path):
    overrides = [o for o in quick if not o.startswith("data=")]
    code, _, err = script("train", *overrides, "data=digits_dvs", f"data.cache={tmp_path}", "trainer.max_epochs=1")
    assert code == 0, err
    (entry,) = tmp_path.glob("digits_dvs-*/events.bin")
    trained = json.loads((tmp_path / "run/result.json").read_text())
    assert entry.stat().st_size and [p["t"] for p in trained["anytime"]] == [1, 2, 3, 4, 5, 6]


def test_a_cache_that_can_not_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"data\.cache"):
        digits_dvs(tmp_path / "file")


def test_another_sensor_makes_another_entry(tmp_path):
    large, small = digits_dvs(tmp_path), digits_dvs(tmp_path, "data.sensor=[8,8]")
    assert small.test_set[0][0].shape == large.test_set[0][0].shape  # of the network's input
    for data in (large, small):
        x = np.concatenate([data.test_set.recordings[i]["x"] for i in range(50)])
        assert data.sensor[0] / 2 < x.max() < data.sensor[0]
