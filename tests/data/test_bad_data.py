"""Bad data is one line with file and reason; the run stops, or goes on without it, as data.on_error says."""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import resource
import tarfile

import numpy as np
import pytest
import torch
from examples import few
from layouts import (
    add,
    aedat2,
    aedat4,
    aedat31,
    cifar,
    cifar10_dvs,
    gesture,
    gesture_cut,
    image_folders,
    mat,
    n_mnist,
    picture,
    saccade_bin,
    shards,
    stream,
)
from scipy.io import savemat
from system import small_disk
from torchvision.datasets import CIFAR10

from spikefront.config import compose
from spikefront.data import build_data
from spikefront.errors import UserError


@functools.cache
def composed(name):
    return compose([f"data={name}", "data.val_fraction=0", "data.num_workers=0", "output_dir=x"]).data


def load(name, root, on_error=None, classes=None):
    """Everything a run reads: all recordings or images of all parts, once. The number of samples."""
    cfg = copy.deepcopy(composed(name))
    cfg.update(root=str(root), batch_size=4, image_size=32)
    if on_error:
        cfg.on_error = on_error
    if "cache" in cfg:
        cfg.cache = str(root / "cache")
    if "download" in cfg:
        cfg.download = False
    cfg.num_classes = classes or cfg.num_classes
    torch.manual_seed(1)  # an epoch leaves out its last, smaller batch: another order, another sample
    data = build_data(cfg, timesteps=2)
    data.check()
    data.setup()
    loaders = (data.test_dataloader(), data.train_dataloader())
    return sum(len(target) for loader in loaders for _, target in loader)


def cut(path, count):
    path.write_bytes(path.read_bytes()[:-count])


def with_events(write, field, value, at=0):
    events = stream()
    events[field][at] = value
    return write(events)


def to(content):
    """Replace the file by these bytes."""
    return lambda path: path.write_bytes(content)


def variable(**content):
    return lambda path: savemat(path, content)


def moved(name):
    return lambda path: path.rename(path.with_name(name))


AEDAT, AEDAT4, MAT = (f"CIFAR10DVS/cat/cifar10_cat_0.{kind}" for kind in ("aedat", "aedat4", "mat"))
RECORDING, LABELS = "DvsGesture/user02_led.aedat", "DvsGesture/user02_led_labels.csv"
NPY, BIN = "DVSGesture/ibmGestureTrain/user01_led/3.npy", "NMNIST/Train/4/00040.bin"
HEADER = "class,startTime_usec,endTime_usec\n"
ONE = HEADER + "1,1000,24000\n"
PACKET = b"\x01\x00\x01\x00\x08"  # polarity, source 1, events of 8 bytes
SIZELESS = aedat31(stream()).replace(PACKET, PACKET[:4] + b"\x01", 1)

# layout, file, what happens to it, what the message says, recordings lost by leaving it out
RECORDINGS = {
    "aedat 2 that ends within an event": ("aedat", AEDAT, lambda p: cut(p, 3), "truncated", 1),
    "aedat 2 of no bytes": ("aedat", AEDAT, to(b""), "the file is empty", 1),
    "aedat 2 without events": ("aedat", AEDAT, to(aedat2(stream(0))), "the recording is empty", 1),
    "aedat 2 that is none": ("aedat", AEDAT, to(b"once upon a time"), "not an AEDAT 2.0 file", 1),
    "aedat 2 that is a 3.1": ("aedat", AEDAT, to(aedat31(stream())), "not an AEDAT 2.0 file", 1),
    "aedat 2 that ends in its header": ("aedat", AEDAT, to(b"#!AER-DAT2.0\r\n# This"), "inside its header", 1),
    "aedat 2 out of order": ("aedat", AEDAT, to(with_events(aedat2, "t", 0, at=200)), "unsorted", 1),
    "a name without a number": ("aedat", AEDAT, moved("cifar10_cat_x.aedat"), "doesn't end in a number", 1),
    "aedat 4 that ends early": ("aedat4", AEDAT4, lambda p: cut(p, 40), "can't be parsed", 1),
    "aedat 4 that is none": ("aedat4", AEDAT4, to(b"#!AER-DAT4.1\r\n" + bytes(50)), "can't be parsed", 1),
    "aedat 4 off the sensor": ("aedat4", AEDAT4, to(with_events(aedat4, "x", 128)), "x = 128", 1),
    "aedat 4 left of the sensor": ("aedat4", AEDAT4, to(with_events(aedat4, "x", 65535)), "off the sensor", 1),
    "mat without the variable": ("mat", MAT, variable(out2=np.zeros((3, 4))), "no variable 'out1'", 1),
    "mat of another shape": ("mat", MAT, variable(out1=np.zeros((3, 5))), r"shape \(3, 5\)", 1),
    "mat that is none": ("mat", MAT, to(b"MATLAB 5.0"), "can't be parsed", 1),
    "mat that ends early": ("mat", MAT, lambda p: cut(p, 500), "can't be parsed", 1),
    "mat with a negative time": ("mat", MAT, to(with_events(mat, "t", -7)), "negative time -7", 1),
    "mat below the sensor": ("mat", MAT, to(with_events(mat, "y", 300)), "x = 300", 1),
    "aedat 3.1 that ends within a packet": ("gesture", RECORDING, lambda p: cut(p, 9), "truncated: a packet", 11),
    "aedat 3.1 that ends within a packet's header": (
        "gesture", RECORDING, to(aedat31(stream()) + bytes(20)), "truncated: it ends inside the header", 11,
    ),
    "aedat 3.1 whose packets have no size": ("gesture", RECORDING, to(SIZELESS), "no packet", 11),
    "aedat 3.1 off the sensor": ("gesture", RECORDING, to(with_events(aedat31, "x", 300, at=9)), "x = 300", 1),
    "a recording that is listed but missing": ("gesture", RECORDING, os.unlink, "listed but missing", 11),
    "a recording without labels": ("gesture", LABELS, os.unlink, "user02_led_labels.csv is missing", 11),
    "labels without their columns": ("gesture", LABELS, to(b"a,b\n1,2\n"), "line 2: not class,startTime", 11),
    "labels that aren't numbers": ("gesture", LABELS, to((HEADER + "one,2,3\n").encode()), "line 2: not class", 11),
    "a twelfth gesture": ("gesture", LABELS, to((ONE + "12,1,2\n").encode()), "line 3: class 12", 11),
    "a gesture that ends before it begins": ("gesture", LABELS, to((ONE + "2,9,8\n").encode()), "from 9 to 8", 11),
    "no gestures": ("gesture", LABELS, to(HEADER.encode()), "lists no gesture", 11),
    "a gesture without events": (
        "gesture", LABELS, to((ONE + "2,900000,900001\n").encode()), "the recording is empty", 10,
    ),
    "npy that ends early": ("gesture_cut", NPY, lambda p: cut(p, 30), "can't be parsed", 1),
    "npy of another shape": ("gesture_cut", NPY, lambda p: np.save(p, np.zeros((5, 3))), r"shape \(5, 3\)", 1),
    "npy of a third polarity": (
        "gesture_cut", NPY, lambda p: np.save(p, np.array([[1, 1, 2, 0], [1, 1, 0, 1]])), "polarities", 1,
    ),
    "npy whose name is no class": ("gesture_cut", NPY, moved("11.npy"), "isn't a class", 1),
    "bin that ends within an event": ("n_mnist", BIN, lambda p: cut(p, 2), "truncated", 1),
    "bin of no bytes": ("n_mnist", BIN, to(b""), "the recording is empty", 1),
    "bin off the sensor": (
        "n_mnist", BIN, to(saccade_bin(stream(sensor=(60, 34)))), "off the sensor of 34x34", 1,
    ),
}  # fmt: skip
LAYOUTS = {
    **{kind: ("cifar10_dvs", functools.partial(cifar10_dvs, kind=kind)) for kind in ("aedat", "aedat4", "mat")},
    "gesture": ("dvs128_gesture", gesture),
    "gesture_cut": ("dvs128_gesture", gesture_cut),
    "n_mnist": ("n_mnist", n_mnist),
}


def one_line(error, *parts):
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize("case", few(RECORDINGS, 6))
def test_a_bad_recording(tmp_path, capfd, case):
    layout, file, damage, says, lost = RECORDINGS[case]
    name, write = LAYOUTS[layout]
    whole = {"aedat": 60, "aedat4": 60, "mat": 60, "gesture": 33, "gesture_cut": 33, "n_mnist": 60}[layout]
    write(tmp_path)
    damage(tmp_path / file)
    with pytest.raises(UserError, match=says) as caught:
        load(name, tmp_path, "raise")
    stem = file.rpartition("/")[2].partition(".")[0].removesuffix("_labels")
    one_line(caught, "data.on_error=skip", file.rpartition("/")[0], "" if "name" in case else stem)
    kept = load(name, tmp_path, "skip")
    assert "left out (data.on_error=skip)" in capfd.readouterr().err
    expected = whole - lost
    assert expected - 3 <= kept <= expected  # training leaves out what doesn't fill a batch
    with pytest.raises(UserError, match=says):
        load(name, tmp_path, "raise")  # what is cached by now doesn't hide it


def images(damage):
    def make(root):
        image_folders(root)
        damage(root / "train/n01440764/n01440764_1.JPEG")
        return root

    return make


def folders(*extra, without=()):
    def make(root):
        image_folders(root)
        for path in extra:
            (root / path).mkdir(parents=True)
            (root / path / "x.JPEG").write_bytes(picture(1))
        for path in without:
            (root / path).unlink()
        return root

    return make


def shard(content):
    """One more training shard."""

    def make(root):
        shards(root)
        if isinstance(content, bytes):
            (root / "imagenet1k-train-0002.tar").write_bytes(content)
            return root
        with tarfile.open(root / "imagenet1k-train-0002.tar", "w") as tar:
            for member, data in content.items():
                add(tar, member, data)
        return root

    return make


def short_shard(root):
    shards(root)
    path = root / "imagenet1k-train-0001.tar"
    path.write_bytes(path.read_bytes()[:3000])
    return root


VAL = [f"val/n01443537/n01443537_{i}.JPEG" for i in range(2)]
# how it comes about, what the message says, samples that are left, None where nothing can be left out
IMAGES = {
    "a JPEG that ends early": (images(lambda p: cut(p, 700)), "truncated", 12),
    "a JPEG of no bytes": (images(to(b"")), "the file is empty", 12),
    "a JPEG that is none": (images(to(b"<html>not found</html>")), "not an image", 12),
    "a JPEG of a header alone": (images(lambda p: p.write_bytes(p.read_bytes()[:40])), "JPEG: ", 12),
    "a class in training alone": (folders("train/n9"), "train/n9 is a class that .*val doesn't have", 12),
    "a class in validation alone": (folders("val/tmp"), "val/tmp is a class that .*train doesn't have", 12),
    "a third class": (folders("train/n9", "val/n9"), "has 3 class folders, not 2", None),
    "a class without an image": (folders(without=VAL), "n01443537 holds no image", None),
    "a shard that ends early": (short_shard, "truncated|not a whole tar", 8),
    "a shard that is none": (shard(b"<html>not found</html>" * 40), "not a whole tar", 12),
    "an image without a class": (shard({"1.jpg": picture(1)}), "1 has no class", 12),
    "a class that is no number": (shard({"1.jpg": picture(1), "1.cls": b"cat"}), "1 has no class", 12),
    "a class beyond the last": (shard({"1.jpg": picture(1), "1.cls": b"2"}), "has the class 2, not 0 to 1", 12),
    "an image of no bytes in a shard": (shard({"1.jpg": b"", "1.cls": b"1"}), "the file is empty", 12),
}


@pytest.mark.parametrize("case", few(IMAGES))
def test_a_bad_image(tmp_path, capfd, case):
    make, says, left = IMAGES[case]
    root = make(tmp_path / "in1k")
    with pytest.raises(UserError, match=says) as caught:
        load("imagenet", root, "raise", classes=2)
    one_line(caught, str(root))
    if left is None:
        with pytest.raises(UserError, match=says):
            load("imagenet", root, "skip", classes=2)
        return
    assert load("imagenet", root, "skip", classes=2) == left
    assert "left out" in capfd.readouterr().err


ODD = ("实验 é [b]", "ein <i>böses\n'Bild'", os.fsdecode(b"latin \xe9\xff"))  # the last is no UTF-8


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("layout", ["folders", "shards", "gesture"])
def test_files_and_classes_may_have_any_name(tmp_path, capfd, layout, odd):
    """Any name that the file system takes, of the root, a class, a file: read, and named where it is bad."""
    root = tmp_path / odd
    if layout == "folders":
        image_folders(root, classes=("n01440764", odd))
        (root / "train" / odd / f"{odd}_0.JPEG").write_bytes(b"no picture")
        bad, whole = root / "train" / odd / f"{odd}_0.JPEG", 12
    elif layout == "shards":
        shards(root)
        bad, whole = root / f"{odd}-train-3.tar", 12
        bad.write_bytes(b"no tar")
    else:
        gesture(root)
        bad, whole = root / "DvsGesture" / f"{odd}.aedat", 33
        bad.write_bytes(b"no recording")
        (root / "DvsGesture" / f"{odd}_labels.csv").write_text(ONE)
        with (root / "DvsGesture" / "trials_to_train.txt").open("ab") as listed:
            listed.write(os.fsencode(bad.name.replace("\n", " ")) + b"\n")
    name, classes = ("dvs128_gesture", None) if layout == "gesture" else ("imagenet", 2)
    with pytest.raises(UserError, match=r"mend or remove") as caught:
        load(name, root, "raise", classes)
    assert odd.splitlines()[0] in str(caught.value)
    assert whole - 3 <= load(name, root, "skip", classes) <= whole
    assert "left out" in capfd.readouterr().err


STOPS = {
    "a class folder is missing": (cifar10_dvs, "cifar10_dvs", "CIFAR10DVS/ship", "ship is missing"),
    "a digit is missing": (n_mnist, "n_mnist", "NMNIST/Test/7", "Test/7 is missing"),
}


@pytest.mark.parametrize("case", STOPS)
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_set_without_one_of_its_classes_stops(tmp_path, case, on_error):
    write, name, folder, says = STOPS[case]
    write(tmp_path)
    (tmp_path / folder).rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=says) as caught:
        load(name, tmp_path, on_error)
    one_line(caught, folder)


def test_a_folder_that_is_no_class(tmp_path):
    cifar10_dvs(tmp_path)
    (tmp_path / "CIFAR10DVS/plane").mkdir()
    with pytest.raises(UserError, match="plane is not a class of CIFAR10-DVS"):
        load("cifar10_dvs", tmp_path, "raise")
    assert load("cifar10_dvs", tmp_path, "skip") > 50


def test_one_person_in_both_parts_stops(tmp_path):
    gesture(tmp_path, train=("user01", "user24"), test=("user24",))
    for on_error in ("raise", "skip"):
        with pytest.raises(UserError, match="user24 is in both parts"):
            load("dvs128_gesture", tmp_path, on_error)


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_pickle_is_named(tmp_path, monkeypatch, damage):
    file = cifar(tmp_path, CIFAR10, monkeypatch) / "cifar-10-batches-py/data_batch_3"
    file.unlink() if damage == "missing" else cut(file, 1)
    with pytest.raises(UserError, match="MD5" if damage == "changed" else "is missing") as caught:
        load("cifar10", tmp_path)
    one_line(caught, str(file))


@contextlib.contextmanager
def limited_files():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("by", ["a limit on files", pytest.param("a small disk", marks=pytest.mark.system)])
def test_a_full_disk_while_caching_leaves_nothing_half_made(tmp_path, by):
    cifar10_dvs(tmp_path)
    with limited_files() if by == "a limit on files" else small_disk(tmp_path / "cache", "64k"):
        with pytest.raises(UserError, match=r"the disk is full while caching events in .*data\.cache") as caught:
            load("cifar10_dvs", tmp_path, "raise")
        one_line(caught)
        assert [p.name for p in (tmp_path / "cache").iterdir() if not p.name.endswith(".lock")] == []
    assert load("cifar10_dvs", tmp_path, "raise") > 50
