"""Tiny data sets in the real on-disk layouts."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int, size: tuple[int, int] = (40, 36), kind: str = "JPEG") -> bytes:
    """An encoded image."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def image_folders(root: Path, classes=("n01440764", "n01443537"), train: int = 4, val: int = 2) -> Path:
    """ImageNet's folders: ``train/<class>/*.JPEG`` and ``val/<class>/*.JPEG``."""
    for part, count in (("train", train), ("val", val)):
        for c, name in enumerate(classes):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{name}_{i}.JPEG").write_bytes(picture(100 * c + i))
    return root


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def shards(root: Path, classes: int = 2, train: int = 2, each: int = 4) -> Path:
    """WebDataset shards of ``.jpg`` and ``.cls``, named as timm's copy of ImageNet names them."""
    root.mkdir(parents=True, exist_ok=True)
    names = [f"imagenet1k-train-{i:04d}.tar" for i in range(train)] + ["imagenet1k-validation-00.tar"]
    for s, name in enumerate(names):
        with tarfile.open(root / name, "w") as tar:
            for i in range(each):
                add(tar, f"{s:04d}{i:05d}.jpg", picture(10 * s + i))
                add(tar, f"{s:04d}{i:05d}.cls", str(i % classes).encode())
    return root


def cifar(root: Path, dataset: type, monkeypatch, each: int = 8) -> Path:
    """CIFAR's pickles. The published MD5 sums are replaced by those of the tiny files, so that they are checked."""
    folder = root / dataset.base_folder
    folder.mkdir(parents=True)
    fine = "100" in dataset.__name__

    def write(name: str, content: dict) -> list[str]:
        raw = pickle.dumps(content, protocol=2)
        (folder / name).write_bytes(raw)
        return [name, hashlib.md5(raw).hexdigest()]

    def batch(name: str, seed: int) -> list[str]:
        data = np.random.default_rng(seed).integers(0, 256, (each, 3072), dtype=np.uint8)
        return write(name, {"data": data, "fine_labels" if fine else "labels": [i % 2 for i in range(each)]})

    monkeypatch.setattr(dataset, "train_list", [batch(name, i) for i, (name, _) in enumerate(dataset.train_list)])
    monkeypatch.setattr(dataset, "test_list", [batch(name, 9) for name, _ in dataset.test_list])
    meta = dict(dataset.meta)
    _, meta["md5"] = write(meta["filename"], {meta["key"]: [f"class {i}" for i in range(100 if fine else 10)]})
    monkeypatch.setattr(dataset, "meta", meta)
    return root
