"""What a camera adds to a recording, taken out: hot pixels, what comes too soon, what comes alone.

Each takes events in order of time as a structured array with x, y and t (µs), ``EVENT`` for instance, and returns the
kept ones beside how many it removed; of a recording in blocks one after the other, with what it remembers of those
before. Compiled code asserts before it runs that all events lie on the sensor.
"""

from __future__ import annotations

from collections.abc import Iterable

import numba
import numpy as np

NEVER = -(2**62)  # µs


def hot_pixels(recordings: Iterable[np.ndarray], sensor: tuple[int, int], factor: float = 10.0) -> np.ndarray:
    """Pixels that fire more often than others ever do, found in many recordings: of the training part, for one.

    A pixel is hot that has more than ``factor`` times the events of the most active of its eight neighbours, and of the
    mean pixel. So the edge of what moves, where neighbours fire too, is none.

    Args:
        sensor: width and height in pixels.

    Returns:
        A mask ``(height, width)``, bool.
    """
    counts = np.zeros(sensor[::-1], np.int64)
    for events in recordings:
        count(events, counts)
    return hot(counts, factor)


def count(events: np.ndarray, counts: np.ndarray) -> None:
    """Adds each pixel's events to ``counts`` (height, width), int64."""
    _on_sensor(events, counts.shape[::-1])
    _counted(events["x"], events["y"], counts)


def hot(counts: np.ndarray, factor: float) -> np.ndarray:
    """The mask of ``hot_pixels`` from each pixel's number of events (height, width)."""
    height, width = counts.shape
    around = np.pad(counts, 1)
    places = [(j, i) for j in range(3) for i in range(3) if (j, i) != (1, 1)]
    neighbours = np.max([around[j : j + height, i : i + width] for j, i in places], axis=0)
    return counts > factor * np.maximum(np.maximum(neighbours, counts.mean()), 1)


def without_hot_pixels(events: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, int]:
    """The events of pixels that ``mask`` (height, width) leaves, and how many were removed."""
    _on_sensor(events, mask.shape[::-1])
    return _kept(events, _cold(events["x"], events["y"], mask))


def unseen(sensor: tuple[int, int]) -> np.ndarray:
    """What ``refractory`` and ``neighbours`` remember of a recording before its first block."""
    return np.full((sensor[1] + 2, sensor[0] + 2), NEVER, np.int64)


def refractory(
    events: np.ndarray, sensor: tuple[int, int], period: int, last: np.ndarray | None = None
) -> tuple[np.ndarray, int]:
    """Without events less than ``period`` µs after the last kept one of their pixel, and how many were removed.

    Args:
        last: of a recording in blocks, what ``unseen`` gave before the first of them; kept up to date here.
    """
    _on_sensor(events, sensor)
    last = unseen(sensor) if last is None else last
    return _kept(events, _rested(events["x"], events["y"], events["t"], period, last))


def neighbours(
    events: np.ndarray, sensor: tuple[int, int], window: int, last: np.ndarray | None = None
) -> tuple[np.ndarray, int]:
    """Without events of which none of the eight pixels around fired in the ``window`` µs before, and how many there
    were (background activity; Delbruck 2008). Removed ones support their neighbours too.

    Args:
        last: as of ``refractory``, an array of its own.
    """
    _on_sensor(events, sensor)
    last = unseen(sensor) if last is None else last
    return _kept(events, _supported(events["x"], events["y"], events["t"], window, last))


def _kept(events: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, int]:
    kept = events[keep]
    return kept, len(events) - len(kept)


def _on_sensor(events: np.ndarray, sensor: tuple[int, ...]) -> None:
    for axis, size in zip("xy", sensor, strict=True):
        values = events[axis]
        if len(values) and not 0 <= int(values.min()) <= int(values.max()) < size:
            raise ValueError(f"events lie off the sensor of {sensor[0]}x{sensor[1]}")


@numba.njit(cache=True, nogil=True)
def _counted(x, y, counts):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        counts[y[i], x[i]] += 1


@numba.njit(cache=True, nogil=True)
def _cold(x, y, mask):  # type: ignore[no-untyped-def]
    keep = np.empty(len(x), np.bool_)
    for i in range(len(x)):
        keep[i] = not mask[y[i], x[i]]
    return keep


@numba.njit(cache=True, nogil=True)
def _rested(x, y, t, period, last):  # type: ignore[no-untyped-def]
    keep = np.empty(len(x), np.bool_)
    for i in range(len(x)):
        now, row, column = np.int64(t[i]), np.int64(y[i]) + 1, np.int64(x[i]) + 1
        keep[i] = now - last[row, column] >= period
        if keep[i]:
            last[row, column] = now
    return keep


@numba.njit(cache=True, nogil=True)
def _supported(x, y, t, window, last):  # type: ignore[no-untyped-def]
    """``last`` has a pixel's frame around the sensor, so that each pixel has eight neighbours."""
    keep = np.empty(len(x), np.bool_)
    for i in range(len(x)):
        now, row, column = np.int64(t[i]), np.int64(y[i]) + 1, np.int64(x[i]) + 1
        latest = last[row - 1, column - 1]
        for j in range(-1, 2):
            for k in range(-1, 2):
                if (j != 0 or k != 0) and last[row + j, column + k] > latest:
                    latest = last[row + j, column + k]
        keep[i] = now - latest <= window
        last[row, column] = now
    return keep
