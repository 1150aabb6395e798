"""One pass over recordings: exact counts, hot pixels, what samples hold; advice; the contact sheet."""

from __future__ import annotations

import numpy as np
import own
import pytest
import written
from hypothesis import given
from hypothesis import strategies as st

from spikefront.data.formats import Declared
from spikefront.data.framing import Framing
from spikefront.data.looking.advice import for_pictures, for_recordings, rounded
from spikefront.data.looking.overview import Overview, Piece, hottest, look_at_recordings
from spikefront.data.looking.seen import KEPT, Clock
from spikefront.data.looking.sheet import CELL, Shown, coloured, evenly, fitting, sheet
from spikefront.data.own.rows import Sample
from spikefront.data.windows import Windows

SENSOR = Declared(sensor=(24, 16), unit="us")


def look(root, files, samples=None, windows=None, timesteps=4, **how) -> Overview:
    return look_at_recordings(root, files, SENSOR, lambda file: None, samples, windows, timesteps, **how)


@given(st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=40), min_size=1, max_size=5), st.integers(-5, 70))
def test_a_clock_counts_exactly(blocks, moment):
    times = np.sort(np.concatenate([np.array(b, np.int64) for b in blocks]))
    clock = Clock()
    for part in np.split(times, np.cumsum([len(b) for b in blocks])[:-1]):
        clock.add(part)
    assert clock.until([moment])[0] == np.searchsorted(times, moment)


def test_a_clock_of_many_events_is_near_and_small():
    clock, times = Clock(), np.arange(40 * KEPT)
    for part in np.split(times, 10):
        clock.add(part)
    assert abs(int(clock.until([1_000_003])[0]) - 1_000_003) <= 8
    assert sum(map(len, clock.times)) <= 10 * KEPT


def test_samples_of_tables_and_windows_hold_what_training_sees(tmp_path):
    made = own.events(True, count=3000, begin=700)
    np.save(tmp_path / "a.npy", made)
    marked = [Sample("a.npy", "x", start=500_000, end=900_001), Sample("a.npy", "y", start=10**9, end=10**9 + 5)]
    found = look(tmp_path, ["a.npy"], marked)
    (piece,) = found.pieces
    inside = made["t"][(made["t"] >= 500_000) & (made["t"] < 900_001)]
    assert piece.events == len(inside) and found.empty == marked[1:]
    each = np.histogram(inside, np.linspace(500_000, 900_001, 5))[0]
    assert (piece.fewest, piece.most) == (each.min(), each.max())
    cut = look(tmp_path, ["a.npy"], [Sample("a.npy", "x")], Windows(300_000, 100_000))
    begin = made["t"][0]
    for i, piece in enumerate(cut.pieces):
        start = begin + 100_000 * i
        assert piece.events == ((made["t"] >= start) & (made["t"] < start + 300_000)).sum()
    assert len(cut.pieces) == (made["t"][-1] - begin + 1 - 300_000) // 100_000 + 1


def test_hot_pixels_of_the_training_part_alone(tmp_path):
    for name, place in (("train", (3, 4)), ("test", (9, 9))):
        made = own.events(True, count=4000)
        made["x"][::2], made["y"][::2] = place
        np.save(tmp_path / f"{name}.npy", made)
    found = look(tmp_path, ["test.npy", "train.npy"], trains=lambda file: file == "train.npy")
    ((x, y, share),) = found.hot_pixels()[24, 16]
    assert (x, y) == (3, 4) and share == pytest.approx(0.5, abs=0.02)


def test_the_hottest_pixel_is_one_of_the_networks():
    counts = np.zeros((16, 24), np.int64)
    counts[3, 5], counts[3, 4], counts[9, 20] = 10, 7, 12
    assert hottest(counts, None) == 12
    assert hottest(counts, Framing((24, 16), fit="pad", pooled=12)) == 17
    assert hottest(counts, Framing((24, 16), crop=(0, 0, 4, 2), fit="pad")) == 0


def test_more_than_32000_on_a_pixel_is_warned_of(tmp_path):
    made = own.events(True, count=70_000)
    made["x"], made["y"] = 3, 4
    np.save(tmp_path / "a.npy", made)
    for timesteps, warned in ((1, True), (2, True), (4, False)):
        found = look(tmp_path, ["a.npy"], timesteps=timesteps)
        told = for_recordings(found, timesteps, 24, False, "time").warnings
        assert any("on one pixel of a frame" in line for line in told) is warned


def pieces(events: int, seconds: float, fewest: int | None = None, count: int = 20) -> Overview:
    end, each = round(seconds * 1e6), events // 8
    fewest = each if fewest is None else fewest
    return Overview(pieces=[Piece(Sample(f"{i}", "a"), 0, end, events, fewest, each, end) for i in range(count)])


@pytest.mark.parametrize(
    ("seen", "side", "wanted"),
    [
        (pieces(370_000, 6.0), 128, {"model.timesteps": 16, "data.binning.mode": "time", "data.image_size": 128}),
        (pieces(4_000, 0.3), 34, {"model.timesteps": 8, "data.binning.mode": "time", "data.image_size": 32}),
        (pieces(300, 1.0), 128, {"model.timesteps": 1, "data.binning.mode": "time", "data.image_size": 64}),
        (pieces(50_000, 1.0, fewest=0), 720, {"data.binning.mode": "count", "data.image_size": 128}),
        (pieces(600_000, 60.0), 240, {"data.window": "1s"}),
    ],
)
def test_advice(seen, side, wanted):
    found = for_recordings(seen, 8, side, False, "time")
    assert wanted.items() <= found.settings.items()
    assert len(found.why) == len(found.settings)
    assert bool(found.warnings) is (seen.pieces[0].events < 1600)


def test_long_recordings_that_are_cut_already_are_left_so():
    assert "data.window" not in for_recordings(pieces(600_000, 60.0), 8, 240, True, "time").settings
    assert [rounded(s) for s in (0.8, 1.0, 1.2, 4.9, 70)] == [1, 1, 2, 5, 100]


def test_advice_on_pictures():
    facts = {f"{i}": {"width": 4032, "height": 3024, "mode": "RGB", "format": "JPEG"} for i in range(5)}
    assert for_pictures(Overview(facts=facts)).settings["data.image_size"] == 64
    small = {"a": {"width": 20, "height": 30, "mode": "L", "format": "PNG"}}
    found = for_pictures(Overview(facts=small))
    assert found.settings["data.image_size"] == 32 and "enlarged" in found.warnings[0]


def test_colours_and_empty_frames():
    frames = np.zeros((3, 2, 8, 8), np.float32)
    frames[0, 1, 2, 5], frames[2, 0, 6, 1] = 4, 4
    made, words = coloured(frames)
    assert words == ["4", "empty", "4"]
    on, off = made[0][2, 5].astype(int), made[2][6, 1].astype(int)
    assert on[0] > on[2] and off[2] > off[0] and made[1].max() == 0


def test_a_sheet_of_any_names():
    square = np.full((16, 16, 3), 200, np.uint8)
    shown = [Shown("a very long name " * 30 + ".raw", [square] * 8, ["1"] * 7 + ["empty"])]
    image = np.asarray(sheet(["root", "how"], [("中文 \udcff " * 90, shown), ("none", [])], True))
    assert (image == 200).all(-1).sum() == 7 * (CELL**2 - 4 * CELL + 4)  # framed
    text = fitting("x" * 500 + "/end.raw", 200, 13)
    assert text.startswith("xx") and "…" in text and text.endswith("end.raw")
    assert evenly(2, 8) == [0, 1] and evenly(16, 8)[0::7] == [0, 15]


def test_a_cut_file_is_an_error_and_no_sample(tmp_path):
    (tmp_path / "a.raw").write_bytes(written.evt2(written.events())[:-2])
    found = look_at_recordings(tmp_path, ["a.raw"], Declared(), lambda file: None)
    assert "truncated" in found.bad["a.raw"] and not found.pieces and not found.good
