"""CIFAR and ImageNet from their real layouts, through the normal commands; timm's augmentation; mixup."""

from __future__ import annotations

import json
import tarfile

import numpy as np
import pytest
import torch
from examples import few
from layouts import cifar, image_folders, shards
from torchvision.datasets import CIFAR10, CIFAR100

from spikefront.config import compose
from spikefront.data import build_data

SMALL = [
    "model=sdt_1_16",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "data.batch_size=4",
    "data.num_workers=0",
    "model.timesteps=2",
    "logger=none",
]


def build(*overrides):
    data = build_data(compose([*SMALL, "data.val_fraction=0", *overrides]).data, timesteps=2)
    data.check()
    data.setup()
    return data


@pytest.mark.parametrize("dataset", few([CIFAR10, CIFAR100]))
def test_cifar_trains_an_epoch(script, tmp_path, monkeypatch, dataset):
    cifar(tmp_path, dataset, monkeypatch)
    overrides = [
        f"data={dataset.__name__.lower()}",
        f"data.root={tmp_path}",
        "data.download=false",
        "data.val_fraction=0.25",
    ]
    code, _, err = script("train", *SMALL, *overrides, f"hydra.run.dir={tmp_path}/run")
    assert code == 0, err
    assert json.loads((tmp_path / "run/result.json").read_text())["samples"] == 8


@pytest.mark.parametrize("layout", [image_folders, shards])
def test_imagenet_trains_an_epoch(script, tmp_path, layout):
    root = layout(tmp_path / "in1k")
    code, _, err = script(
        "train",
        *SMALL,
        "data=imagenet",
        f"data.root={root}",
        f"data.cache={tmp_path}/cache",
        "data.num_classes=2",
        "data.image_size=32",
        "data.eval_size=48",
        "data.val_fraction=0.25",
        "data.repeats=2",
        f"hydra.run.dir={tmp_path}/run",
    )
    assert code == 0, err
    assert json.loads((tmp_path / "run/result.json").read_text())["samples"] == 4


def test_shards_hold_what_folders_hold(tmp_path):
    """Same images, same classes, same order: the layout makes no difference."""
    image_folders(tmp_path / "folders")
    (tmp_path / "shards").mkdir()
    for part, name in (("train", "x-train-0"), ("val", "x-val-0")):
        with tarfile.open(tmp_path / f"shards/{name}.tar", "w") as tar:
            for c, folder in enumerate(sorted((tmp_path / "folders" / part).iterdir())):
                (tmp_path / "cls").write_text(str(c))
                for file in sorted(folder.iterdir()):
                    tar.add(file, f"{file.stem}.jpg")
                    tar.add(tmp_path / "cls", f"{file.stem}.cls")
    common = ["data=imagenet", "data.num_classes=2", "data.image_size=32", f"data.cache={tmp_path}/cache"]
    a, b = (build(*common, f"data.root={tmp_path}/{kind}", "data.val_fraction=0.25") for kind in ("folders", "shards"))
    assert len(a.train_set) == len(b.train_set) == 6
    assert len(a.val_set) == len(b.val_set) == 2
    for part in ("val_set", "test_set"):
        for x, y in zip(getattr(a, part), getattr(b, part), strict=True):
            torch.testing.assert_close(x, y)
    for x, y in zip(a.train_dataloader(), b.train_dataloader(), strict=True):
        torch.testing.assert_close(x, y)


def test_the_index_of_shards_is_made_once_and_again_when_damaged(tmp_path, capfd):
    root = shards(tmp_path / "in1k")
    common = ["data=imagenet", "data.num_classes=2", f"data.root={root}", f"data.cache={tmp_path}/cache"]
    labels = build(*common).test_set.source.labels
    (index, other) = sorted((tmp_path / "cache").glob("*.npz"))
    made = index.stat().st_mtime_ns
    build(*common)
    assert index.stat().st_mtime_ns == made
    index.write_bytes(index.read_bytes()[:50])
    other.write_bytes(b"")
    np.testing.assert_array_equal(build(*common).test_set.source.labels, labels)
    assert capfd.readouterr().err.count("damaged") == 2


def test_augmentation_is_timms_and_a_wrong_option_is_one_line(tmp_path):
    from spikefront.commands.cli import explain

    common = ["data=imagenet", "data.num_classes=2", f"data.root={image_folders(tmp_path)}", "data.image_size=32"]
    erased = build(*common, "data.augmentation.re_prob=1.0").train_set.transform.transforms
    names = [type(t).__name__ for t in erased]
    assert names[0] == "RandomResizedCropAndInterpolation"
    assert "RandAugment" in names
    assert names[-1] == "RandomErasing"
    with pytest.raises(Exception) as caught:
        build(*common, "+data.augmentation.hflipp=0.5")
    assert "no 'hflipp'; did you mean 'hflip'" in explain(caught.value)


def test_repeated_augmentation_shows_a_sample_several_times_in_one_batch(tmp_path):
    root = image_folders(tmp_path, train=8)
    data = build("data=imagenet", "data.num_classes=2", f"data.root={root}", "data.image_size=32", "data.repeats=2")
    images, labels = next(iter(data.train_dataloader()))
    assert labels[0] == labels[1] and labels[2] == labels[3]
    assert not torch.equal(images[0], images[1])
    assert len(data.train_dataloader()) == len(data.train_set) // 4


class Trainer:
    training = True

    def __init__(self, epoch: int) -> None:
        self.current_epoch = epoch


@pytest.mark.parametrize("shape", [(4, 3, 8, 8), (4, 5, 2, 8, 8)])
def test_mixup_mixes_pairs_until_its_epoch(shape):
    cfg = compose(["data=cifar10"]).data
    cfg.mixup = {"_target_": "timm.data.Mixup", "mixup_alpha": 0.5, "label_smoothing": 0, "num_classes": 10}
    cfg.mixup_off_epoch = 3
    data = build_data(cfg, timesteps=2)
    images, target = torch.rand(shape), torch.tensor([1, 2, 3, 4])
    data.trainer = Trainer(2)
    mixed, probabilities = data.on_after_batch_transfer((images.clone(), target), 0)
    share = float(probabilities[0, 1])
    assert mixed.shape == images.shape
    assert 0 < share < 1
    torch.testing.assert_close(probabilities.sum(1), torch.ones(4))
    torch.testing.assert_close(mixed[0], share * images[0] + (1 - share) * images[3])
    data.trainer = Trainer(3)
    after = data.on_after_batch_transfer((images, target), 0)
    assert after[0] is images and after[1] is target
    data.trainer.training, data.trainer.current_epoch = False, 0
    assert data.on_after_batch_transfer((images, target), 0)[1] is target


@pytest.mark.parametrize("workers", few([2, 0]))
def test_a_bad_image_stops_the_run_or_is_left_out(script, tmp_path, workers):
    root = image_folders(tmp_path / "in1k")
    bad = root / "train/n01440764/n01440764_1.JPEG"
    bad.write_bytes(bad.read_bytes()[:400])
    (root / "val/n01443537/n01443537_0.JPEG").write_bytes(b"")
    common = [*SMALL, "data=imagenet", f"data.root={root}", "data.num_classes=2", "data.image_size=32"]
    common += ["data.val_fraction=0", f"data.num_workers={workers}", f"hydra.run.dir={tmp_path}/run"]
    code, _, err = script("train", *common)
    assert code == 1
    (line,) = err.strip().splitlines()
    assert line.startswith(f"spikefront: {bad}: ") and line.endswith("data.on_error=skip")
    code, _, err = script("train", *common, "data.on_error=skip")
    assert code == 0, err
    assert f"{bad} left out: " in err
    assert json.loads((tmp_path / "run/result.json").read_text())["samples"] == 3
