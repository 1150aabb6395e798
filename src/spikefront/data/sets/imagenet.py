"""ImageNet-1K from its usual folders or from WebDataset shards."""

from __future__ import annotations

import filecmp
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset
from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

from spikefront.data.images import Images, Pictures, Source
from spikefront.data.shards import Shards
from spikefront.errors import UserError

PARTS = ("train", "val")
COPIES = 20  # files that are compared to tell whether a part is the other's copy


class Folders:
    """``<root>/<class>/*.JPEG``, the classes numbered in the order of their names: a ``Source`` for ``Images``."""

    def __init__(self, root: Path, classes: Sequence[str]) -> None:
        found = make_dataset(str(root), {name: i for i, name in enumerate(classes)}, IMG_EXTENSIONS, allow_empty=True)
        self.files = np.array([os.fsencode(os.path.relpath(file, root)) for file, _ in found])
        self.labels, self.root = np.array([label for _, label in found], dtype=np.int64), root
        empty = sorted(set(range(len(classes))) - set(self.labels.tolist()))
        if empty:
            raise UserError(f"{root / classes[empty[0]]} holds no image ({', '.join(IMG_EXTENSIONS)})")

    def name(self, index: int) -> str:
        return str(self.root / os.fsdecode(self.files[index]))

    def read(self, index: int) -> bytes:
        return Path(self.name(index)).read_bytes()


class ImageNet(Pictures):
    """ImageNet-1K, or any set laid out as it is; the official validation part is the test.

    Either ``<root>/train/<class>/*.JPEG`` and ``<root>/val/<class>/*.JPEG``, or WebDataset shards
    ``<root>/*train*.tar`` and ``<root>/*val*.tar``.

    Args:
        cache: directory of the shards' index.
    """

    def __init__(self, *, cache: str, **common: object) -> None:
        super().__init__(**common)  # type: ignore[arg-type]
        self.cache = Path(cache).expanduser()

    def _folders(self) -> bool:
        return all((self.root / part).is_dir() for part in PARTS)

    def _shards(self, part: str) -> list[Path]:
        return sorted(self.root.glob(f"*{part}*.tar"))

    def check(self) -> None:
        if not self._folders() and not all(self._shards(part) for part in PARTS):
            raise UserError(
                f"ImageNet is not at {self.root.absolute()}: expected train/<class>/*.JPEG and val/<class>/*.JPEG, or"
                " WebDataset shards *train*.tar and *val*.tar there; set data.root=/path/to/imagenet or IMAGENET_ROOT"
            )

    def _sources(self) -> list[Source]:
        if not self._folders():
            return [Shards(self._shards(part), self.cache, self.num_classes, self.on_error) for part in PARTS]
        _refuse_same(*(self.root / part for part in PARTS))
        names = [{entry.name for entry in os.scandir(self.root / part) if entry.is_dir()} for part in PARTS]
        classes = names[0] & names[1]
        odd = names[0] ^ names[1]
        if odd and (self.on_error == "raise" or len(classes) != self.num_classes):
            only = next(iter(sorted(odd)))
            here, there = PARTS if only in names[0] else PARTS[::-1]
            raise UserError(
                f"{self.root / here / only} is a class that {self.root / there} doesn't have ({len(odd)} such folders):"
                " both need the same; remove it, or leave it out with data.on_error=skip"
            )
        if len(classes) != self.num_classes:
            raise UserError(
                f"{self.root / 'train'} has {len(classes)} class folders, not {self.num_classes}:"
                f" unpack all of them, or set data.num_classes={len(classes)}"
            )
        if odd:
            print(f"spikefront: class folders left out: {', '.join(sorted(odd)[:3])}", file=sys.stderr, flush=True)
        self.classes = sorted(classes)
        train, val = (Folders(self.root / part, sorted(classes)) for part in PARTS)
        _refuse_copies(train, val)
        return [train, val]

    def parts(self) -> tuple[Dataset, Dataset, Dataset]:
        train, test = self._sources()
        training, evaluation = self.transforms()
        skip = self.on_error == "skip"
        kept, held = self.held_out(train.labels)
        test_set = Images(test, range(len(test.labels)), evaluation, skip)
        val_set = Images(train, held, evaluation, skip) if held else test_set
        return Images(train, kept, training, skip, train=True), val_set, test_set


def _refuse_same(train: Path, val: Path) -> None:
    if train.samefile(val):
        raise UserError(f"{train} and {val} are one folder: a test on what was trained on says nothing")


def _refuse_copies(train: Folders, val: Folders) -> None:
    """Refuse a validation part that is the training part again, or some of it, by name and content."""
    if not set(val.files) <= set(train.files):
        return
    looked_at = val.files[:: max(1, len(val.files) // COPIES)]
    names = [os.fsdecode(file) for file in looked_at]
    if all(filecmp.cmp(train.root / name, val.root / name, shallow=False) for name in names):
        raise UserError(f"{val.root} holds the pictures of {train.root}: a test on what was trained on says nothing")
