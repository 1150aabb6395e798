"""Each format is told by its content and read to the last event; what ends early, or can't be, is refused in a line."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layouts import aedat4, aedat31, saccade_bin
from scipy.io import savemat
from written import (
    DAVIS,
    DVS,
    TABLES,
    WRITERS,
    closed,
    dat,
    davis,
    dvs128,
    events,
    evt2,
    evt3,
    matlab,
    npy,
    npz,
    text,
    vectors,
)

from spikefront.data.formats import EVENTS, BadRecording, Declared, decoded, open_recording, sniff
from spikefront.errors import UserError

US = Declared(unit="us")
CAMERA = Path(__file__).parent / "gen3_evt3_cut.raw"  # see gen3_evt3_cut.txt
EXPECTED = (4665, 1509277, 1639675, 1385, 138420485)  # events, sums of x, y, p and t - t[0]


def written(path, content):
    path.write_bytes(content)
    return path


def same(found, expected):
    assert found.dtype == EVENTS
    assert len(found) == len(expected)
    for name in "xytp":
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize("name", WRITERS)
def test_a_format_is_told_by_its_content_and_read(tmp_path, name):
    path = written(tmp_path / ("x.bin" if name == "n_mnist" else "x.csv"), WRITERS[name](events()))
    assert sniff(path) == name
    found = open_recording(path, US)
    assert found.format == name
    same(found.events(), events())


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_ends_early_is_refused(tmp_path, name):
    """120 cuts anywhere. Left out are those between two words or events of files that don't say how many they hold."""
    size = {"evt2": 4, "evt3": 2, "dat": 8, "aedat2": 8, "n_mnist": 5, "text": None}.get(name, 0)
    content = WRITERS[name](events())
    rng = np.random.default_rng(1)
    for cut in sorted(rng.choice(np.arange(1, len(content)), 120, replace=False).tolist()):
        if (size and (len(content) - cut) % size == 0) or (size is None and content[cut - 1 : cut] == b"\n"):
            continue
        path = written(tmp_path / "x.bin", content[:cut])
        with pytest.raises(BadRecording) as caught:
            open_recording(path, US).events()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["evt2", "evt3", "dat", "aedat2", "aedat3.1", "n_mnist"])
def test_the_byte_where_a_file_ends_is_named(tmp_path, name):
    content = WRITERS[name](events())[:-1]
    with pytest.raises(BadRecording, match=f"truncated.*{len(content)}"):
        open_recording(written(tmp_path / "x.bin", content), US).events()


@pytest.mark.parametrize("name", [n for n in WRITERS if n != "n_mnist"])
def test_a_file_without_an_event_is_refused(tmp_path, name):
    path = written(tmp_path / "x", WRITERS[name](events()[:0]))
    with pytest.raises(BadRecording, match=r"empty|holds no"):
        open_recording(path, US).events()


def test_the_recording_of_a_camera():
    """The first events of a Prophesee Gen3, as two other readers give them (evt3 0.4.1, eventcv 1.0.8)."""
    found = open_recording(CAMERA)
    assert (found.format, found.sensor, found.whence) == ("evt3", (640, 480), "header")
    camera = found.events()
    assert camera[0].tolist() == (479, 441, 7139845, 0)
    sums = (len(camera), *(int(camera[k].astype(int).sum()) for k in "xyp"), int((camera["t"] - camera["t"][0]).sum()))
    assert sums == EXPECTED
    assert (camera["t"][1:] >= camera["t"][:-1]).all()


GEOMETRY = {
    b"% evt 3.0\n% format EVT3;height=100;width=128\n": (128, 100),
    b"% evt 3.0\n% geometry 128x100\n": (128, 100),
    b"% format EVT3\n% Sensor geometry 128x100\n": (128, 100),
    b"% Date 2020-01-01\n% evt 3.0\n% height 100\n% width 128\n": (128, 100),
    b"% evt 3.0\n": None,
}


@pytest.mark.parametrize("header", GEOMETRY)
@pytest.mark.parametrize("end", [b"% end\n", b""])
def test_a_raw_header_may_state_the_sensor_or_not(tmp_path, header, end):
    found = open_recording(written(tmp_path / "x", evt3(events(), header + end)))
    assert (found.format, found.sensor) == ("evt3", GEOMETRY[header])
    same(found.events(), events())
    assert found.whence == ("header" if found.sensor else "at least 128x100 by the events")


def test_vectors(tmp_path):
    same(open_recording(written(tmp_path / "x", evt3(vectors()))).events(), vectors())


def test_a_vectors_base_without_its_vector_is_an_early_end(tmp_path):
    with pytest.raises(BadRecording, match="vector"):
        open_recording(written(tmp_path / "x", evt3(events()) + struct.pack("<H", 0x3005))).events()


@pytest.mark.parametrize(("write", "around"), [(evt3, 1 << 24), (evt2, 1 << 34), (dat, 1 << 32), (davis, 1 << 32)])
def test_times_go_on_where_a_clock_begins_again(tmp_path, write, around):
    long = events(start=around - 9000)
    assert long["t"][0] < around < long["t"][-1]
    same(open_recording(written(tmp_path / "x", write(long))).events(), long)


@settings(max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(block=st.integers(64, 3000), most=st.integers(16, 500), write=st.sampled_from([evt2, evt3, dat, davis]))
def test_blocks_of_any_size_give_the_same(tmp_path, monkeypatch, block, most, write):
    monkeypatch.setattr(decoded, "BLOCK", block)
    monkeypatch.setattr("spikefront.data.formats.raw.MOST", most)
    made = np.sort(np.concatenate([events(), vectors()]), order="t", kind="stable")
    same(open_recording(written(tmp_path / "x", write(made))).events(), made)


@pytest.mark.parametrize("write", [evt2, evt3])
def test_blocks_are_small(tmp_path, write):
    unsettled = 4 if write is evt3 else 0  # what stands before the first time
    again = write(events(), b"")[unsettled:] * 1500
    sizes = [len(block) for block in open_recording(written(tmp_path / "x", write(events()) + again)).blocks()]
    assert len(sizes) > 1 and max(sizes) <= 1 << 20 and sum(sizes) == 400 * 1501


OFF = {"evt2": evt2, "evt3": evt3, "dat": dat, "aedat3.1": aedat31, "aedat4": closed}


@pytest.mark.parametrize("name", OFF)
def test_an_event_off_the_headers_sensor_is_refused(tmp_path, name):
    made = events()
    made["x"][7] = 128
    with pytest.raises(BadRecording, match="x = 128, off the sensor of 128x"):
        open_recording(written(tmp_path / "x", OFF[name](made))).events()


def test_a_sensor_that_is_given_holds_where_nothing_else_tells(tmp_path):
    path = written(tmp_path / "x", evt3(events(), b"% evt 3.0\n"))
    found = open_recording(path, Declared(sensor=(640, 480)))
    assert (found.sensor, found.whence) == ((640, 480), "given")
    with pytest.raises(BadRecording, match=r"off the sensor of 64x64 \(data.sensor\)"):
        open_recording(path, Declared(sensor=(64, 64))).events()
    with pytest.raises(BadRecording, match=r"header says 128x100 pixels, data\.sensor 64x64"):
        open_recording(written(path, evt3(events())), Declared(sensor=(64, 64)))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"once upon a time", "not a recording of a known format"),
        (bytes(range(256)) * 9, "not a recording"),
        (b"% evt 2.1\n% end\n" + bytes(80), "EVT21"),
        (b"% Date x\n% camera y\n% end\n" + bytes(80), "not a recording"),
        (dat(events()).replace(b"Version 2", b"Version 1"), "version 1"),
        (dat(events()).replace(b"\x0c\x08", b"\x0e\x08", 1), "type 14"),
        (davis(events(), DAVIS.replace(b"DAVIS240C", b"DVS132S")), "chip eu.seebetter.ini.chips.davis.DVS132S"),
        (davis(events(), b"#!AER-DAT2.0\r\n"), r"names no chip.*data.sensor=\[128,128\]"),
        (davis(events(), DVS), "none of a sensor of 128x128"),
        (b"#!AER-DAT1.0\r\n" + bytes(80), "not a recording"),
    ],
)
def test_what_is_no_recording_is_named(tmp_path, content, says):
    with pytest.raises(BadRecording, match=says) as caught:
        open_recording(written(tmp_path / "x.raw", content)).events()
    assert "\n" not in str(caught.value)


def test_a_dvs128_is_shown_as_jaer_shows_it(tmp_path):
    same(open_recording(written(tmp_path / "x", dvs128(events()))).events(), events())
    without = open_recording(written(tmp_path / "x", dvs128(events(), b"#!AER-DAT2.0\r\n")), Declared((128, 128)))
    assert without.whence == "given"
    same(without.events(), events())


@pytest.mark.parametrize(("chip", "sensor"), [("DAVIS240B", (240, 180)), ("Davis346blue", (346, 260))])
def test_the_chip_decides(tmp_path, chip, sensor):
    made = events(sensor=sensor)
    path = written(tmp_path / "x", davis(made, DAVIS.replace(b"DAVIS240C", chip.encode()), sensor[1]))
    found = open_recording(path)
    assert (found.sensor, found.whence) == (sensor, "chip")
    same(found.events(), made)


def test_only_valid_events_of_aedat31_and_as_many_as_are_counted(tmp_path):
    content = bytearray(aedat31(events()))
    head = content.index(struct.pack("<hhi", 1, 1, 8))
    content[head + 20 : head + 24] = struct.pack("<i", 98)  # of 100
    content[head + 28 + 8 * 5] &= 0xFE
    kept = [i for i in range(400) if i not in (5, 98, 99)]
    same(open_recording(written(tmp_path / "x", bytes(content))).events(), events()[kept])


def test_aedat4_that_was_never_closed_is_read(tmp_path):
    found = open_recording(written(tmp_path / "x", aedat4(events())))
    assert (found.sensor, found.whence) == ((128, 128), "header")
    same(found.events(), events())


@pytest.mark.parametrize("table", TABLES)
def test_aedat4_that_ends_within_its_table_of_packets(tmp_path, table):
    content = closed(events(), TABLES[table])
    same(open_recording(written(tmp_path / "x", content)).events(), events())
    for cut in range(len(content) - len(TABLES[table]), len(content)):
        with pytest.raises(BadRecording, match=f"truncated, it ends at byte {cut}"):
            open_recording(written(tmp_path / "x", content[:cut]))


def test_n_mnist_is_known_by_its_name_and_content_together(tmp_path):
    content = saccade_bin(events())
    assert sniff(written(tmp_path / "x.bin", content)) == "n_mnist"
    assert sniff(written(tmp_path / "x.dat", content)) is None
    assert sniff(written(tmp_path / "y.bin", np.random.default_rng(0).bytes(5000))) is None


@pytest.mark.parametrize(
    ("first", "polarities", "sensor", "says"),
    [
        (1, (1, 2), None, None),
        (0, (0, 1), None, None),
        (0, (-1, 1), None, None),
        (1, (-1, 1), (128, 100), None),  # 128 is no column that counts from 0
        (1, (-1, 1), None, "data.columns='x y t p'.*'x1 y1 t p'"),
        (0, (0, 3), None, "polarities reach from 0 to 3"),
    ],
)
def test_matlab_counts_from_one_only_where_that_is_sure(tmp_path, first, polarities, sensor, says):
    path = written(tmp_path / "x", matlab(events(), first, polarities))
    if says is None:
        same(open_recording(path, Declared(sensor, unit="us")).events(), events())
        return
    with pytest.raises(BadRecording, match=says):
        open_recording(path, US).events()
    if first:
        same(open_recording(path, Declared(columns="x1 y1 t p", unit="us")).events(), events())


def test_matlab_without_a_structure_or_of_something_else(tmp_path):
    made = events()
    savemat(tmp_path / "x", {**{name: made[name] for name in "xytp"}, "fs": 3}, appendmat=False)
    same(open_recording(tmp_path / "x", US).events(), made)
    savemat(tmp_path / "x", {"image": np.zeros((3, 3))}, appendmat=False)
    with pytest.raises(BadRecording, match=r"holds no x, y, t .*: it holds image"):
        open_recording(tmp_path / "x", US)
    same(open_recording(written(tmp_path / "y", matlab(made, compressed=False)), US).events(), made)


@pytest.mark.parametrize("write", [matlab, npy, npz, text])
@pytest.mark.parametrize("name", ["unit"])
def test_a_unit_is_asked_for(tmp_path, write, name):
    with pytest.raises(BadRecording, match=r"data\.unit="):
        open_recording(written(tmp_path / "x", write(events())))


@pytest.mark.parametrize(("unit", "factor"), [("s", 1e-6), ("ms", 1e-3), ("ns", 1000), ("us", 1), ("100ns", 10)])
def test_units(tmp_path, unit, factor):
    made = events()
    t = made["t"] * factor
    np.savez(tmp_path / "x.npz", x=made["x"], y=made["y"], p=made["p"], t=t)
    same(open_recording(tmp_path / "x.npz", Declared(unit=unit)).events(), made)
    rows = np.stack([t, made["x"], made["y"], made["p"]], 1)
    np.save(tmp_path / "x.npy", rows)
    same(open_recording(tmp_path / "x.npy", Declared(columns="t x y p", unit=unit)).events(), made)
    np.savetxt(tmp_path / "x.txt", rows, "%.9f", header=f"t[{unit}] x y p" if len(unit) < 3 else "")
    same(open_recording(tmp_path / "x.txt", Declared(columns="t x y p", unit=unit)).events(), made)
    if len(unit) < 3:
        same(open_recording(tmp_path / "x.txt").events(), made)
    if unit in ("s", "ms"):
        with pytest.raises(BadRecording, match=r"implausible in us.*data.unit=s"):
            open_recording(tmp_path / "x.npz", US).events()


TEXTS = {
    "blanks": (lambda e: b"".join(b"%d %d %d %d\n" % (t, x, y, p) for x, y, t, p in e.tolist()), "t x y p"),
    "semicolons, another order": (
        lambda e: b"".join(b"%d;%d;%d;%d\r\n" % (x, y, p, t) for x, y, t, p in e.tolist()), "x y p t",
    ),
    "from one, a column more": (
        lambda e: b"".join(b"%d 7 %d %d %d\n" % (t, x + 1, y + 1, p) for x, y, t, p in e.tolist()), "t - x1 y1 p",
    ),
    "-1 for OFF": (lambda e: b"".join(b"%d %d %d %d\n" % (t, x, y, 2 * p - 1) for x, y, t, p in e.tolist()), "t x y p"),
    "comments first": (lambda e: b"# of a camera\n" + text(e, ""), "t x y p"),
    "the sensor first": (lambda e: b"128 100\n" + text(e, "").replace(b",", b" "), "t x y p"),
}  # fmt: skip


@pytest.mark.parametrize("case", TEXTS)
def test_text(tmp_path, case):
    write, columns = TEXTS[case]
    path = written(tmp_path / "x", write(events()))
    with pytest.raises(BadRecording, match=r"data.columns"):
        open_recording(path, US)
    found = open_recording(path, Declared(columns=columns, unit="us"))
    same(found.events(), events())
    assert found.whence == ("header" if "sensor" in case else "at least 128x100 by the events")


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({"unit": "minutes"}, "data.unit is 'minutes'"),
        ({"columns": "t x y"}, "data.columns is 't x y'"),
        ({"columns": "t x y p q"}, "data.columns"),
    ],
)
def test_what_is_declared_must_make_sense(declared, says):
    with pytest.raises(UserError, match=says):
        Declared(**declared)


def test_a_table_must_have_the_columns_that_are_named(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((9, 5)))
    with pytest.raises(BadRecording, match=r"has 5 columns, data\.columns names 4"):
        open_recording(tmp_path / "x.npy", Declared(columns="t x y p", unit="us"))
    path = written(tmp_path / "x.txt", text(events()).replace(b"\n", b",4\n")[:-3] + b"\n")
    with pytest.raises(BadRecording, match="columns"):
        open_recording(path, Declared(columns="t x y p", unit="us")).events()
    path = written(tmp_path / "x.txt", text(events()) + b"1,2,three,0\n")
    with pytest.raises(BadRecording, match="three"):
        open_recording(path, US).events()


def test_names_state_a_unit(tmp_path):
    made = events()
    path = written(tmp_path / "x", text(made, "timestamp_us,x,y,polarity\n"))
    same(open_recording(path).events(), made)
    shutil.copy(path, tmp_path / "y.aedat4")
    assert sniff(tmp_path / "y.aedat4") == "text"
