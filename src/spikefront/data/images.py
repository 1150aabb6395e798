"""Still images: decoding, timm's augmentation, and what an image that can't be decoded does."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from timm.data import create_transform
from timm.data.auto_augment import RandAugment
from torch import Tensor
from torch.utils.data import Dataset

from spikefront.data.base import ImageData
from spikefront.data.decoding import Undecodable, decoded
from spikefront.errors import UserError, near_matches

OPTIONS = set(inspect.signature(create_transform).parameters)


class Source(Protocol):
    """Where encoded images come from: their classes, their names for messages, and their bytes."""

    labels: np.ndarray

    def name(self, index: int) -> str: ...

    def read(self, index: int) -> bytes: ...


class Images(Dataset):
    """Some of a source's images: decoded as RGB, transformed, beside their class.

    An image that can't be decoded raises UserError, or is left out with ``skip``: in training (``train``) the next one
    takes its place, in evaluation its entry is None and the loader drops it.
    """

    def __init__(
        self,
        source: Source,
        indices: Sequence[int],
        transform: Callable[[Image.Image], Tensor],
        skip: bool = False,
        train: bool = False,
    ) -> None:
        self.source, self.indices, self.transform = source, np.asarray(indices), transform
        self.skip, self.train = skip, train
        self._told: set[int] = set()

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, int] | None:
        if index >= len(self):
            raise IndexError(index)
        for step in range(len(self) if self.train else 1):
            at = int(self.indices[(index + step) % len(self)])
            try:
                return self.transform(self._decode(at)), int(self.source.labels[at])
            except Undecodable as error:
                if not self.skip:
                    raise UserError(
                        f"{self.source.name(at)}: {error}; mend or remove it, or leave it out with data.on_error=skip"
                    ) from error
                if at not in self._told:
                    self._told.add(at)
                    print(f"spikefront: {self.source.name(at)} left out: {error}", file=sys.stderr, flush=True)
        if self.train:
            raise UserError(f"no image of the training part can be decoded, {self.source.name(at)} among them")
        return None

    def name(self, index: int) -> str:
        return self.source.name(int(self.indices[index]))

    def _decode(self, at: int) -> Image.Image:
        try:
            return decoded(self.source.read(at))
        except OSError as error:
            raise Undecodable(error.strerror or str(error)) from error


class Pictures(ImageData):
    """Base of the sets of still RGB images.

    Args:
        root: the directory that holds the set.
        mean, std: of the three channels, 0-1.
        augmentation: arguments of timm's ``create_transform`` for training (``scale``, ``ratio``, ``hflip``,
            ``color_jitter``, ``auto_augment``, ``re_prob``, …; ``no_aug: true`` for none), and ``operations``, those of
            RandAugment's that may be drawn, by timm's names; None for all.
        eval_size: side of the images in evaluation, null for ``image_size``.
        crop_pct: in evaluation the image's shorter side becomes ``eval_size / crop_pct``, its centre is cut out.
    """

    def __init__(
        self,
        *,
        root: str,
        mean: Sequence[float],
        std: Sequence[float],
        augmentation: Mapping[str, Any] | None = None,
        interpolation: str = "bicubic",
        eval_size: int | None = None,
        crop_pct: float = 1.0,
        **common: object,
    ) -> None:
        super().__init__(**common)  # type: ignore[arg-type]
        self.root, self.mean, self.std = Path(root).expanduser(), tuple(mean), tuple(std)
        self.augmentation = dict(augmentation or {})
        self.operations: list[str] | None = self.augmentation.pop("operations", None)
        for key in self.augmentation:
            if key not in OPTIONS:
                raise UserError(f"data.augmentation has no '{key}'; {near_matches(key, {*OPTIONS, 'operations'})}")
        self.interpolation, self.crop_pct = interpolation, crop_pct
        self.eval_size = eval_size or self.image_size

    def seen(self, train: bool) -> list[Any]:
        return list(self.transforms()[0 if train else 1].transforms)  # type: ignore[attr-defined]

    def shown(self, path: Path, known: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
        try:
            image = decoded(path.read_bytes())
        except (OSError, Undecodable) as error:
            raise UserError(f"input={path}: {error}") from error
        yield "", self.transforms()[1](image)[None]

    def transforms(self) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
        """Of training and of evaluation: a PIL image to ``(3, side, side)``."""
        common: dict[str, Any] = {"interpolation": self.interpolation, "mean": self.mean, "std": self.std}
        training = create_transform(self.image_size, is_training=True, **{**common, **self.augmentation})
        if self.operations is not None:
            self._restrict(training.transforms, set(self.operations))
        return training, create_transform(self.eval_size, crop_pct=self.crop_pct, **common)

    @staticmethod
    def _restrict(transforms: Sequence[Any], wanted: set[str]) -> None:
        """Leave RandAugment only some of its operations."""
        drawn = next((t for t in transforms if isinstance(t, RandAugment)), None)
        if drawn is None:
            raise UserError(
                "data.augmentation.operations are RandAugment's: give data.augmentation.auto_augment=rand-…"
            )
        known = {op.name for op in drawn.ops}
        if not wanted or (unknown := wanted - known):
            hint = near_matches(min(unknown), known) if wanted else f"some of {', '.join(sorted(known))}"
            raise UserError(f"data.augmentation.operations={sorted(wanted)}: {hint}")
        drawn.ops = [op for op in drawn.ops if op.name in wanted]
