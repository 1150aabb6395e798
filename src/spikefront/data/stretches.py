"""Stretches of recordings as samples: what a table marks, or windows one after the other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spikefront.data.binning import search
from spikefront.data.cache import Recordings
from spikefront.data.framing import Framing
from spikefront.data.once import once
from spikefront.data.own.rows import Sample, ends_late
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
        events = self.recordings.between(stretch.recording, stretch.first, stretch.last)
        return self.framings[stretch.recording](events)

    def glance(self, index: int) -> np.ndarray:
        stretch = self.cut[index]
        events = self.recordings.glance(stretch.recording)[stretch.first : stretch.last]
        framing = self.framings[stretch.recording]
        return framing(events) if framing.cuts else events  # when is what matters, not where

    def name(self, index: int) -> str:
        """The file, with its times in it where it is but a part: µs since the recording's first event."""
        stretch = self.cut[index]
        events = self.recordings.glance(stretch.recording)
        if stretch.first == 0 and stretch.last == len(events):
            return stretch.sample.file
        first, last = (int(events["t"][i]) for i in (stretch.first, stretch.last - 1))
        return f"{stretch.sample.file} {first}-{last} µs"


def cut_up(
    samples: Sequence[Sample], recordings: Recordings, windows: Windows | None
) -> tuple[list[Stretch], int, list[str]]:
    """The stretches that samples are made of; how many windows hold no event; a line on each mark that holds none.

    Where they begin and end is looked for once and kept in the cache's entry: nobody else reads all times.

    Args:
        recordings: with a fact ``first``: when each one's first event was, in its own time.
    """
    asked = [[s.file, s.start, s.end] for s in samples], windows and [windows.width, windows.stride]
    key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]

    def work() -> list[Any]:
        return list(stretches(samples, recordings, windows))

    found, empty, lost = once(recordings.entry / f"stretches-{key}.json", work)
    return [Stretch(samples[i], *places) for i, *places in found], empty, lost


def beyond(samples: Sequence[Sample], recordings: Recordings) -> list[str]:
    """A line on each of the marks that end long after their recording does."""
    numbers = {name: i for i, name in enumerate(recordings.names)}
    found = []
    for sample in samples:
        if sample.end is not None and (number := numbers.get(sample.file)) is not None:
            last = recordings.facts[number]["first"] + int(recordings.glance(number)["t"][-1])
            if ends_late(sample, last):
                found.append(f"{sample.name} ends after the recording, whose last event is at {last} µs")
    return found


def stretches(
    samples: Sequence[Sample], recordings: Recordings, windows: Windows | None
) -> tuple[list[list[int]], int, list[str]]:
    """As ``cut_up``, of each stretch the number of its sample, of its recording, its first event and that after it."""
    numbers = {name: i for i, name in enumerate(recordings.names)}
    found: list[list[int]] = []
    empty, lost = 0, []
    of: dict[str, list[int]] = {}
    for i, sample in enumerate(samples):
        of.setdefault(sample.file, []).append(i)
    for file, theirs in of.items():
        if (number := numbers.get(file)) is None:  # left out, as it can't be used
            continue
        t, begin = recordings[number]["t"], recordings.facts[number]["first"]
        for i in theirs:
            sample, last = samples[i], int(t[-1])
            start = 0 if sample.start is None else sample.start - begin
            end = last + 1 if sample.end is None else sample.end - begin
            made = list(windows.over(start, end, last)) if windows else [(start, end)]
            bounds = search(t, np.array(made, np.float64).reshape(-1)).reshape(-1, 2)
            kept = [[i, number, int(a), int(b)] for a, b in bounds if a < b]
            if not kept and (sample.start is not None or sample.end is not None):
                there = f"from {begin + int(t[0])} to {begin + last} µs"
                lost.append(f"{sample.name} holds no event: the recording has them {there}")
            empty += len(made) - len(kept) if windows else 0
            found += kept
    return found, empty, lost
