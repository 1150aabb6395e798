"""Recordings as what a network is shown: moved into its square, binned, augmented."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from torch.utils.data import Dataset

from spikefront.data.augmentation import EventAugmentation
from spikefront.data.binning import Binning
from spikefront.data.framing import Framing


class Labelled(Protocol):
    """Recordings, or stretches of some, and the class of each."""

    labels: list[int]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray: ...

    def name(self, index: int, /) -> str: ...

    def glance(self, index: int, /) -> np.ndarray:
        """The same, read as little as can be."""
        ...


class Frames(Dataset):
    """Recordings as frames, moved by ``framing``, binned and augmented, ``(T, C, size, size)`` float32 beside their
    class; of more than ``first`` frames these."""

    def __init__(
        self,
        recordings: Labelled,
        indices: Sequence[int],
        binning: Binning,
        augmentation: EventAugmentation | None = None,
        first: int | None = None,
        framing: Framing | None = None,
    ) -> None:
        self.framing = framing
        self.recordings, self.indices, self.first = recordings, indices, first
        self.binning, self.augmentation = binning, augmentation

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, index: int) -> str:
        return self.recordings.name(self.indices[index])

    def __getitem__(self, index: int):  # type: ignore[no-untyped-def]
        at = self.indices[index]
        events = self.recordings[at]
        if self.framing is not None:
            events = self.framing(events)
        if self.augmentation is not None and len(events):
            events = self.augmentation.events(events)
        frames = self.binning(events)
        if self.augmentation is not None:
            frames = self.augmentation.frames(frames)
        return frames[: self.first], self.recordings.labels[at]
