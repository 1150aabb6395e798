"""A user's own folder of pictures: found, split once, trained on, evaluated."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import yaml
from own import picture, pictures

from spikefront.commands.cli import explain
from spikefront.config import compose, override
from spikefront.data import build_data
from spikefront.data.own import card
from spikefront.data.own.samples import find
from spikefront.errors import UserError
from spikefront.nn.checkpoints import read_checkpoint

NAMES = "a [1] 'x'=\"y\" 中文 é.png", os.fsdecode(b"latin \xe9.png"), "no suffix"

MEASURED = "data.normalise=measured"


def cache(root) -> list[str]:
    return [override("data.cache", f"{root.parent}/cache")]


def build(root, *overrides):
    own = [override("data.root", str(root)), *cache(root), "data.num_workers=0", "data.image_size=16"]
    data = build_data(compose(["data=image_folder", *own, *overrides]).data, timesteps=2)
    data.check()
    data.setup()
    return data


def said(root, *overrides) -> str:
    with pytest.raises(Exception) as caught:
        build(root, *overrides)
    line = explain(caught.value)
    assert "\n" not in line and not line.startswith("unexpected")
    return line


def kept(root) -> dict:
    return yaml.safe_load((root / "spikefront.yaml").read_text(encoding="utf-8"))


def look(root, **how):
    return find(root, "pictures", lambda path: path.suffix in (".png", ""), **how)


def test_any_name_is_found_and_what_is_hidden_is_not(tmp_path):
    for folder in ("a=b", "[c]"):
        for name in NAMES:
            shutil.copy(picture(tmp_path / "one.png", 99), _made(tmp_path / "root" / folder) / name)
    (tmp_path / "root" / "a=b" / "deeper").mkdir()
    (tmp_path / "root" / "a=b" / "deeper" / "link.png").symlink_to(tmp_path / "one.png")
    (tmp_path / "root" / "[c]" / "round").symlink_to(tmp_path / "root")
    for junk in (".hidden/x.png", "a=b/.x.png", "a=b/Thumbs.db", "__MACOSX/x.png"):
        shutil.copy(tmp_path / "one.png", _made((tmp_path / "root" / junk).parent) / os.path.basename(junk))
    (tmp_path / "root" / "notes.txt").write_text("x")
    found = look(tmp_path / "root")
    assert found.layout == "class" and found.classes == ["[c]", "a=b"] and found.stray == ["notes.txt"]
    assert sorted(s.file for s in found.samples) == sorted(
        [*(f"{d}/{n}" for d in found.classes for n in NAMES), "a=b/deeper/link.png"]
    )


def _made(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_folders_of_people_are_told_from_folders_of_classes_by_asking_once(tmp_path):
    tmp_path = _made(tmp_path / "root")
    for person in "pqrs":
        pictures(tmp_path / person, 2)
    for p in tmp_path.rglob("*.png"):
        picture(p, 100, hash(p.parts[-3:]) % 1000)
    line = said(tmp_path)
    assert "p/dark and q/dark can be read in two ways" in line and "data.layout=group" in line
    data = build(tmp_path, "data.layout=group")
    assert kept(tmp_path)["layout"] == "group" and data.described()["classes"] == ["dark", "light"]
    again = build(tmp_path)  # the answer is kept
    assert again.described() == data.described()
    people = {
        part: {f.split("/")[0] for f, p in data.parted().parts.items() if p == part}
        for part in ("train", "val", "test")
    }
    assert {p: len(who) for p, who in people.items()} == {"train": 2, "val": 1, "test": 1}
    assert look(tmp_path, layout="class").classes == list("pqrs")


def test_parts_as_folders(tmp_path):
    tmp_path = _made(tmp_path / "root")
    for i, part in enumerate(("Train", "valid", "test")):
        pictures(tmp_path / part, 3, start=3 * i)
    data = build(tmp_path)
    assert [len(x) for x in (data.train_set, data.val_set, data.test_set)] == [6, 6, 6] and data.val_fraction == 0.5
    shutil.rmtree(tmp_path / "test")
    (tmp_path / "spikefront.yaml").unlink()
    assert [len(x) for x in (lambda d: (d.train_set, d.val_set, d.test_set))(build(tmp_path))] == [4, 6, 2]
    shutil.copytree(tmp_path / "Train", tmp_path / "test")
    (tmp_path / "spikefront.yaml").unlink()
    assert "are the same, byte for byte, but in two parts" in said(tmp_path)
    shutil.rmtree(tmp_path / "test")
    (tmp_path / "test").symlink_to(tmp_path / "Train")
    assert "are the same, byte for byte" in said(tmp_path)
    (tmp_path / "test").unlink()
    shutil.rmtree(tmp_path / "valid")
    (tmp_path / "spikefront.yaml").unlink(missing_ok=True)
    data = build(tmp_path, "data.val_fraction=0.5", "data.test_fraction=0.34")  # a training part alone
    assert data.parted().found.layout == "parts" and data.classes == ["dark", "light"]
    pictures(tmp_path / "test", 3, classes=("dark",), start=20)
    assert "the test part has no sample of the class 'light'" in said(tmp_path)


ROWS = "file,label,split,group\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name,kind\n", "holds no CSV with the columns file,label"),
        (ROWS + "\n", "lists no sample"),
        (ROWS + "dark/0.png,a,train\nnope.png,b,test\n", "labels.csv, row 3: nope.png is not in"),
        (ROWS + "dark/0.png,a,train\n../out.png,b,test\n", "labels.csv, row 3: ../out.png lies outside of"),
        (ROWS + "dark/0.png,,train\n", "labels.csv, row 2: the label is empty"),
        (ROWS + "dark/0.png,a,tran\n", "labels.csv, row 2: the split 'tran' is none of train, val, test"),
        (ROWS + "dark/0.png,a\ndark/0.png,b\n", "dark/0.png (row 3) is listed in row 2 already, as 'a'"),
        ("file,label,start\ndark/0.png,a,3\n", "pictures have no start: leave that column out"),
        (ROWS + 'dark/0.png,"a\n', "is no CSV: "),
        (b"file,label\ndark/0.png,\xe9\n", "labels.csv is not UTF-8"),
        (ROWS + "dark/0.png,a\n", "holds one class, 'a'"),
    ],
)
def test_a_table_that_cannot_be_used_is_told_by_row(tmp_path, text, line):
    root = pictures(tmp_path / "root", 2)
    picture(tmp_path / "out.png", 1)
    (root / "labels.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert line in said(root, "data.layout=table")


def test_tables_as_others_write_them(tmp_path):
    root = pictures(tmp_path / "root", 4)
    lines = [
        f"{c}\\{i}.png;{'Nacht' if c == 'dark' else 'Tag'};{'abcd'[i]}" for c in ("dark", "light") for i in range(4)
    ]
    (root / "bilder.csv").write_text("\ufefffile;label;group\r\n" + "\r\n".join(lines), encoding="utf-8")
    found = look(root)
    assert found.layout == "table" and found.classes == ["Nacht", "Tag"] and found.samples[0].file == "dark/0.png"
    assert {s.group for s in found.samples} == set("abcd")
    for part in ("train", "test"):  # Hugging Face's
        pictures(tmp_path / "hf" / part, 2, start=2 * (part == "test"))
        rows = [f"{c}/{i + 2 * (part == 'test')}.png,{c}" for c in ("dark", "light") for i in range(2)]
        (tmp_path / "hf" / part / "metadata.csv").write_text("file_name,label\n" + "\n".join(rows))
    found = look(tmp_path / "hf")
    assert found.layout == "table" and found.parts == {"train", "test"} and len(found.samples) == 8
    assert found.samples[0].file == "test/dark/2.png"


def test_files_that_come_later_move_none_and_names_may_change(tmp_path, capfd):
    root = pictures(tmp_path / "root", 10)
    first = build(root)
    before = first.parted().parts
    text = (root / "spikefront.yaml").read_text().replace("kind:", "# mine\nkind:")
    (root / "spikefront.yaml").write_text(text)
    (root / "dark" / "0.png").rename(root / "dark" / "new name.png")
    pictures(root, 5, start=20)
    capfd.readouterr()
    data = build(root)
    assert "10 new files since the split was drawn" in capfd.readouterr().err
    after = data.parted().parts
    assert after["dark/new name.png"] == before["dark/0.png"]
    assert all(after[f] == part for f, part in before.items() if f != "dark/0.png")
    assert len(data.test_set) == 6 and data.described()["split"] != first.described()["split"]
    assert "# mine" in (root / "spikefront.yaml").read_text()
    capfd.readouterr()
    assert build(root).described() == data.described() and "kept in" not in capfd.readouterr().err
    assert "keeps a split of test_fraction 0.2" in said(root, "data.test_fraction=0.5")
    pictures(root, 3, classes=("grey",))
    assert "'grey' is none of the classes dark, light: add it at the end of `classes` in spikefront.yaml" in said(root)


def test_what_is_kept_of_a_folder_that_cannot_be_written(tmp_path, monkeypatch, capfd):
    root = pictures(tmp_path / "root", 5)
    monkeypatch.setattr(card.os, "access", lambda *_: False)
    first = build(root).described()
    assert not (root / "spikefront.yaml").exists() and f"kept in {tmp_path}/cache" in capfd.readouterr().err
    assert build(root).described() == first


def test_a_card_that_is_broken_says_so(tmp_path):
    root = pictures(tmp_path / "root", 5)
    for text, line in (
        ("a: [", "spikefront.yaml is no YAML"),
        ("classes: [0, 1]", "is no list of names: quote numbers"),
    ):
        (root / "spikefront.yaml").write_text(text)
        assert line in said(root)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["data.root=null"], "data.root is not given"),
        (["data.root=/nope"], "data.root: /nope is not there"),
        (["data.layout=grup"], "data.layout is 'grup'; did you mean 'group'"),
        (["data.table=x.csv"], "data.table=x.csv: there is no such file"),
        (["data.normalise=measure"], "data.normalise is 'measure'; did you mean 'measured'"),
        (["data.std=[1,1,1]"], "data.mean and data.std belong together"),
        (["data.mean=[0,0]", "data.std=[1,1]"], "data.mean is [0, 0]: give three numbers"),
        (["data.num_classes=5"], "has 2 classes, and data.num_classes is 5"),
        (["data.test_fraction=1"], "data.test_fraction is 1"),
    ],
)
def test_wrong_settings_are_one_line(tmp_path, overrides, line):
    assert line in said(pictures(tmp_path / "root", 5), *overrides)


def test_normalisations(tmp_path, capfd):
    root = pictures(tmp_path / "root", 6)
    images = np.stack(
        [x.numpy() for x, _ in build(root, "data.normalise=none", "+data.augmentation.no_aug=true").train_set]
    )
    assert images.min() >= 0 and images.max() <= 1
    data = build(root, "data.normalise=measured", "+data.augmentation.no_aug=true")
    assert np.allclose(data.mean, images.mean((0, 2, 3)), atol=0.02)
    assert "data.normalise=measured: red, green, blue" in capfd.readouterr().err
    pictures(root, 9, classes=("dark",), start=50)
    assert build(root, "data.normalise=measured").mean == data.mean  # later pictures are seen as the first were


def briefly(root):
    """Overrides that train a very small network on a folder for an epoch."""
    own = ["data=image_folder", override("data.root", str(root)), *cache(root), "data.num_workers=0"]
    small = ["data.image_size=16", "model=sdt_1_16", "model.timesteps=2"]
    return [*own, *small, "trainer=cpu", "trainer.max_epochs=1", "logger=none"]


def test_from_a_folder_to_a_result(script, tmp_path):
    root = pictures(tmp_path / "my = [pics], 中文", 8)
    code, _, err = script("train", *briefly(root), f"hydra.run.dir={tmp_path}/run")
    assert code == 0, err
    result = json.loads((tmp_path / "run/result.json").read_text())["data"]
    confused = json.loads((tmp_path / "run/confusion.json").read_text())
    assert confused["classes"] == result["classes"] and sum(map(sum, confused["matrix"])) == confused["samples"] == 4
    assert result["classes"] == ["dark", "light"] and result["samples"] == {"test": 4, "train": 10, "val": 2}
    checkpoint = tmp_path / "run/checkpoints/last.ckpt"
    assert read_checkpoint(str(checkpoint))["ImageFolder"]["split"] == result["split"]
    code, _, err = script("evaluate", f"checkpoint={checkpoint}", f"hydra.run.dir={tmp_path}/e")
    assert code == 0, err
    assert json.loads((tmp_path / "e/result.json").read_text())["data"] == result


def test_a_network_names_the_class_of_a_new_picture(script, tmp_path):
    root = pictures(tmp_path / "root", 8)
    code, _, err = script("train", *briefly(root), "data.normalise=measured", f"hydra.run.dir={tmp_path}/run")
    assert code == 0, err
    shutil.rmtree(root)  # the checkpoint knows enough
    new, checkpoint = picture(tmp_path / "new [1] 中.png", 180), f"checkpoint={tmp_path}/run/checkpoints/last.ckpt"
    code, out, err = script("evaluate", checkpoint, override("input", str(new)), f"hydra.run.dir={tmp_path}/e")
    assert code == 0, err
    (answer,) = json.loads((tmp_path / "e/answers.json").read_text())
    assert answer["label"] in ("dark", "light") and answer["label"] in out and answer["energy_joules"] > 0
    assert answer["probability"] + sum(answer["others"].values()) == pytest.approx(1)
    (tmp_path / "bad.png").write_bytes(b"x")
    for name, line in (("bad.png", "bad.png: not an image"), ("none.png", "there is no such file")):
        code, _, err = script("evaluate", checkpoint, f"input={tmp_path}/{name}")
        assert code == 1 and line in err


def test_a_training_part_is_no_test(tmp_path):
    from layouts import image_folders

    root = image_folders(tmp_path / "in1k")
    shutil.rmtree(root / "val")
    for make, line in (
        (lambda: (root / "val").symlink_to(root / "train"), "are one folder"),
        (_copied(root), "holds the pictures of"),
    ):
        make()
        common = ["data=imagenet", "data.num_classes=2", f"data.root={root}", f"data.cache={tmp_path}/cache"]
        data = build_data(compose(common).data, timesteps=2)
        with pytest.raises(UserError, match=line):
            data.setup()


def _copied(root):
    def copy():
        (root / "val").unlink()
        shutil.copytree(root / "train", root / "val")

    return copy
