"""The embedded data sets: scikit-learn's handwritten digits, as images and as an event stream."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import Dataset, TensorDataset

from spikefront.data.base import ImageData
from spikefront.data.cache import Recording
from spikefront.data.events import EventData
from spikefront.data.saccades import record

TEST_SAMPLES = 360
SPLIT_SEED = 0  # the test part is the same for everyone, whatever data.seed draws the validation part


def digits_split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images ``(1797, 8, 8)`` in 0-1, labels, and the fixed stratified training (1,437) and test (360) indices."""
    bunch = load_digits()
    train, test = train_test_split(
        np.arange(len(bunch.target)), test_size=TEST_SAMPLES, stratify=bunch.target, random_state=SPLIT_SEED
    )
    return (bunch.images / 16).astype(np.float32), bunch.target, np.sort(train), np.sort(test)


class Shifted(Dataset):
    """Training images moved by up to ``pixels`` in each direction, a fresh draw each time."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, pixels: int) -> None:
        self.images, self.labels, self.pixels = images, labels, pixels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        p = self.pixels
        dy, dx = torch.randint(0, 2 * p + 1, (2,)).tolist()
        padded = torch.nn.functional.pad(self.images[index], (p, p, p, p))
        size = self.images.shape[-1]
        return padded[..., dy : dy + size, dx : dx + size], self.labels[index]


class Digits(ImageData):
    """1,797 handwritten digits of 8x8 grey values (UCI Optical Recognition, via scikit-learn), fixed split."""

    classes = tuple(map(str, range(10)))

    def __init__(self, *, shift: int = 1, **common: object) -> None:
        super().__init__(**common)  # type: ignore[arg-type]
        self.shift = shift

    def seen(self, train: bool) -> list[str]:
        return [f"shifts of up to {self.shift} pixels"] if train else []

    def parts(self) -> tuple[Dataset, Dataset, Dataset]:
        images, labels, train, test = digits_split()
        x, y = torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels).long()
        if self.image_size != x.shape[-1]:
            size = (self.image_size, self.image_size)
            x = torch.nn.functional.interpolate(x, size, mode="bilinear", antialias=True)
        kept, held = self.held_out(labels[train])
        test_set = TensorDataset(x[test], y[test])
        val_set = TensorDataset(x[train[held]], y[train[held]]) if held else test_set
        return Shifted(x[train[kept]], y[train[kept]], self.shift), val_set, test_set


class DigitsDVS(EventData):
    """The same digits seen by an event camera: each moved along N-MNIST's three micro-saccades.

    Args:
        threshold: change of log-intensity that makes an event.
    """

    classes = tuple(map(str, range(10)))

    def __init__(self, *, threshold: float = 0.3, **common: object) -> None:
        super().__init__(**common)  # type: ignore[arg-type]
        self.threshold = threshold

    def recordings(self) -> Sequence[Recording]:
        _, labels, _, test = digits_split()
        tested = set(test.tolist())
        return [
            Recording(
                f"digit {i} at threshold {self.threshold}",
                int(label),
                "test" if i in tested else "train",
                partial(_recorded, i, self.threshold, self.sensor),
            )
            for i, label in enumerate(labels)
        ]


@cache
def _all_recorded(threshold: float, sensor: tuple[int, int]) -> list[np.ndarray]:
    return record(digits_split()[0], sensor, threshold)


def _recorded(index: int, threshold: float, sensor: tuple[int, int]) -> np.ndarray:
    return _all_recorded(threshold, sensor)[index]
