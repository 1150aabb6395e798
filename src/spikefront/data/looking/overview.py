"""All files of a folder looked at once: what is in each, and of recordings what is in each sample."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spikefront.data.formats import Declared
from spikefront.data.framing import Framing
from spikefront.data.looking.seen import Seen, Sensor, seen
from spikefront.data.looking.stills import still
from spikefront.data.noise import hot
from spikefront.data.own.rows import Sample, ends_late
from spikefront.data.windows import Windows

PIXEL = np.dtype([("x", "<u2"), ("y", "<u2"), ("n", "<i8")])
TIMES = 10.0  # as often as the pixels beside it: a hot one
MANY = 32_000  # events on a pixel of a frame


@dataclass(frozen=True)
class Piece:
    """A sample, or a window of one: its events, and the fewest and most of one of T equal times.

    Attributes:
        inside: how much of it lies between its recording's first and last event, µs.
    """

    sample: Sample
    start: int  # µs of the recording's own time
    end: int
    events: int
    fewest: int
    most: int
    inside: int


@dataclass
class Overview:
    """What was seen.

    Attributes:
        facts: of each file, by its place, JSON-ready: as of ``seen`` and ``still``.
        unusable: files that can be read and not be trained on, and why.
        pieces: of recordings.
        empty: marked stretches of recordings without an event.
        late: marked stretches that end long after their recording does.
        counts: events of each pixel of each sensor, of the files that ``trains`` alone.
        crowded: the most events on a pixel of a frame that the network sees, about, and where that is.
    """

    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)
    pieces: list[Piece] = field(default_factory=list)
    empty: list[Sample] = field(default_factory=list)
    late: list[Sample] = field(default_factory=list)
    counts: dict[Sensor, np.ndarray] = field(default_factory=dict)
    crowded: tuple[int, str] = (0, "")
    bytes: int = 0

    @property
    def bad(self) -> dict[str, str]:
        """Why of each file that can't be used."""
        return {**{file: fact["error"] for file, fact in self.facts.items() if "error" in fact}, **self.unusable}

    @property
    def good(self) -> dict[str, dict[str, Any]]:
        return {file: fact for file, fact in self.facts.items() if "error" not in fact and file not in self.unusable}

    def hot_pixels(self, factor: float = TIMES) -> dict[Sensor, list[tuple[int, int, float]]]:
        """Of each sensor those that fire most: x, y and their share of all events, the hottest first."""
        found = {}
        for sensor, counts in self.counts.items():
            rows, columns = np.nonzero(hot(counts, factor))
            order = np.argsort(-counts[rows, columns])
            found[sensor] = [
                (int(columns[i]), int(rows[i]), float(counts[rows[i], columns[i]] / counts.sum())) for i in order
            ]
        return found

    def sensors(self) -> dict[tuple[Sensor | None, str], list[str]]:
        """The files of each sensor, and of each way it is known; all of which nothing tells together."""
        found: dict[tuple[Sensor | None, str], list[str]] = {}
        for file, fact in self.good.items():
            size = fact["sensor"] and (fact["sensor"][0], fact["sensor"][1])
            found.setdefault((size, fact["whence"] if size else ""), []).append(file)
        if unknown := found.pop((None, ""), None):
            reached = [tuple(map(int, re.findall(r"\d+", self.facts[file]["whence"]))) for file in unknown]
            width, height = (max(sides) for sides in zip(*reached, strict=True))
            found[None, f"at least {width}x{height} by the events"] = unknown
        return found


def look_at_pictures(root: Path, files: Iterable[str], step: Callable[[str], None]) -> Overview:
    """Each picture decoded; ``step`` hears of each file when it is done."""
    found = Overview()
    for file in files:
        found.facts[file] = still(root / file)
        found.bytes += (root / file).stat().st_size
        step(file)
    return found


def look_at_recordings(
    root: Path,
    files: Iterable[str],
    declared: Declared,
    step: Callable[[str], None],
    samples: Sequence[Sample] | None = None,
    windows: Windows | None = None,
    timesteps: int = 1,
    framed: Callable[[Sensor], Framing] | None = None,
    trains: Callable[[str], bool] = lambda file: True,
) -> Overview:
    """Each recording read once, in blocks.

    Args:
        samples: which stretches of files are samples; None: each file is one.
        framed: how a sensor's pixels become the network's; None: as they are.
        trains: whether a file is of the training part.
    """
    own: dict[str, list[Sample]] = {}
    for sample in samples or ():
        own.setdefault(sample.file, []).append(sample)
    found = Overview()
    for file in files:
        read = seen(root / file, declared)
        found.facts[file] = read.facts
        found.bytes += (root / file).stat().st_size
        if read.unusable is not None:
            found.unusable[file] = read.unusable
        if read.bad is None:
            pieces = _pieces(read, own.get(file) or [Sample(file, "")], windows, timesteps)
            found.pieces += pieces
            held = {piece.sample for piece in pieces}
            found.empty += [s for s in own.get(file, ()) if s not in held]
            found.late += [s for s in held if ends_late(s, read.facts["last"]["t"])]
            if read.counts is not None:
                _count(found, read, file, pieces, framed, trains(file))
        step(file)
    return found


def _count(
    found: Overview,
    read: Seen,
    file: str,
    pieces: Sequence[Piece],
    framed: Callable[[Sensor], Framing] | None,
    trains: bool,
) -> None:
    assert read.counts is not None
    height, width = read.counts.shape
    if trains:
        there = found.counts.setdefault((width, height), np.zeros_like(read.counts))
        there += read.counts
    if pieces and read.clock.events > MANY:
        most = hottest(read.counts, framed((width, height)) if framed else None)
        share = max(piece.most for piece in pieces) / read.clock.events
        found.crowded = max(found.crowded, (round(most * share), file))


def hottest(counts: np.ndarray, framing: Framing | None) -> int:
    """The most events on one pixel, of a sensor's ``(height, width)`` or of the square that ``framing`` makes of it."""
    if framing is None or not framing.moves:
        return int(counts.max())
    pixels = np.zeros(counts.shape, PIXEL)
    pixels["x"], pixels["y"] = np.meshgrid(np.arange(counts.shape[1]), np.arange(counts.shape[0]))
    pixels["n"] = counts
    moved = framing(pixels.ravel())
    if not len(moved):
        return 0
    return int(np.bincount(moved["y"].astype(np.int64) * framing.size[0] + moved["x"], weights=moved["n"]).max())


def _pieces(read: Seen, samples: Sequence[Sample], windows: Windows | None, timesteps: int) -> list[Piece]:
    """Those of a file that hold events."""
    begin, last = read.facts["first"]["t"], read.facts["last"]["t"]
    bounds: list[tuple[Sample, int, int]] = []
    for sample in samples:
        start = begin if sample.start is None else sample.start
        end = last + 1 if sample.end is None else sample.end
        if windows is None:
            bounds.append((sample, start, end))
        else:
            for a, b in windows.over(start - begin, end - begin, last - begin):
                bounds.append((sample, a + begin, b + begin))
    if not bounds:
        return []
    clipped = np.array([(max(a, begin), min(b, last + 1)) for _, a, b in bounds], np.float64)
    edges = clipped[:, :1] + (clipped[:, 1:] - clipped[:, :1]) * np.linspace(0, 1, timesteps + 1)
    each = np.diff(read.clock.until(edges.ravel()).reshape(edges.shape), axis=1)
    return [
        Piece(sample, start, end, int(frames.sum()), int(frames.min()), int(frames.max()), int(b - a))
        for (sample, start, end), (a, b), frames in zip(bounds, clipped, each, strict=True)
        if frames.sum() > 0
    ]


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, and what 5 and 95 % are below."""
    low, middle, high = np.percentile(values, [5, 50, 95])
    return float(middle), float(low), float(high)


def grouped(bad: Mapping[str, str]) -> dict[str, list[str]]:
    """Files by what is wrong with them, numbers left out of account."""
    found: dict[str, list[str]] = {}
    reasons: dict[str, str] = {}
    for file, why in bad.items():
        key = "".join("0" if c.isdigit() else c for c in why)
        found.setdefault(reasons.setdefault(key, why), []).append(file)
    return found
