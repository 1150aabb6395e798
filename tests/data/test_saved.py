"""A directory that Hugging Face's ``datasets`` saved, as a folder of pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from spikefront.commands.cli import explain
from spikefront.config import compose
from spikefront.data import build_data

datasets = pytest.importorskip("datasets")

CLASSES = ["dark", "light"]


def rows(count: int, **columns) -> dict:
    """As many pictures, dark and light in turn."""
    rng = np.random.default_rng(count)
    pixels = [rng.integers(20 + 150 * (i % 2), 80 + 150 * (i % 2), (9, 8, 3)) for i in range(count)]
    return {
        "image": [Image.fromarray(p.astype(np.uint8)) for p in pixels],
        "label": [i % 2 for i in range(count)],
        **columns,
    }


def dataset(content, **features) -> datasets.Dataset:
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES), **features}
    return datasets.Dataset.from_dict(content, features=datasets.Features(kinds))


def build(root, *overrides):
    own = [f"data.root={root}", f"data.cache={root.parent}/cache", "data.num_workers=0", "data.image_size=8"]
    data = build_data(compose(["data=image_folder", *own, *overrides]).data, timesteps=2)
    data.setup()
    return data


def said(root) -> str:
    with pytest.raises(Exception) as caught:
        build(root)
    line = explain(caught.value)
    assert "\n" not in line and not line.startswith("unexpected")
    return line


def test_one_is_split_and_kept_as_a_folder_is(tmp_path, capfd):
    dataset(rows(20)).save_to_disk(tmp_path / "saved")
    data = build(tmp_path / "saved")
    assert [len(x) for x in (data.train_set, data.val_set, data.test_set)] == [12, 4, 4]
    assert data.classes == CLASSES and data.num_classes == 2
    assert "unpacking" in capfd.readouterr().err
    for part in (data.train_set, data.test_set):
        for image, label in (part[i] for i in range(len(part))):
            assert (image.mean() > 0) == bool(label)
    assert (tmp_path / "saved/spikefront.yaml").exists()  # what is known of it, in it
    before = data.described()["split"]
    assert build(tmp_path / "saved").described()["split"] == before
    assert "unpacking" not in capfd.readouterr().err


def test_rows_that_come_later_leave_the_others_where_they_were(tmp_path):
    first = rows(20)
    dataset(first).save_to_disk(tmp_path / "saved")
    before = build(tmp_path / "saved").parted().parts
    more = rows(30)
    both = {key: first[key] + more[key] for key in first}
    dataset(both).save_to_disk(tmp_path / "saved")
    after = build(tmp_path / "saved").parted().parts
    assert len(after) == 50 and {file: after[file] for file in before} == before


def test_splits_are_parts(tmp_path):
    parts = {"train": dataset(rows(12)), "validation": dataset(rows(4)), "test": dataset(rows(6))}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    data = build(tmp_path / "saved")
    assert [len(x) for x in (data.train_set, data.val_set, data.test_set)] == [12, 4, 6]
    datasets.DatasetDict(parts | {"extra": dataset(rows(2))}).save_to_disk(tmp_path / "other")
    assert "split 'extra' is none of train, validation, test" in said(tmp_path / "other")


def test_the_files_are_kept_byte_for_byte(tmp_path):
    Image.new("RGB", (9, 9), "red").save(tmp_path / "photo.jpg", quality=71)
    content = rows(8)
    content["image"][0] = str(tmp_path / "photo.jpg")
    dataset(content).save_to_disk(tmp_path / "saved")
    data = build(tmp_path / "saved", "data.test_fraction=0.25", "data.val_fraction=0.34")
    assert (data.root / "0000000.jpeg").read_bytes() == (tmp_path / "photo.jpg").read_bytes()


@pytest.mark.parametrize(
    ("content", "features", "message"),
    [
        (
            rows(4, coarse=[0, 0, 1, 1]),
            {"coarse": datasets.ClassLabel(names=["a", "b"])},
            "2 columns of labels, label and coarse",
        ),
        (rows(4) | {"label": [0, 1, -1, 1]}, {}, "row 2 has no label"),
        ({"label": [0, 1]}, {"image": None}, "no column of pictures among label"),
    ],
)
def test_what_can_t_be_told_is_said(tmp_path, content, features, message):
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES), **features}
    kinds = {name: kind for name, kind in kinds.items() if kind is not None}
    datasets.Dataset.from_dict(content, features=datasets.Features(kinds)).save_to_disk(tmp_path / "saved")
    assert message in said(tmp_path / "saved")
    assert not list(tmp_path.glob("cache/folders/*-saved"))


def test_names_instead_of_numbers(tmp_path):
    content = rows(10) | {"label": ["b" if i % 2 else "a" for i in range(10)]}
    dataset(content, label=datasets.Value("string")).save_to_disk(tmp_path / "saved")
    assert build(tmp_path / "saved").classes == ["a", "b"]


def test_a_damaged_one_is_a_line(tmp_path):
    dataset(rows(10)).save_to_disk(tmp_path / "saved")
    (arrow,) = (tmp_path / "saved").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:100])
    assert "saved can't be read by datasets" in said(tmp_path / "saved")


def test_data_looks_at_it(tmp_path, script, monkeypatch):
    monkeypatch.setenv("SPIKEFRONT_CACHE", str(tmp_path / "cache"))
    dataset(rows(20)).save_to_disk(tmp_path / "saved")
    code, out, _ = script("data", str(tmp_path / "saved"))
    assert code == 0 and f"{tmp_path}/saved: 20 pictures" in out
    assert "  dark   " in out and f"data.root={tmp_path}/saved" in out
    assert (tmp_path / "saved/spikefront.png").exists()
    code, out, _ = script("data", str(tmp_path / "saved"), "format=json")
    entries = json.loads(out)
    assert code == 0 and sum(e.get("format") == "PNG" for e in entries) == 20
