"""The third table's data: which way up a patch of a photograph is (RotNet, arXiv 1803.07728), from embedded photos.

Of other character than the digits: natural colour images of which many have no upright, so that no network gets near
100 % and most of an accuracy is luck of the seed; four classes; a training part that is soon known by heart.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_sample_images
from torch.utils.data import Dataset, TensorDataset

from spikefront.data import ImageData
from spikefront.data.sets.digits import Shifted

BLOCK = 32  # pixels of a photo's side that a patch is the mean of, two by two


class RotatedPatches(ImageData):
    """Blocks of scikit-learn's two photographs, 16x16x3, none overlapping, each turned by 0, 90, 180 and 270 degrees.

    A block is of one part, with all four of its turns: 312 blocks for training, 104 each for validation and test.
    """

    classes = ("0", "90", "180", "270")

    def __init__(self, *, shift: int = 1, **common: object) -> None:
        super().__init__(**common)  # type: ignore[arg-type]
        self.shift = shift

    def parts(self) -> tuple[Dataset, Dataset, Dataset]:
        blocks = np.concatenate([_blocks(photo) for photo in load_sample_images().images])
        order = np.random.default_rng(self.seed).permutation(len(blocks))
        ends = [len(order) * 3 // 5, len(order) * 4 // 5]
        train, val, test = (_turned(blocks[part]) for part in np.split(order, ends))
        return Shifted(*train, self.shift), TensorDataset(*val), TensorDataset(*test)


def _blocks(photo: np.ndarray) -> np.ndarray:
    """``(H, W, 3)`` bytes as ``(blocks, 3, 16, 16)`` in 0-1; what is left over at the right and below is left out."""
    rows, columns = photo.shape[0] // BLOCK, photo.shape[1] // BLOCK
    kept = photo[: rows * BLOCK, : columns * BLOCK].astype(np.float32) / 255
    small = kept.reshape(rows, BLOCK // 2, 2, columns, BLOCK // 2, 2, 3).mean((2, 5))
    return small.transpose(0, 2, 4, 1, 3).reshape(rows * columns, 3, BLOCK // 2, BLOCK // 2)


def _turned(blocks: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    turned = np.concatenate([np.rot90(blocks, k, axes=(2, 3)) for k in range(4)])
    return torch.from_numpy(turned.copy()), torch.arange(4).repeat_interleave(len(blocks))
