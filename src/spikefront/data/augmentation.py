"""Augmentation of event recordings: one draw a sample, the same at every timestep."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from tonic.functional import drop_event_numpy
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandomErasing
from torchvision.transforms import functional as TF

from spikefront.errors import UserError

SHEAR = math.degrees(0.3)
ERASE = RandomErasing(p=1.0, scale=(0.001, 0.11), ratio=(1.0, 1.0))


class EventAugmentation:
    """Flips, rolls, event-drop, cutout and NDA.

    Args:
        flip: probability of a horizontal flip.
        roll: pixels of the network's input by which a sample is rolled at most, in each direction.
        drop: events are dropped with a share drawn from 0 to this (event-drop, arXiv 2106.05836).
        cutout: side of a square of zeros at a random place, in pixels; 0 for none (arXiv 1708.04552).
        nda: after the flip, one of roll, rotation, cutout, shear or nothing, drawn with equal chance
            (Neuromorphic Data Augmentation, arXiv 2203.06145, section 3.2).
        wide: after the flip, one of six drawn with equal chance, each up to its full strength: nothing, shear along x
            by 0.3 rad, a shift along x or y by 5 pixels, rotation by 30 degrees, a square of 0.1 to 11 % erased
            (as Spikformer, arXiv 2209.15425, and those after it train on events).
        thirds: after the flip, one of three drawn with equal chance: a roll by up to a third of the side in each
            direction, rotation by up to 30 degrees, a square of a third of the side cut out around any point
            (as SpikingResformer, arXiv 2403.14302, trains on events).
    """

    def __init__(
        self,
        flip: float = 0.0,
        roll: int = 0,
        drop: float = 0.0,
        cutout: int = 0,
        nda: bool = False,
        wide: bool = False,
        thirds: bool = False,
    ) -> None:
        for key, share in (("flip", flip), ("drop", drop)):
            if not (isinstance(share, int | float) and 0 <= share <= 1):
                raise UserError(f"data.augmentation.{key} is {share}: give a number from 0 to 1")
        if nda + wide + thirds > 1:
            raise UserError("data.augmentation.nda, wide and thirds each draw one of several: choose one")
        self.flip, self.roll, self.drop, self.cutout = flip, roll, drop, cutout
        self.nda, self.wide, self.thirds = nda, wide, thirds

    def __repr__(self) -> str:
        given = [f"{k}={v}" for k, v in vars(self).items() if v]
        return f"{type(self).__name__}({', '.join(given)})" if given else "no augmentation"

    def events(self, events: np.ndarray) -> np.ndarray:
        """Before binning: drops events."""
        if not self.drop:
            return events
        kept = drop_event_numpy(events, self.drop * float(torch.rand(())))
        return kept if len(kept) else events

    def frames(self, frames: Tensor) -> Tensor:
        """After binning, ``(T, C, H, W)``: everything that is the same at all timesteps."""
        if self.flip and float(torch.rand(())) < self.flip:
            frames = frames.flip(-1)
        if self.nda:
            return self._nda(frames)
        if self.wide:
            return self._wide(frames)
        if self.thirds:
            return self._thirds(frames)
        if self.roll:
            frames = _roll(frames, self.roll)
        if self.cutout:
            frames = _cut(frames, self.cutout)
        return frames

    def _nda(self, frames: Tensor) -> Tensor:
        choice = _draw(0, 4)
        if choice == 0:
            return _roll(frames, 5)
        if choice == 1:
            return TF.rotate(frames, _uniform(-15, 15), InterpolationMode.NEAREST)
        if choice == 2:
            return _cut(frames, _draw(1, 8))
        if choice == 3:
            shear = _uniform(-8.6, 8.6)  # degrees: a slope of 0.15
            return _affine(frames, shear=shear)
        return frames

    def _wide(self, frames: Tensor) -> Tensor:
        choice = _draw(0, 5)
        if choice == 0:
            return _affine(frames, shear=_uniform(-SHEAR, SHEAR))
        if choice in (1, 2):
            shift = [0, 0]
            shift[choice - 1] = _draw(-5, 5)
            return _affine(frames, shift=shift)
        if choice == 3:
            return TF.rotate(frames, _uniform(-30, 30), InterpolationMode.NEAREST)
        return ERASE(frames) if choice == 4 else frames

    def _thirds(self, frames: Tensor) -> Tensor:
        height, width = frames.shape[-2:]
        choice = _draw(0, 2)
        if choice == 0:
            return _roll(frames, height // 3)
        if choice == 1:
            return TF.rotate(frames, _uniform(-30, 30), InterpolationMode.NEAREST)
        half, y, x = height // 3 // 2, _draw(0, height - 1), _draw(0, width - 1)
        frames = frames.clone()
        frames[..., max(0, y - half) : y + half, max(0, x - half) : x + half] = 0
        return frames


def _draw(low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``, both possible."""
    return int(torch.randint(low, high + 1, ()))


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


def _affine(frames: Tensor, shift: Sequence[int] = (0, 0), shear: float = 0.0) -> Tensor:
    return TF.affine(frames, 0.0, list(shift), 1.0, [shear, 0.0], InterpolationMode.NEAREST)


def _roll(frames: Tensor, pixels: int) -> Tensor:
    return frames.roll((_draw(-pixels, pixels), _draw(-pixels, pixels)), (-2, -1))


def _cut(frames: Tensor, side: int) -> Tensor:
    height, width = frames.shape[-2:]
    top, left = _draw(0, max(height - side, 0)), _draw(0, max(width - side, 0))
    frames = frames.clone()
    frames[..., top : top + side, left : left + side] = 0
    return frames
