"""HDF5's layouts; skipped where the extra isn't installed, which is then said in one line."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
from test_formats import US, same
from written import events

from spikefront.data.formats import BadRecording, Declared, open_recording, sniff
from spikefront.errors import UserError

h5py = pytest.importorskip("h5py")


@pytest.fixture(autouse=True)
def filters(monkeypatch):
    """hdf5plugin registers filters when it is imported; what is written here needs none."""
    monkeypatch.setitem(sys.modules, "hdf5plugin", types.ModuleType("hdf5plugin"))


def columns(group, made, names="xytp", **attributes):
    for name in "xytp":
        group[names["xytp".index(name)]] = made[name]
    for key, value in attributes.items():
        group.attrs[key] = value


def plain(file, made):
    columns(file.create_group("events"), made)


def metavision(file, made):
    rows = np.empty(len(made), [("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
    for name in "xytp":
        rows[name] = made[name]
    file.create_group("CD")["events"] = rows
    file.attrs["geometry"] = "128x100"


def dsec(file, made):
    shifted = made.copy()
    shifted["t"] -= 3000
    columns(file.create_group("events"), shifted)
    file["t_offset"] = 3000


def stated(file, made):
    columns(file, {**{n: made[n] for n in "xyp"}, "t": made["t"] * 1e-6}, ("x", "y", "ts", "pol"))
    file["ts"].attrs["unit"] = "s"
    file.attrs["width"], file.attrs["height"] = 128, 100


LAYOUTS = {"plain": plain, "metavision": metavision, "dsec": dsec, "stated": stated}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(tmp_path, name):
    path = tmp_path / "x.raw"
    with h5py.File(path, "w") as file:
        LAYOUTS[name](file, events())
    assert sniff(path) == "hdf5"
    if name == "plain":
        with pytest.raises(BadRecording, match=r"data\.unit="):
            open_recording(path)
    found = open_recording(path, US if name == "plain" else Declared())
    same(found.events(), events())
    sensor = {"metavision": (128, 100), "stated": (128, 100)}.get(name)
    assert (found.sensor, found.whence) == (sensor, "header" if sensor else "at least 128x100 by the events")


def test_a_table_needs_the_names_of_its_columns(tmp_path):
    made = events()
    with h5py.File(tmp_path / "x", "w") as file:
        file["events"] = np.stack([made[n] for n in "txyp"], 1)
    with pytest.raises(BadRecording, match=r"data\.columns"):
        open_recording(tmp_path / "x", US)
    same(open_recording(tmp_path / "x", Declared(columns="t x y p", unit="us")).events(), made)


def test_a_file_that_ends_early(tmp_path):
    with h5py.File(tmp_path / "x", "w") as file:
        plain(file, events())
    content = (tmp_path / "x").read_bytes()
    for cut in np.random.default_rng(0).choice(np.arange(9, len(content)), 60, replace=False):
        (tmp_path / "y").write_bytes(content[:cut])
        with pytest.raises(BadRecording, match="truncated") as caught:
            open_recording(tmp_path / "y", US).events()
        assert "\n" not in str(caught.value)


def test_what_is_missing_or_ambiguous_is_named(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "x", "w") as file:
        plain(file.create_group("left"), events())
        plain(file.create_group("right"), events())
    with pytest.raises(BadRecording, match="several recordings: left/events, right/events"):
        open_recording(tmp_path / "x", US)
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(UserError, match=r"hdf5plugin, which is missing: pip install 'spikefront\[hdf5\]'"):
        open_recording(tmp_path / "x", US)
