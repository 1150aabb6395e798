"""How a bad recording is told from a good one, block by block: what the cache holds has passed here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numba
import numpy as np

from spikefront.data.cache import EVENT
from spikefront.data.formats.decoded import EVENTS
from spikefront.data.formats.refused import BadRecording
from spikefront.errors import UserError

AT_ONCE = 1 << 20  # events
MANY = 10  # events: so many at one time are no recording
FASTEST = 5e-4  # events of a mean pixel in a µs: above what any camera reads out for as long as it records
LONG = 60e6  # µs: of shorter recordings few events are nothing odd
SLOWEST = 5e-9  # events of a mean pixel in a µs (one in 200 s): a camera's noise alone is more
SLOWEST_ROUND = 5e-8  # the same, of times that are all whole thousands, as a µs clock's are in ns
CORNER = 2 / 3  # the share of both sides below which the events lie in a corner


def clean(events: np.ndarray, sensor: tuple[int, int]) -> np.ndarray:
    """The events as ``EVENT``, times counted from the first.

    Args:
        events: any structured array with x, y, t, p, as tonic gives it.
        sensor: width and height in pixels.

    Raises:
        BadRecording: as ``cleaned``.
    """
    return np.concatenate(list(cleaned([events], sensor)))


def cleaned(blocks: Iterable[np.ndarray], sensor: tuple[int, int]) -> Iterator[np.ndarray]:
    """A recording's blocks as ``EVENT``, times counted from the recording's first.

    Raises:
        BadRecording: no events, events off the sensor, times negative, unsorted, more than 71 minutes apart or
            implausible (all the same, with fractions, far too dense or too sparse), polarities other than two. What is
            known of all blocks alone (no event, implausible times) is told at their end.
    """
    count = 0
    state = np.array([0, 0, 1], np.int64)  # first and last time, whether all are whole thousands
    for events in _small(blocks):
        x, y, t, p = columns = _columns(events)
        if not count:
            state[:2] = t[0]
        made = np.empty(len(events), EVENT)
        wrong, at = _checked(x, y, t, p, np.array(sensor), state, made)
        if wrong:
            raise BadRecording(_reason(wrong, [column[at].item() for column in columns], count + at, p, sensor))
        count += len(events)
        yield made
    if not count:
        raise BadRecording("the recording is empty")
    _plausible(count, int(state[1] - state[0]), bool(state[2]), sensor)


X, Y, NEGATIVE, UNSORTED, LONGER, POLARITY = range(1, 7)  # what can be wrong with an event


def _columns(events: np.ndarray) -> tuple[np.ndarray, ...]:
    """x, y, t, p as they are in ``EVENTS``, else as int64: compiled code is made for these two alone."""
    if events.dtype == EVENTS:
        return tuple(events[name] for name in "xytp")
    return tuple(_whole(events[name]) if name == "t" else events[name].astype(np.int64) for name in "xytp")


def _reason(wrong: int, event: list[int], at: int, p: np.ndarray, sensor: tuple[int, int]) -> str:
    if wrong in (X, Y):
        axis, value = ("x", event[0]) if wrong == X else ("y", event[1])
        return f"an event has {axis} = {value}, off the sensor of {sensor[0]}x{sensor[1]}"
    if wrong == NEGATIVE:
        return f"an event has the negative time {event[2]}"
    if wrong == UNSORTED:
        return f"times are unsorted: event {at} is before the one it follows"
    if wrong == LONGER:
        return "the recording is longer than 71 minutes (2^32 µs); or its times are not in µs"
    return f"polarities reach from {p.min()} to {p.max()}, not 0 and 1"


@numba.njit(cache=True, nogil=True)
def _checked(x, y, t, p, sensor, state, out):  # type: ignore[no-untyped-def]
    """Events into ``out``: what is wrong with the first that is none, or 0, and its place."""
    begin, last, thousands = state
    width, height = sensor
    for i in range(len(out)):
        column, row, time = np.int64(x[i]), np.int64(y[i]), np.int64(t[i])
        if column < 0 or column >= width:
            return X, i
        if row < 0 or row >= height:
            return Y, i
        if time < 0:
            return NEGATIVE, i
        if time < last:
            return UNSORTED, i
        if time - begin >= 1 << 32:
            return LONGER, i
        if p[i] < 0 or p[i] > 1:
            return POLARITY, i
        if thousands and (time - begin) % 1000:
            thousands = 0
        last = time
        event = out[i]
        event.x, event.y, event.t, event.p = column, row, time - begin, p[i]
    state[1], state[2] = last, thousands
    return 0, 0


def _small(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for block in blocks:
        yield from (block[at : at + AT_ONCE] for at in range(0, len(block), AT_ONCE))


def _whole(t: np.ndarray) -> np.ndarray:
    """Times as int64."""
    if t.dtype.kind == "f":
        if not np.isfinite(t).all():
            raise BadRecording("an event's time is not a number")
        if (odd := t != np.floor(t)).any():
            raise BadRecording(
                f"a time of {float(t[np.argmax(odd)])!r} µs is implausible: µs have no fractions; it may be in seconds"
            )
    return t.astype(np.int64)


def _plausible(count: int, duration: int, thousands: bool, sensor: tuple[int, int]) -> None:
    if count >= MANY and duration == 0:
        raise BadRecording(f"times are implausible: all {count} events have the same; are they in seconds?")
    rate = count / (duration + 1) / (sensor[0] * sensor[1])
    if count >= 10 * MANY and rate > FASTEST:
        raise BadRecording(
            f"times are implausible: {count} events within {duration} µs on {sensor[0]}x{sensor[1]} pixels, more than"
            " any camera gives; are they in seconds or milliseconds?"
        )
    if count >= MANY and duration > LONG and rate < (SLOWEST_ROUND if thousands else SLOWEST):
        raise BadRecording(
            f"times are implausible: {count} events in {duration / 1e6:.0f} s on {sensor[0]}x{sensor[1]} pixels, less"
            " than a camera's noise; are they in nanoseconds?"
        )


def check_reach(reached: Iterable[Sequence[int]], sensor: Sequence[int], kept: Path | None = None) -> None:
    """Raises UserError if all recordings lie in a corner of the sensor: it is another one's size.

    Args:
        reached: of each the width and height of the smallest sensor that holds it.
        kept: the file that says the sensor, if nobody said it now.
    """
    width, height = (max(sides) for sides in zip(*reached, strict=True))
    if width <= CORNER * sensor[0] and height <= CORNER * sensor[1]:
        said = f"sensor: [{sensor[0]}, {sensor[1]}] in {kept}" if kept else f"data.sensor=[{sensor[0]},{sensor[1]}]"
        change = "write the camera's size there" if kept else "set data.sensor to the camera's size"
        raise UserError(f"{said} is implausible: the events reach {width}x{height} pixels, a corner of it; {change}")
