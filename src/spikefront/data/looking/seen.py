"""One recording, read once: how many events of which kind, from when to when, how many on each pixel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numba
import numpy as np

from spikefront.data.cleaning import cleaned
from spikefront.data.formats import BadRecording, Declared, Decoded, open_recording

Sensor = tuple[int, int]
KEPT = 1 << 16  # times that are kept of a block
MOST = 1 << 20  # of a recording


@dataclass
class Seen:
    """What was read of a recording.

    Attributes:
        facts: ``format``, ``sensor``, ``whence``, ``events``, ``on``, ``first`` and ``last`` event as x, y, t (µs), p;
            or ``error``, why it can't be read.
        unusable: why training would refuse it though it can be read.
        clock: when its events were.
        counts: events of each pixel, ``(height, width)``; None where no sensor is known.
    """

    facts: dict[str, Any]
    unusable: str | None = None
    clock: Clock = field(default_factory=lambda: Clock())
    counts: np.ndarray | None = None

    @property
    def bad(self) -> str | None:
        return self.facts.get("error") or self.unusable


class Clock:
    """How many events had been by when: exactly of up to ``KEPT`` a block, of more every so many."""

    def __init__(self) -> None:
        self.times: list[np.ndarray] = []
        self.before: list[np.ndarray] = []
        self.events = self.held = 0

    def add(self, t: np.ndarray) -> None:
        step = -(-len(t) // KEPT)
        places = np.arange(0, len(t), step)
        self.times.append(t[places])
        self.before.append(self.events + places)
        self.events += len(t)
        self.held += len(places)
        if self.held > MOST:
            self.times, self.before = ([np.concatenate(parts)[::2]] for parts in (self.times, self.before))
            self.held = len(self.times[0])

    def until(self, moments: Sequence[float] | np.ndarray) -> np.ndarray:
        """How many events came before each of some moments (µs)."""
        times, before = np.concatenate(self.times), np.append(np.concatenate(self.before), self.events)
        return before[np.searchsorted(times, np.asarray(moments, np.float64), side="left")]


def seen(path: Path, declared: Declared) -> Seen:
    """All of a recording, in blocks.

    Raises:
        UserError: something is missing that reads this format.
    """
    found = Seen({})
    try:
        decoded = open_recording(path, declared)
        found.facts["format"] = decoded.format
        _read(decoded, found)
    except BadRecording as error:
        return Seen({"error": str(error)})
    except OSError as error:
        return Seen({"error": f"can't be read: {error.strerror or error}"})
    return found


class _Watched:
    """A recording's blocks as they go by; says whether it was they that failed."""

    def __init__(self, decoded: Decoded, into: Seen) -> None:
        self.failed, self.on = False, 0
        self.first = self.last = None
        self._blocks = self._passing(decoded, into)

    def __iter__(self) -> Iterator[np.ndarray]:
        return self._blocks

    def _passing(self, decoded: Decoded, into: Seen) -> Iterator[np.ndarray]:
        try:
            for block in decoded.blocks():
                if self.first is None:
                    self.first = block[0].copy()
                self.last = block[-1].copy()
                self.on += counted(block, into.counts)
                into.clock.add(block["t"])
                yield block
        except (BadRecording, OSError):
            self.failed = True
            raise


def _read(decoded: Decoded, into: Seen) -> None:
    if decoded.sensor is not None:
        into.counts = np.zeros(decoded.sensor[::-1], np.int64)
    watched = _Watched(decoded, into)
    if decoded.sensor is not None:
        try:
            for _ in cleaned(watched, decoded.sensor):
                pass
        except BadRecording as error:
            if watched.failed:
                raise
            into.unusable = str(error)
    for _ in watched:  # what is left
        pass
    into.facts |= {
        "sensor": None if decoded.sensor is None else [int(n) for n in decoded.sensor],
        "whence": decoded.whence,
        "events": into.clock.events,
        "on": int(watched.on),
        "first": _event(watched.first),
        "last": _event(watched.last),
    }


def _event(event: Any) -> dict[str, int]:
    return {name: int(event[name]) for name in "xytp"}


def counted(block: np.ndarray, counts: np.ndarray | None) -> int:
    """How many of the events are ON; all counted into the pixels ``(height, width)`` of ``counts``."""
    return int(_counted(block, np.zeros((0, 0), np.int64) if counts is None else counts))


@numba.njit(cache=True, nogil=True)
def _counted(events, counts):  # type: ignore[no-untyped-def]
    on = 0
    height, width = counts.shape
    for i in range(len(events)):
        event = events[i]
        on += event.p
        if event.y < height and event.x < width:
            counts[event.y, event.x] += 1
    return on
