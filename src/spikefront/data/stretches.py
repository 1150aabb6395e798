"""Stretches of recordings as samples: what a table marks, or windows one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from spikefront.data.binning import search
from spikefront.data.cache import Recordings
from spikefront.data.framing import Framing
from spikefront.data.rows import Sample
from spikefront.data.windows import Windows


@dataclass(frozen=True)
class Stretch:
    """Events ``first`` up to ``last``, not included, of the cache's recording ``recording``."""

    sample: Sample
    recording: int
    first: int
    last: int


class Stretched:
    """The samples of a folder as a sequence of events, in the network's square.

    Args:
        framings: of each of the recordings' sensors.
        labels: of the stretches.
    """

    def __init__(
        self, recordings: Recordings, cut: Sequence[Stretch], labels: list[int], framings: Sequence[Framing]
    ) -> None:
        self.recordings, self.cut, self.labels, self.framings = recordings, cut, labels, framings

    def __len__(self) -> int:
        return len(self.cut)

    def __getitem__(self, index: int) -> np.ndarray:
        stretch = self.cut[index]
        return self.framings[stretch.recording](self.recordings[stretch.recording][stretch.first : stretch.last])


def stretches(
    samples: Sequence[Sample],
    numbers: dict[str, int],
    times: Callable[[int], np.ndarray],
    begins: dict[str, int],
    windows: Windows | None,
    refuse: Callable[[str], None],
) -> tuple[list[Stretch], int]:
    """The stretches that samples are made of, and how many windows were left out as they hold no event.

    Args:
        numbers: the cache's number of each file.
        times: of a recording's events, in µs since its first.
        begins: when each file's first event was, in the recording's own time.
        refuse: gets the line about a marked stretch that holds no event.
    """
    found, empty = [], 0
    for file in dict.fromkeys(s.file for s in samples):
        if file not in numbers:  # left out, as it can't be used
            continue
        t = times(numbers[file])
        for sample in (s for s in samples if s.file == file):
            marked = sample.start is not None or sample.end is not None
            start = 0 if sample.start is None else sample.start - begins[file]
            end = int(t[-1]) + 1 if sample.end is None else sample.end - begins[file]
            made = list(windows.over(start, end, int(t[-1]))) if windows else [(start, end)]
            bounds = search(t, np.array(made, np.float64).reshape(-1)).reshape(-1, 2)
            kept = [Stretch(sample, numbers[file], int(a), int(b)) for a, b in bounds if a < b]
            if marked and not kept:
                last = begins[file] + int(t[-1])
                refuse(f"{sample.name} holds no event: the recording has them from {begins[file]} to {last} µs")
            empty += len(made) - len(kept) if windows else 0
            found += kept
    return found, empty
