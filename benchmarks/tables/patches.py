"""The third table's data: which third of which photograph a patch is from, of two that scikit-learn has embedded.

Of other character than the digits: natural colour textures, turned at will, of which many could be from either of two
places. No network gets near 100 % (200 randomised trees on the pixels: 70 %, on the mean colours alone: 57 %), a cheap
one soon gets far by colours, and more of an accuracy is luck of the seed.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_sample_images
from torch.utils.data import Dataset, TensorDataset

from spikefront.data import ImageData
from spikefront.data.sets.digits import Shifted

BLOCK = 32  # pixels of a photo's side that a patch is of, each of its own the mean of two by two
THIRDS = 3  # of a photograph's height


class PhotoPatches(ImageData):
    """Blocks of two photographs, 16x16x3, none overlapping, each as it is and turned by 90, 180 and 270 degrees.

    A block is of one part, with all four of its turns: 312 blocks for training, 104 each for validation and test.
    """

    classes = tuple(f"{photo}, {third}" for photo in ("china", "flower") for third in ("top", "middle", "bottom"))

    def __init__(self, *, shift: int = 1, **common: object) -> None:
        super().__init__(**common)  # type: ignore[arg-type]
        self.shift = shift

    def parts(self) -> tuple[Dataset, Dataset, Dataset]:
        cut = [_blocks(photo) for photo in load_sample_images().images]
        blocks = np.concatenate([b for b, _ in cut])
        places = np.concatenate([THIRDS * i + third for i, (_, third) in enumerate(cut)])
        order = np.random.default_rng(self.seed).permutation(len(blocks))
        ends = [len(order) * 3 // 5, len(order) * 4 // 5]
        train, val, test = (_turned(blocks[part], places[part]) for part in np.split(order, ends))
        return Shifted(*train, self.shift), TensorDataset(*val), TensorDataset(*test)


def _blocks(photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(H, W, 3)`` bytes as ``(blocks, 3, 16, 16)`` in 0-1, with their thirds; a rest at the edges is left out."""
    rows, columns = photo.shape[0] // BLOCK, photo.shape[1] // BLOCK
    kept = photo[: rows * BLOCK, : columns * BLOCK].astype(np.float32) / 255
    small = kept.reshape(rows, BLOCK // 2, 2, columns, BLOCK // 2, 2, 3).mean((2, 5))
    blocks = small.transpose(0, 2, 4, 1, 3).reshape(rows * columns, 3, BLOCK // 2, BLOCK // 2)
    return blocks, np.repeat(np.arange(rows) * THIRDS // rows, columns)


def _turned(blocks: np.ndarray, places: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    turned = np.concatenate([np.rot90(blocks, k, axes=(2, 3)) for k in range(4)])
    return torch.from_numpy(turned.copy()), torch.from_numpy(np.tile(places, 4)).long()
