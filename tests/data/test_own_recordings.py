"""A user's own folder of recordings: stretches and windows of them, sensors, squares."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import written
import yaml
from own import EVENTS, events, recordings

from spikefront.commands.cli import explain
from spikefront.config import compose, override
from spikefront.data import build_data, cache, chunks
from spikefront.data.cache import Recordings
from spikefront.errors import UserError
from spikefront.units import microseconds

SENSOR = "data.sensor=[24,16]"
BY_COUNT = "data.binning.mode=count"  # by time the last event is in no frame, as in tonic


def build(root, *overrides):
    own = [override("data.root", str(root)), override("data.cache", f"{root.parent}/cache"), "data.num_workers=0"]
    own.append("data.unit=us")
    data = build_data(compose(["data=event_folder", *own, "data.image_size=8", BY_COUNT, *overrides]).data, timesteps=2)
    data.check()
    data.setup()
    return data


def said(root, *overrides) -> str:
    with pytest.raises(Exception) as caught:
        build(root, *overrides)
    line = explain(caught.value)
    assert "\n" not in line and not line.startswith("unexpected")
    return line


def sizes(data) -> list[int]:
    return [len(x) for x in (data.train_set, data.val_set, data.test_set)]


def test_a_sensor_is_asked_for_and_kept_once_it_fits(tmp_path, capfd):
    root = recordings(tmp_path / "root")
    assert "left/0.npy (npy) doesn't say how large its sensor is" in said(root)
    assert "off the sensor of 20x16" in said(root, "data.sensor=[20,16]")
    data = build(root, SENSOR)
    err = capfd.readouterr().err
    assert "24x16, padded to 24x24, 3 by 3 pixels pooled into 8x8 (sum); data.normalise=none" in err
    assert sizes(data) == [6, 2, 2] and sizes(build(root)) == [6, 2, 2]  # kept
    frames, label = data.test_set[0]
    assert frames.shape == (2, 2, 8, 8) and frames.sum() == 400 and label == 0


def test_marks_in_long_recordings(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    rows = ["file,label,start,end,group"]
    for person in range(5):
        long = np.concatenate([events(False, person, begin=7_000_000), events(True, person, begin=9_000_000)])
        np.save(root / f"{person}.npy", long)
        rows += [f"{person}.npy,left,7000000,9000000,p{person}", f"{person}.npy,right,9000000,,p{person}"]
    (root / "marks.csv").write_text("\n".join(rows))
    data = build(root, SENSOR)
    assert sizes(data) == [6, 2, 2] and data.described()["layout"] == "table"
    for part in (data.train_set, data.val_set, data.test_set):
        assert sorted(part[i][1] for i in range(len(part))) == [0] * (len(part) // 2) + [1] * (len(part) // 2)
        for i in range(len(part)):
            events_of = part.recordings[part.indices[i]]
            assert len(events_of) == 400
    of = {c.sample.file: data.parted().parts[c.sample.file] for c in data.train_set.recordings.cut}
    assert len(of) == 5  # one part a recording
    cut = build(root, "data.window=1s", "data.stride=500ms")
    assert sum(sizes(cut)) == 5 * (3 + 2)  # the second stretch has no end of its own
    (root / "marks.csv").write_text("\n".join([*rows, "3.npy,left,100,200,p3"]))
    assert "3.npy 100-200 µs (row 12) holds no event: the recording has them from 7" in said(root)
    assert sum(sizes(build(root, "data.on_error=skip"))) == 10
    for row, line in (
        ("3.npy,left,900,900", "marks.csv, row 12: the end, 900 µs, is not after the start, 900 µs"),
        ("3.npy,left,1s,", "marks.csv, row 12: start is '1s': give microseconds"),
        ("3.npy,middle,,", "marks.csv, row 12: the label 'middle' is none of the classes left, right"),
        ("7.npy,left,,", "marks.csv, row 12: 7.npy is not in"),
    ):
        (root / "marks.csv").write_text("\n".join([*rows, row]))
        assert line in said(root)


def test_windows_of_a_recording_are_in_one_part(tmp_path, capfd):
    root = recordings(tmp_path / "root", each=4, seconds=3.2)
    np.save(root / "left" / "gap.npy", np.concatenate([events(False, 9), events(False, 9, begin=6_000_000)]))
    data = build(root, SENSOR, "data.window=1s")
    err = capfd.readouterr().err
    assert "windows of 1e+06 µs" in err and "4 more hold no event and are left out" in err
    cut = data.train_set.recordings.cut
    assert sum(sizes(data)) == len(cut) == 7 * 3 + 3 + 3
    for c in cut:
        t = data.train_set.recordings.recordings[c.recording]["t"][c.first : c.last]
        assert len(t) > 0 and t[-1] - t[0] < 1e6
    parts = {
        i: name
        for name, part in (("a", data.train_set), ("b", data.val_set), ("c", data.test_set))
        for i in part.indices
    }
    of: dict = {}
    for i, c in enumerate(cut):
        assert of.setdefault(c.sample.file, parts[i]) == parts[i]


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["data.window=soon"], "data.window is 'soon': give a time such as 1.5s"),
        (["data.stride=1s"], "data.stride=1s does nothing without data.window"),
        (["data.fit=fill"], "data.fit is 'fill'"),
        (["data.fit=squash"], "data.downsample=sum pools squares of pixels: take data.fit=pad or square"),
        (["data.downsample=max"], "data.downsample is 'max'"),
        (["data.crop=[0,0,99,9]"], "reaches beyond the sensor of 24x16"),
        (["data.normalise=mx"], "data.normalise is 'mx'; did you mean 'max'"),
        (["data.mixed_sensors=true", "data.downsample=mean"], "by data.downsample=sum or any"),
        (["data.num_classes=3"], "has 2 classes, and data.num_classes is 3"),
        (["data.root=null"], "data.root is not given: the folder that holds your recordings"),
    ],
)
def test_wrong_settings_are_one_line(tmp_path, overrides, line):
    assert line in said(recordings(tmp_path / "root"), SENSOR, *overrides)


def test_what_a_square_shows(tmp_path):
    root = recordings(tmp_path / "root")
    one = next(iter(build(root, SENSOR, "data.downsample=any").test_set))[0]
    assert set(one.unique().tolist()) == {0.0, 1.0}
    mean = next(iter(build(root, "data.downsample=mean").test_set))[0]
    total = next(iter(build(root).test_set))[0]
    torch.testing.assert_close(mean * 9, total)
    assert next(iter(build(root, "data.normalise=mean").test_set))[0].mean() == pytest.approx(1)
    square = next(iter(build(root, "data.fit=square").test_set))[0]
    assert square.shape[-1] == 8 and 0 < square.sum() < 400
    nothing = build(root, "data.crop=[0,0,1,1]", "data.timesteps=2", "data.image_size=1")
    assert all(torch.isfinite(nothing.test_set[i][0]).all() for i in range(2))


def test_recordings_of_several_sensors_are_refused_or_brought_to_one_square(tmp_path):
    root = recordings(tmp_path / "root", each=4)
    recordings(tmp_path / "large", each=4, sensor=(64, 32), classes=("left", "right"))
    for file in sorted((tmp_path / "large").rglob("*.npy")):
        file.rename(root / file.parent.name / f"large {file.name}")
    for file in sorted(root.rglob("*.npy")):
        width, height = (64, 32) if "large" in file.name else (24, 16)
        header = f"% evt 3.0\n% format EVT3;height={height};width={width}\n% end\n"
        content = written.evt3(np.load(file), header.encode())
        file.unlink()
        file.with_suffix(".raw").write_bytes(content)
    line = said(root)
    assert "recordings of 2 sensors: 24x16 (8 files, left/0.raw), 64x32 (8 files, left/large 0.raw)" in line
    data = build(root, "data.mixed_sensors=true")
    shown = [x for part in (data.train_set, data.val_set, data.test_set) for x, _ in part]
    assert {x.shape for x in shown} == {(2, 2, 8, 8)} and all(x.sum() == 400 for x in shown)
    assert "data.image_size=32 is more than the 24 pixels" in said(
        root, "data.mixed_sensors=true", "data.image_size=32"
    )


def test_a_recording_that_cannot_be_used(tmp_path, capfd):
    root = recordings(tmp_path / "root")
    (root / "left" / "cut.npy").write_bytes((root / "left" / "0.npy").read_bytes()[:500])
    np.save(root / "right" / "empty.npy", np.zeros(0, EVENTS))
    assert "left/cut.npy: can't be parsed" in said(root, SENSOR)
    data = build(root, SENSOR, "data.on_error=skip")
    assert sum(sizes(data)) == 10 and "2 recordings are left out" in capfd.readouterr().err


def test_from_a_folder_to_a_result(script, tmp_path):
    root = recordings(tmp_path / "root [1]", each=4)
    own = [
        "data=event_folder",
        override("data.root", str(root)),
        f"data.cache={tmp_path}/cache",
        SENSOR,
        "data.unit=us",
    ]
    small = ["model=sdt_1_16", "model.timesteps=2", "trainer=cpu", "trainer.max_epochs=1", "logger=none"]
    few = ["data.num_workers=0", "data.image_size=16", "data.window=500ms"]
    code, _, err = script("train", *own, *small, *few, f"hydra.run.dir={tmp_path}/run")
    assert code == 0, err
    result = json.loads((tmp_path / "run/result.json").read_text())["data"]
    assert result["classes"] == ["left", "right"] and result["sensor"] == [24, 16]
    assert sum(result["samples"].values()) > 8
    code, _, err = script(
        "evaluate",
        f"checkpoint={tmp_path}/run/checkpoints/last.ckpt",
        override("input", str(root / "left" / "1.npy")),
        "+overrides.data.window=1s",
        f"hydra.run.dir={tmp_path}/e",
    )
    assert code == 0, err
    found = json.loads((tmp_path / "e/answers.json").read_text())
    assert [d["when"] for d in found] == ["0-1 s"] + ["1-2 s"] * (len(found) > 1)
    assert all(d["label"] in ("left", "right") and 0.5 <= d["probability"] <= 1 for d in found)


def test_what_squashes_a_wide_sensor_says_so(tmp_path, capfd):
    from layouts import n_caltech101

    n_caltech101(tmp_path, classes=3)
    common = ["data=n_caltech101", f"data.root={tmp_path}", f"data.cache={tmp_path}/cache", "data.num_classes=3"]
    for more, told in (([], True), (["data.fit=pad"], False)):
        data = build_data(compose([*common, "data.val_fraction=0", *more]).data, 2)
        data.setup()
        assert ("squashed into a square" in capfd.readouterr().err) == told


def test_times():
    said = {"1.5s": 1.5e6, "200 ms": 2e5, "20us": 20, "20µs": 20, 7: 7, "3e3": 3000, "soon": None, "": None, True: None}
    assert {key: microseconds(key) for key in said} == said


def test_a_window_of_a_long_recording_is_read_and_checked_alone(tmp_path, monkeypatch, capfd):
    for module in (cache, chunks):
        monkeypatch.setattr(module, "CHUNK", 100)
    root = tmp_path / "root"
    for name in ("left", "right"):
        (root / name).mkdir(parents=True)
        for i in range(5):
            np.save(root / name / f"{i}.npy", events(name == "right", i, count=1000))
    data = build(root, SENSOR, "data.window=200ms")
    whole = data.prepare()
    before = whole[1].copy()
    path, begin = whole.entry / "events.bin", whole._offsets[1]
    content = bytearray(path.read_bytes())
    for place in (130, 870):  # in the second and in the ninth chunk
        content[(begin + place) * before.itemsize] ^= 1
    path.write_bytes(content)
    found = build(root, SENSOR, "data.window=200ms").prepare()
    np.testing.assert_array_equal(found.between(1, 210, 790), before[210:790])
    assert found._checked == {(1, chunk) for chunk in range(2, 8)} and "damaged" not in capfd.readouterr().err
    np.testing.assert_array_equal(found.between(1, 150, 260), before[150:260])
    assert "left/1.npy" in capfd.readouterr().err
    np.testing.assert_array_equal(found[1], before)  # the ninth was mended with it
    assert "damaged" not in capfd.readouterr().err
    damaged = path.read_bytes()[: (begin + 130) * before.itemsize] + b"\x00" * before.itemsize * 3
    path.write_bytes(damaged + path.read_bytes()[len(damaged) :])
    np.save(root / "left" / "1.npy", events(True, 1, count=1000))  # no more what the cache was made of
    with pytest.raises(UserError, match=r"left/1\.npy changed since"):
        Recordings(found.entry, found._sources, found._read)[1]


def test_a_sensor_that_is_refused_is_not_kept(tmp_path, capfd):
    root = recordings(tmp_path / "root")
    assert "data.sensor=[128,128] is implausible: the events reach 2" in said(root, "data.sensor=[128,128]")
    assert "sensor" not in yaml.safe_load((root / "spikefront.yaml").read_text())
    assert "doesn't say how large its sensor is" in said(root)
    build(root, SENSOR)
    card = root / "spikefront.yaml"
    capfd.readouterr()
    build(root, "data.sensor=[25,16]")
    assert f"data.sensor=[25, 16] is taken; {card} keeps sensor: [24, 16]" in capfd.readouterr().err
    card.write_text(card.read_text().replace("- 24\n- 16", "- 128\n- 128"))
    line = said(root)
    assert f"sensor: [128, 128] in {card} is implausible" in line and line.endswith("write the camera's size there")


def test_marks_behind_a_recording_s_end_are_told(tmp_path, capfd):
    root = recordings(tmp_path / "root", each=5)
    rows = [f"{name}/{i}.npy,{name},,{9_000_000 if i == 0 else ''}" for name in ("left", "right") for i in range(5)]
    (root / "marks.csv").write_text("file,label,start,end\n" + "\n".join(rows))
    build(root, SENSOR)
    err = capfd.readouterr().err
    assert "left/0.npy 0-9000000 µs (row 2) ends after the recording, whose last event is at" in err


def test_a_recording_of_no_bytes_is_a_bad_one(tmp_path):
    root = recordings(tmp_path / "root")
    (root / "left" / "9.npy").write_bytes(b"")
    (root / "left" / "notes.txt").write_bytes(b"")
    assert "left/9.npy: the file is empty" in said(root, SENSOR)
    assert sum(sizes(build(root, SENSOR, "data.on_error=skip"))) == 10


def test_a_setting_that_the_set_hasn_t_is_a_line(tmp_path):
    root = recordings(tmp_path / "root")
    assert "no configuration key 'data.windw'; did you mean 'window'" in said(root, SENSOR, "+data.windw=1s")
