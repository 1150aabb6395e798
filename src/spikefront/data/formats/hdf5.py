"""HDF5 by ``spikefront[hdf5]`` (h5py, hdf5plugin): x, y, t, p as data sets of a group, or as the fields of one.

Layouts whose times are µs by definition say so by what else they hold: DSEC's by ``t_offset``, Metavision's by
``CD/indexes`` or the file's ``geometry``. All others need ``data.unit``, unless t has an attribute ``unit``. An HDF5
file says how long it is, so every cut is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from spikefront.data.formats.arrays import named_table
from spikefront.data.formats.decoded import MICROSECONDS, Declared, Decoded, known
from spikefront.data.formats.named_columns import ASK_UNIT, NAMES, columns_of, from_one, of_arrays
from spikefront.data.formats.refused import BadRecording
from spikefront.errors import UserError

PREFERRED = ("events", "CD/events")


def open_hdf5(path: Path, declared: Declared, name: str = "hdf5") -> Decoded:
    with _opened(path) as file:
        where, _ = _found(file, declared)
        unit, _ = _stated(file, where)
        if declared.unit is None and unit is None:
            raise BadRecording(ASK_UNIT)
        sensor, whence = known(_size(file, where), declared)
    return Decoded(name, sensor, whence, partial(_blocks, path, declared, sensor, name == "mat"))


def _opened(path: Path) -> Any:
    try:
        import h5py
        import hdf5plugin  # noqa: F401  # its filters: DSEC's files are compressed with one
    except ImportError as error:
        raise UserError(f"HDF5 is read by {error.name}, which is missing: pip install 'spikefront[hdf5]'") from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise BadRecording(f"can't be parsed, truncated at byte {path.stat().st_size} or damaged: {error}") from error


def _blocks(path: Path, declared: Declared, sensor: tuple[int, int] | None, matlab: bool) -> Iterator[np.ndarray]:
    with _opened(path) as file:
        where, arrays = _found(file, declared)
        unit, offset = _stated(file, where)
        told = from_one(declared) if declared.columns else (None if matlab else False)
        if matlab:
            arrays = {name: array[()].ravel() for name, array in arrays.items()}
        try:
            for block in of_arrays(arrays, declared.unit or unit, told, sensor):
                block["t"] += offset
                yield block
        except OSError as error:
            raise BadRecording(
                f"can't be parsed, damaged or compressed by a filter that is missing: {error}"
            ) from error


def _found(file: Any, declared: Declared) -> tuple[str, dict[str, Any]]:
    """Where the events are, and x, y, t, p there."""
    import h5py

    found: dict[str, dict[str, Any]] = {}
    tables: dict[str, Any] = {}

    def look(name: str, node: Any) -> None:
        if isinstance(node, h5py.Group):
            named = {
                what: node[key] for key in node if (what := NAMES.get(key.lower())) and hasattr(node[key], "shape")
            }
            if set(named) == set("xytp"):
                found[name] = named
        elif node.dtype.names and (columns := columns_of(node.dtype.names)):
            found[name] = {what: Field(node, node.dtype.names[at]) for what, at in columns.places.items()}
        elif len(node.shape) == 2 and node.shape[1] >= 4:
            tables[name] = node

    look("", file)
    file.visititems(look)
    if len(found) > 1:
        found = {name: found[name] for name in PREFERRED if name in found} or found
    if len(found) == 1:
        return next(iter(found.items()))
    if len(found) > 1:
        raise BadRecording(f"it holds several recordings: {', '.join(found)}; keep one in a file")
    if len(tables) == 1:
        name, table = next(iter(tables.items()))
        columns, _ = named_table(np.empty((0, table.shape[1])), declared)
        return name, {what: Column(table, at) for what, at in columns.places.items()}
    raise BadRecording(f"it holds no x, y, t and p: it holds {', '.join(file) or 'nothing'}")


class Field:
    """A field of a data set of records, read in slices."""

    def __init__(self, data: Any, key: str) -> None:
        self.data, self.key = data, key

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, part: slice) -> np.ndarray:
        return self.data[part][self.key]


class Column(Field):
    """A column of a table, read in slices."""

    def __init__(self, data: Any, at: int) -> None:
        self.data, self.at = data, at

    def __getitem__(self, part: slice) -> np.ndarray:
        return self.data[part, self.at]


def _stated(file: Any, where: str) -> tuple[str | None, int]:
    """The unit of times that the file states, and the µs that are added to them."""
    group = where.rpartition("/")[0]
    node = file[where] if where else file
    for key in ("t_offset", "events/t_offset"):
        if key in file and np.asarray(file[key]).size == 1:
            return "us", int(np.asarray(file[key]).ravel()[0])
    if group == "CD" and ("CD/indexes" in file or "geometry" in file.attrs):
        return "us", 0
    times = [node[key] for key in node if NAMES.get(key.lower()) == "t"] if hasattr(node, "keys") else [node]
    for key in ("unit", "units"):
        for holder in times:
            if (said := _text(holder.attrs.get(key))) in MICROSECONDS:
                return said, 0
    return None, 0


def _size(file: Any, where: str) -> tuple[int, int] | None:
    """Width and height, of the attributes of the file or of where the events are."""
    for holder in (file, *([file[where], file[where].parent] if where else [])):
        if pair := re.fullmatch(r"(\d+)\s*x\s*(\d+)", _text(holder.attrs.get("geometry"))):
            return int(pair[1]), int(pair[2])
        if "width" in holder.attrs and "height" in holder.attrs:
            return int(holder.attrs["width"]), int(holder.attrs["height"])
    return None


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
