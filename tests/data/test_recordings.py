"""The recorded event sets from their real layouts: read as tonic reads them, split as published, trained on."""

from __future__ import annotations

import json
import struct
from functools import partial

import numpy as np
import pytest
from examples import few
from layouts import (
    CLASSES,
    aedat2,
    aedat4,
    aedat31,
    cifar10_dvs,
    gesture,
    gesture_cut,
    hardvs,
    mat,
    n_caltech101,
    n_mnist,
    saccade_bin,
    stream,
)
from scipy.io import savemat
from tonic.io import get_aer_events_from_file, read_aedat_header_from_file

from spikefront.config import compose
from spikefront.data import build_data
from spikefront.data.formats import open_recording
from spikefront.data.formats.saccade_bin import read_saccade_bin
from spikefront.data.sets.cifar10_dvs import READERS, SPLITS
from spikefront.errors import UserError


def build(name, root, *overrides, timesteps=4):
    common = [f"data={name}", f"data.root={root}", f"data.cache={root}/cache"]
    common += [] if name == "hardvs" else ["data.download=false"]  # its authors give it to browsers alone
    data = build_data(compose([*common, "data.val_fraction=0", "data.num_workers=0", *overrides]).data, timesteps)
    data.check()
    data.setup()
    return data


def assert_same(a, b):
    assert len(a) == len(b)
    for field in "xytp":
        np.testing.assert_array_equal(a[field], b[field])


def test_aedat31_is_read_as_tonic_reads_it(tmp_path):
    events, path = stream(), tmp_path / "x.aedat"
    path.write_bytes(aedat31(events))
    ours = open_recording(path).events()
    assert_same(ours, events)
    version, start, _ = read_aedat_header_from_file(str(path))
    tonics = get_aer_events_from_file(str(path), version, start)["timeStamp"]
    np.testing.assert_array_equal(tonics[-len(ours) :], ours["t"])  # tonic takes special events along


def test_cifar10_dvs_has_the_orientation_of_spikingjelly(tmp_path):
    """The published results rest on x = 127 - bits 8-14, y = 127 - bits 1-7, p = 1 - bit 0 of the original files."""
    path = tmp_path / "cifar10_cat_1.aedat"
    path.write_bytes(b"#!AER-DAT2.0\r\n" + struct.pack(">II", 10 << 8 | 20 << 1 | 1, 5))
    assert READERS[".aedat"](path)[["x", "y", "t", "p"]].tolist() == [(117, 107, 5, 0)]
    savemat(tmp_path / "x.mat", {"out1": np.array([[5, 0, 0, 127 - 20, 10, -1]])})  # dat2mat.m of that event
    assert READERS[".mat"](tmp_path / "x.mat").tolist() == [(117, 107, 5, 0)]


@pytest.mark.parametrize("kind,write", [("aedat4", aedat4), ("aedat", aedat2), ("mat", mat)])
def test_cifar10_dvs_reads_each_format(tmp_path, kind, write):
    path = tmp_path / f"cifar10_cat_1.{kind}"
    path.write_bytes(write(stream()))
    assert_same(READERS[f".{kind}"](path), stream())


def test_saccades_are_read_beyond_an_overflow_of_time(tmp_path):
    events, path = stream(sensor=(34, 34)), tmp_path / "x.bin"
    path.write_bytes(saccade_bin(events))
    assert_same(read_saccade_bin(path), events)


TRAINED = {
    "cifar10_dvs": (cifar10_dvs, 20, "data.split=published"),
    "dvs128_gesture": (gesture, 11, "+data.binning.log=true"),
    "dvs128_gesture, cut by tonic": (gesture_cut, 11, "data.augmentation.nda=true"),
    "n_mnist": (n_mnist, 20, "data.stabilise=true"),
    "n_caltech101": (partial(n_caltech101, classes=5), 5, "data.num_classes=5"),
    "hardvs": (partial(hardvs, classes=6), 6, "data.num_classes=6"),
}


@pytest.mark.parametrize("case", few(TRAINED, 6))
def test_an_epoch_through_the_normal_command(script, tmp_path, case):
    write, tested, more = TRAINED[case]
    write(tmp_path)
    code, _, err = script(
        "train",
        "model=sdt_1_16",
        "trainer=cpu",
        "trainer.max_epochs=1",
        "model.timesteps=2",
        "logger=none",
        f"data={case.partition(',')[0]}",
        f"data.root={tmp_path}",
        f"data.cache={tmp_path}/cache",
        "data.num_workers=0",
        "data.batch_size=4",
        "data.image_size=16",
        "data.val_fraction=0.5",
        more,
        f"hydra.run.dir={tmp_path}/run",
    )
    assert code == 0, err
    assert json.loads((tmp_path / "run/result.json").read_text())["samples"] == tested


def test_n_caltech101_holds_out_a_tenth_of_each_class(tmp_path):
    data = build("n_caltech101", n_caltech101(tmp_path, classes=5), "data.num_classes=5")
    assert (len(data.train_set), len(data.test_set)) == (45, 5)
    frames, _ = data.test_set[0]
    assert frames.shape == (4, 2, 128, 128)
    again = build("n_caltech101", tmp_path, "data.num_classes=5", "data.seed=3")
    assert again.test_set.indices == data.test_set.indices


def test_gestures_are_split_by_user_and_cut_at_their_times(tmp_path):
    data = build("dvs128_gesture", gesture(tmp_path))
    assert (len(data.train_set), len(data.test_set)) == (22, 11)
    names = [data.train_set.recordings.names[i] for i in data.train_set.indices]
    assert {name.split("/")[1][:6] for name in names} == {"user01", "user02"}
    assert [data.train_set.recordings.labels[i] for i in data.test_set.indices] == list(range(11))
    events = stream(3000)
    within = events[(events["t"] >= 26_000) & (events["t"] < 49_000)]
    within["t"] -= within["t"][0]
    assert_same(data.train_set.recordings[1], within)


@pytest.mark.parametrize("split", ["seed0", "published"])
def test_cifar10_dvs_splits_are_stored(split):
    stored = json.loads((SPLITS / f"cifar10_dvs_{split}.json").read_text())
    assert tuple(stored) == CLASSES
    assert all(len(set(numbers)) == 100 and set(numbers) <= set(range(1000)) for numbers in stored.values())
    if split == "published":  # the front nine tenths of the sorted file names train
        names = sorted(f"cifar10_cat_{n}.npz" for n in range(1000))
        assert {f"cifar10_cat_{n}.npz" for n in stored["cat"]} == set(names[900:])


def test_another_split_uses_the_same_cache(tmp_path):
    root = cifar10_dvs(tmp_path)
    published = build("cifar10_dvs", root, "data.split=published")
    own = tmp_path / "own.json"
    own.write_text(json.dumps({name: [0] for name in CLASSES}))
    other = build("cifar10_dvs", root, f"data.split={own}", timesteps=2)
    assert (len(published.test_set), len(other.test_set)) == (20, 10)
    assert len(list((root / "cache").glob("cifar10_dvs-*/events.bin"))) == 1
    with pytest.raises(Exception, match=r"data\.split is 'seed1'.*did you mean 'seed0'"):
        build("cifar10_dvs", root, "data.split=seed1")


@pytest.mark.parametrize("name", ["cifar10_dvs", "dvs128_gesture", "n_mnist", "n_caltech101", "hardvs"])
def test_missing_files_say_what_is_expected_where(tmp_path, name):
    with pytest.raises(UserError, match=f"is not in {tmp_path}.*expected .*data.root") as caught:
        build(name, tmp_path)
    assert "\n" not in str(caught.value)


def test_hardvs_has_parts_of_its_own(tmp_path):
    data = build("hardvs", hardvs(tmp_path, classes=4), "data.num_classes=4", "data.filters.hot=1000")
    assert (len(data.train_set), len(data.val_set), len(data.test_set)) == (8, 4, 4)
    for part, number in ((data.val_set, "02"), (data.test_set, "03")):
        found = [(data.train_set.recordings.names[i], data.train_set.recordings.labels[i]) for i in part.indices]
        assert found == [(f"HARDVS/action_{c + 1:03d}/dvSave-2021_10_15_19_{number}_{c:02d}.npz", c) for c in range(4)]
    assert len(data.trained(data.recordings())) == 8  # hot pixels are sought in these alone
    assert data.val_fraction == pytest.approx(4 / 12)
    events = stream(60, sensor=(346, 260), seed=0)
    events["t"] -= events["t"][0]
    assert_same(data.train_set.recordings[0], events)
    frames, label = data.val_set[3]
    assert frames.shape == (4, 2, 128, 128) and label == 3


def test_hardvs_is_read_from_dvs_own_files_too(tmp_path):
    root = hardvs(tmp_path, classes=1)
    for file in (root / "HARDVS/action_001").glob("*.npz"):
        file.with_suffix(".aedat4").write_bytes(aedat4(stream(50)))
        file.unlink()
    data = build("hardvs", root, "data.num_classes=1", "data.sensor=[128,128]")
    events = stream(50)
    events["t"] -= events["t"][0]
    assert_same(data.train_set.recordings[0], events)
    assert all(name.endswith(".aedat4") for name in data.train_set.recordings.names)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda home: next(home.glob("action_002/*_00_*")).unlink(), "train_label.txt lists it, but it is missing"),
        (lambda home: (home / "test_label.txt").write_text("action_400/a 1"), "isn't action_001 to action_003"),
        (lambda home: (home / "val_label.txt").write_text((home / "test_label.txt").read_text()), "is listed twice in"),
        (
            lambda home: (home / "train_label.txt").write_text("action_001/dvSave-2021_10_15_19_00_00 0"),
            "no recording of",
        ),
        (
            lambda home: [(home / f"{p}_label.txt").write_text("") for p in ("train", "val", "test")],
            "list no recording",
        ),
    ],
)
def test_what_is_wrong_in_hardvs_is_a_line(tmp_path, spoil, says):
    root = hardvs(tmp_path, classes=3)
    spoil(root / "HARDVS")
    with pytest.raises(UserError, match=says) as caught:
        build("hardvs", root, "data.num_classes=3")
    assert "\n" not in str(caught.value)
