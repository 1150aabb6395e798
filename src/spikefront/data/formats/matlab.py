"""MATLAB files: a structure (``TD`` or of any name) or variables of their own with x, y, t or ts, p or pol.

A file's elements say how long they are, so every cut is told but one between two variables that leaves all four whole.
Version 7.3 is HDF5 within.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from spikefront.data.formats.decoded import Declared, Decoded, known
from spikefront.data.formats.hdf5 import open_hdf5
from spikefront.data.formats.named_columns import ASK_UNIT, NAMES, from_one, of_arrays
from spikefront.data.formats.refused import BadRecording

HEADER = 128  # bytes


def open_matlab(path: Path, declared: Declared) -> Decoded:
    with open(path, "rb") as file:
        head = file.read(HEADER)
    if b"MATLAB 7.3" in head:
        return open_hdf5(path, declared, "mat")
    check_whole(path)
    try:
        content = loadmat(path, squeeze_me=True, struct_as_record=True)
    except Exception as error:  # scipy has no error of its own
        raise BadRecording(f"can't be parsed: {str(error).splitlines()[0] if str(error) else type(error)}") from error
    columns = _columns(content)
    if declared.unit is None:
        raise BadRecording(ASK_UNIT)
    sensor, whence = known(None, declared)
    return Decoded("mat", sensor, whence, partial(_blocks, columns, declared))


def _blocks(columns: dict[str, np.ndarray], declared: Declared) -> Iterator[np.ndarray]:
    return of_arrays(columns, declared.unit, from_one(declared), declared.sensor)


def check_whole(path: Path) -> None:
    """Raises BadRecording if a MATLAB 5 file ends within one of its elements."""
    length = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(HEADER)
        if len(head) < HEADER or not re.match(rb"MATLAB [5-7]", head):
            raise BadRecording(
                f"can't be parsed: the file is truncated or none of MATLAB's: {len(head)} bytes of header"
            )
        order = "<" if head[126:128] == b"IM" else ">"
        at = HEADER
        while at < length:
            file.seek(at)
            tag = file.read(8)
            if len(tag) < 8:
                raise BadRecording(f"can't be parsed: the file is truncated, it ends at byte {length} inside a tag")
            kind, size = struct.unpack(f"{order}II", tag)
            at += 8 + (size if kind >> 16 == 0 else 0)
            if at > length:
                raise BadRecording(
                    f"can't be parsed: the file is truncated, it ends at byte {length}, inside a variable that"
                    f" reaches byte {at}"
                )


def _columns(content: dict[str, Any]) -> dict[str, np.ndarray]:
    """x, y, t, p of the variables themselves, or of the one structure that has them."""
    variables = {name: value for name, value in content.items() if not name.startswith("__")}
    found = {}
    if own := _named(variables):
        found["its variables"] = own
    for name, value in variables.items():
        if isinstance(value, np.ndarray) and value.dtype.names and value.size == 1:
            record = value.reshape(-1)[0]
            if own := _named({field: record[field] for field in value.dtype.names}):
                found[name] = own
    if len(found) != 1:
        named = ", ".join(sorted(variables)) or "nothing"
        what = f"several sets of events ({', '.join(found)})" if found else "no x, y, t (ts) and p (pol)"
        raise BadRecording(f"the file holds {what}, as variables or in a structure: it holds {named}")
    return next(iter(found.values()))


def _named(values: dict[str, Any]) -> dict[str, np.ndarray] | None:
    columns = {what: np.atleast_1d(values[name]).ravel() for name in values if (what := NAMES.get(name.lower()))}
    return columns if set(columns) == set("xytp") else None
