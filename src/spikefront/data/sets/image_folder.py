"""A user's own folder of pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.utilities import rank_zero_only
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor
from torch.utils.data import Dataset

from spikefront.data.decoding import Undecodable, decoded, frames
from spikefront.data.images import Images, Pictures
from spikefront.data.own.card import Card
from spikefront.data.own.folder import Asked, Parted, say
from spikefront.data.own.folder_set import FolderSet
from spikefront.data.own.rows import Sample
from spikefront.errors import UserError, near_matches

SCALES: dict[str, tuple[Sequence[float], Sequence[float]]] = {
    "imagenet": (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
MEASURED = "measured"
LOOKED_AT = 1000  # training pictures, for their mean and deviation


class Listed:
    """Pictures of a folder: a ``Source`` for ``Images``."""

    def __init__(self, root: Path, samples: Sequence[Sample], classes: Sequence[str]) -> None:
        numbers = {name: i for i, name in enumerate(classes)}
        self.root, self.files = root, [s.file for s in samples]
        self.labels = np.array([numbers[s.label] for s in samples], dtype=np.int64)

    def name(self, index: int) -> str:
        return str(self.root / self.files[index])

    def read(self, index: int) -> bytes:
        return Path(self.name(index)).read_bytes()


class ImageFolder(FolderSet, Pictures):
    """Pictures of a user's own: ``<class>/*``, ``{train,val,test}/<class>/*``, ``<group>/<class>/*`` or a table.

    Any kind of picture that Pillow reads, by any name; see ``decoding`` for what becomes of it. The parts are drawn
    once and kept in ``spikefront.yaml`` (see ``card``).

    Args:
        layout: how the folder is to be read, one of ``samples.LAYOUTS``.
        table: a CSV in it that lists the samples.
        test_fraction: share of all, by class and with groups kept together, where the folder names no test part.
        normalise: what the network sees of a channel's values from 0 to 1: ``imagenet`` or ``half``, less a mean and
            divided by a deviation that are the same for all sets; ``measured``, by those of the training part, which
            are kept; ``none``. ``mean`` and ``std`` take its place.
        cache: where it is kept what is in which file, and all where the folder can't be written.
    """

    def __init__(
        self,
        *,
        root: str,
        cache: str,
        layout: str = "auto",
        table: str | None = None,
        test_fraction: float = 0.2,
        normalise: str = "imagenet",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        **common: Any,
    ) -> None:
        if (mean is None) != (std is None):
            raise UserError("data.mean and data.std belong together: give both, or data.normalise")
        if normalise not in (*SCALES, MEASURED):
            raise UserError(f"data.normalise is {normalise!r}; {near_matches(str(normalise), [*SCALES, MEASURED])}")
        self.lies_in(Asked(root, "pictures", layout, table, cache), test_fraction)
        self.normalise = "given" if mean is not None else normalise
        if mean is None or std is None:
            mean, std = SCALES.get(normalise, SCALES["none"])
        for key, values in (("mean", mean), ("std", std)):
            if len(values) != 3 or (key == "std" and min(values) <= 0):
                raise UserError(f"data.{key} is {list(values)}: give three numbers" + ", above 0" * (key == "std"))
        super().__init__(root=str(self.asked.files), mean=mean, std=std, **common)

    def prepare_data(self) -> None:
        self.parted()

    def described(self) -> dict[str, Any]:
        if self._parted is None:
            return {}
        scale = {"normalise": self.normalise, "mean": list(self.mean), "std": list(self.std)}
        return {"kind": "pictures", **self._parted.described(), **scale}

    def shown(self, path: Path, known: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
        if self.normalise == MEASURED and known:
            self.mean, self.std = tuple(known["mean"]), tuple(known["std"])
        yield from super().shown(path, known)

    def parts(self) -> tuple[Dataset, Dataset, Dataset]:
        whole = self.parted()
        train, val, test = (Listed(self.root, whole.of(part), whole.found.classes) for part in ("train", "val", "test"))
        if val.files and "val" in whole.found.parts:
            self.val_fraction = len(val.files) / (len(val.files) + len(train.files))
        if self.normalise == MEASURED:
            self.mean, self.std = self._measured(train)
        shown = ", ".join(f"{m:.3g}±{s:.3g}" for m, s in zip(self.mean, self.std, strict=True))
        rank_zero_only(say)([f"data.normalise={self.normalise}: red, green, blue {shown}"])
        training, evaluation = self.transforms()
        skip = self.on_error == "skip"
        sets = [Images(source, range(len(source.files)), evaluation, skip) for source in (val, test)]
        train_set = Images(train, range(len(train.files)), training, skip, train=True)
        return train_set, sets[0] if val.files else sets[1], sets[1]

    def remarks(self, whole: Parted) -> list[str]:
        """A line where pictures move."""
        gifs = [s.file for s in whole.found.samples if s.file.casefold().endswith(".gif")]
        moving = [file for file in gifs if frames((self.root / file).read_bytes()) > 1]
        if not moving:
            return []
        return [f"{len(moving)} animated pictures, {moving[0]} among them: the first frame of each is taken"]

    def _measured(self, train: Listed) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of each channel of the training part, as they were kept the first time."""
        card = Card(self.asked.place, self.asked.kept)
        if kept := card.kept.get(MEASURED):
            return tuple(kept["mean"]), tuple(kept["std"])
        sums, squares, looked_at = np.zeros(3), np.zeros(3), 0
        for index in range(0, len(train.files), max(1, len(train.files) // LOOKED_AT)):
            try:
                image = decoded(train.read(index))
            except Undecodable:
                continue  # what it does is said when it is to be trained on
            image.thumbnail((256, 256))
            values = np.asarray(image, np.float64).reshape(-1, 3) / 255
            sums, squares, looked_at = sums + values.mean(0), squares + (values**2).mean(0), looked_at + 1
        if not looked_at:
            raise UserError(f"{self.root}: no picture of the training part can be decoded, {train.name(0)} among them")
        mean = sums / looked_at
        std = np.sqrt(np.maximum(squares / looked_at - mean**2, 1e-6))
        found = {"mean": mean.round(4).tolist(), "std": std.round(4).tolist(), "pictures": looked_at}
        card.write({}, {**card.kept, MEASURED: found})
        return tuple(found["mean"]), tuple(found["std"])
