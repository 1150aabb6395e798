"""Columns of numbers to events: which column is what, which unit times have, where coordinates begin, polarities.

Nothing is guessed. A name or the user says what a column is; a name (``t_us``), the file or the user in which unit it
is; and coordinates count from 1 where the user says so (``x1 y1``) or the numbers leave no other way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spikefront.data.formats.decoded import EVENTS, MICROSECONDS, MOST, UNIT, Declared
from spikefront.data.formats.refused import BadRecording

NAMES = {
    **dict.fromkeys(("x", "xs", "x1", "col", "column"), "x"),
    **dict.fromkeys(("y", "ys", "y1", "row"), "y"),
    **dict.fromkeys(("t", "ts", "time", "times", "timestamp", "timestamps"), "t"),
    **dict.fromkeys(("p", "ps", "pol", "polarity", "polarities", "on"), "p"),
}
NAMED_UNIT = re.compile(r"(\w+?)\s*[_\[(\s]\s*(ns|us|µs|μs|ms|s)[\])]?")
POLARITIES = ((0, 1), (-1, 1), (1, 2))
ASK_UNIT = "it doesn't say in which unit its times are: give data.unit=us (or ns, ms, s, 100ns)"


@dataclass(frozen=True)
class Columns:
    """Which of a table's columns is what: ``t_us x1 y1 p`` is ``{"t": 0, "x": 1, "y": 2, "p": 3}``, from 1, in us."""

    places: Mapping[str, int]
    from_one: bool | None  # None: nothing says
    unit: str | None


def columns_of(names: Sequence[str], explicit: bool = False) -> Columns | None:
    """What names of columns say, None where they don't name x, y, t and p once each.

    Args:
        explicit: the names are a user's: ``x`` counts from 0, ``x1`` from 1.
    """
    places: dict[str, int] = {}
    unit = None
    for at, name in enumerate(names):
        plain = name.strip().strip("\"'").lower()
        found = NAMED_UNIT.fullmatch(plain)
        what = NAMES.get(plain) or (NAMES.get(found[1]) if found else None)
        if what == "t" and plain not in NAMES and found:
            unit = found[2]
        if what is None:
            continue
        if what in places:
            return None
        places[what] = at
    if set(places) != set("xytp"):
        return None
    one = [names[places[axis]].strip().lower() == f"{axis}1" for axis in "xy"]
    return Columns(places, any(one) if explicit or any(one) else None, unit)


def declared_columns(declared: Declared) -> Columns | None:
    """What ``data.columns`` says of a table."""
    return columns_of(re.split(r"[\s,;]+", declared.columns.strip()), explicit=True) if declared.columns else None


def from_one(declared: Declared) -> bool | None:
    """Whether ``data.columns`` says that coordinates count from 1 or from 0."""
    if not declared.columns:
        return None
    return "x1" in re.split(r"[\s,;]+", declared.columns.strip().lower())


def microseconds(t: np.ndarray, unit: str | None) -> np.ndarray:
    """Times as whole µs, int64; what is less than a µs is left out of whole numbers, rounded of others.

    Raises:
        BadRecording: no unit; times that can't be of it: not numbers, fractions of µs or ns, whole seconds.
    """
    if unit is None:
        raise BadRecording(ASK_UNIT)
    found = UNIT.fullmatch(unit)
    assert found
    factor = float(found[1] or 1) * MICROSECONDS[found[2]]
    if t.dtype.kind == "f":
        if not np.isfinite(t).all():
            raise BadRecording("an event's time is not a number")
        whole = np.floor(t)
        if found[2] != "s" and found[2] != "ms" and (odd := whole != t).any():
            raise BadRecording(
                f"times such as {float(t[np.argmax(odd)])!r} are implausible in {unit}, which have no fractions: they"
                " may be seconds or milliseconds (data.unit=s, data.unit=ms)"
            )
        made = np.rint(t * factor) if factor >= 1 else np.floor(whole * factor + 1e-9)
        if len(made) and np.abs(made).max() >= 2**62:
            raise BadRecording(f"a time of {float(np.abs(t).max())!r} {unit} is beyond what can be")
        return made.astype(np.int64)
    if t.dtype.kind not in "iu":
        raise BadRecording(f"its times are {t.dtype}, not numbers")
    if found[2] == "ns" and float(found[1] or 1).is_integer():
        return t.astype(np.int64) * int(found[1] or 1) // 1000
    if factor == 1:
        return t.astype(np.int64)
    return (t.astype(np.int64) * int(factor)) if factor.is_integer() else np.floor(t * factor).astype(np.int64)


def first_coordinate(
    x: tuple[int, int], y: tuple[int, int], p: tuple[int, int], told: bool | None, sensor: tuple[int, int] | None
) -> int:
    """0 or 1, from which coordinates count: as told, or as the smallest and largest of each column leave no doubt.

    A 0 counts from 0. None, and a column or row of which the sensor has one less: from 1. None, and polarities 1 and 2:
    from 1, as the Matlab code of N-MNIST counts all three.

    Raises:
        BadRecording: both are possible, and nobody said which.
    """
    if told is not None:
        return int(told)
    if x[0] < 1 or y[0] < 1:
        return 0
    if p == (1, 2) or (sensor and (x[1] == sensor[0] or y[1] == sensor[1])):
        return 1
    raise BadRecording(
        f"coordinates may count from 0 or from 1 (none of its events has x = 0 or y = 0): say"
        f" data.columns='x y t p' (from 0) or 'x1 y1 t p' (from 1){'' if sensor else ', or give data.sensor'}"
    )


def polarity_zero(low: int, high: int) -> int:
    """The value that means darker, of a recording's smallest and largest polarity.

    Raises:
        BadRecording: they are none of 0 and 1, -1 and 1, 1 and 2.
    """
    for off, on in POLARITIES:
        if low >= off and high <= on:
            return off
    raise BadRecording(f"polarities reach from {low} to {high}, not 0 and 1, -1 and 1 or 1 and 2")


def whole(name: str, values: np.ndarray) -> np.ndarray:
    """A column of whole numbers, int64."""
    if values.dtype.kind == "b":
        return values.astype(np.int64)
    if values.dtype.kind not in "iuf":
        raise BadRecording(f"its column {name} is {values.dtype}, not numbers")
    if values.dtype.kind == "f" and (not np.isfinite(values).all() or (values != np.floor(values)).any()):
        raise BadRecording(f"its column {name} holds what is no whole number: another order (data.columns)?")
    return values.astype(np.int64)


def made(x: np.ndarray, y: np.ndarray, t: np.ndarray, p: np.ndarray, first: int, off: int) -> np.ndarray:
    """``EVENTS`` of columns, coordinates from ``first``; t is in µs already."""
    events = np.empty(len(t), EVENTS)
    for axis, values in (("x", x), ("y", y)):
        values = whole(axis, values) - first
        if len(values) and (values.min() < 0 or values.max() > 0xFFFF):
            value = values.min() if values.min() < 0 else values.max()
            raise BadRecording(f"an event has {axis} = {value}, off any sensor")
        events[axis] = values
    p = whole("p", p)
    if off == -1 and (p == 0).any() and (p == -1).any():
        raise BadRecording("polarities are -1, 0 and 1: three")
    events["t"], events["p"] = t, p > off
    return events


def limits(name: str, values: np.ndarray) -> tuple[int, int]:
    """The smallest and largest of a column."""
    return (int(values.min()), int(values.max())) if len(values := whole(name, values)) else (0, 0)


def of_arrays(
    arrays: Mapping[str, np.ndarray], unit: str | None, told: bool | None, sensor: tuple[int, int] | None
) -> Iterator[np.ndarray]:
    """Blocks of ``EVENTS`` of four columns of one length, that may lie in a file.

    Args:
        arrays: by x, y, t, p.
        told: whether coordinates count from 1; None: as they leave no doubt.
    """
    lengths = {name: len(column) for name, column in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise BadRecording("its columns have different lengths: " + ", ".join(f"{n} {k}" for n, k in lengths.items()))
    count = lengths["t"]
    if not count:
        return
    parts = [slice(at, at + MOST) for at in range(0, count, MOST)]
    reach = {
        name: _reach(limits(name, np.asarray(arrays[name][part]).ravel()) for part in parts) for name in ("x", "y", "p")
    }
    first = first_coordinate(reach["x"], reach["y"], reach["p"], told, sensor)
    off = polarity_zero(*reach["p"])
    for part in parts:
        x, y, t, p = (np.asarray(arrays[name][part]).ravel() for name in "xytp")
        yield made(x, y, microseconds(t, unit), p, first, off)


def _reach(pairs: Iterable[tuple[int, int]]) -> tuple[int, int]:
    low, high = zip(*pairs, strict=True)
    return min(low), max(high)
