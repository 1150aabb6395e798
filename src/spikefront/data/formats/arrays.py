"""NumPy's ``.npy`` and ``.npz``: structured arrays, arrays named x, y, t, p, or columns that the user names.

Both say how long they are, so every cut is told.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from spikefront.data.formats.decoded import Declared, Decoded, known
from spikefront.data.formats.named_columns import ASK_UNIT, Columns, columns_of, declared_columns, from_one, of_arrays
from spikefront.data.formats.refused import BadRecording

ASK_COLUMNS = "its columns have no names: say their order with data.columns, such as data.columns='t x y p'"


def open_npy(path: Path, declared: Declared) -> Decoded:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise BadRecording(
            f"can't be parsed, truncated at byte {path.stat().st_size} or no plain array: {_line(error)}"
        ) from error
    columns, arrays = _split(array, declared)
    return _decoded("npy", columns, arrays, declared)


def open_npz(path: Path, declared: Declared) -> Decoded:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, KeyError) as error:
        raise BadRecording(
            f"can't be parsed, truncated at byte {path.stat().st_size} or no archive of plain arrays: {_line(error)}"
        ) from error
    names = list(arrays)
    if columns := columns_of(names):
        return _decoded("npz", columns, {what: arrays[names[at]] for what, at in columns.places.items()}, declared)
    tables = {n: a for n, a in arrays.items() if a.dtype.names or a.ndim == 2}
    if len(tables) != 1:
        raise BadRecording(
            f"the file holds {', '.join(names) or 'nothing'}: neither x, y, t and p nor one table of them"
        )
    columns, split = _split(next(iter(tables.values())), declared)
    return _decoded("npz", columns, split, declared)


def _split(array: np.ndarray, declared: Declared) -> tuple[Columns, dict[str, np.ndarray]]:
    if array.dtype.names:
        names = list(array.dtype.names)
        columns = columns_of(names)
        if columns is None:
            raise BadRecording(f"its fields are {', '.join(names)}, not x, y, t and p")
        return columns, {what: array.ravel()[names[at]] for what, at in columns.places.items()}
    if array.ndim != 2:
        raise BadRecording(f"an array of shape {array.shape}, not (events, columns)")
    return named_table(array, declared)


def named_table(array: np.ndarray, declared: Declared) -> tuple[Columns, dict[str, np.ndarray]]:
    """The columns of a table ``(events, columns)``, as ``data.columns`` names them."""
    columns = declared_columns(declared)
    if columns is None:
        raise BadRecording(ASK_COLUMNS)
    named = len((declared.columns or "").replace(",", " ").split())
    if named != array.shape[1]:
        raise BadRecording(f"it has {array.shape[1]} columns, data.columns names {named}")
    return columns, {what: array[:, at] for what, at in columns.places.items()}


def _decoded(name: str, columns: Columns, arrays: dict[str, np.ndarray], declared: Declared) -> Decoded:
    unit = declared.unit or columns.unit
    if unit is None:
        raise BadRecording(ASK_UNIT)
    told = from_one(declared) if declared.columns else bool(columns.from_one)
    sensor, whence = known(None, declared)
    return Decoded(name, sensor, whence, partial(_blocks, arrays, unit, told, sensor))


def _blocks(
    arrays: dict[str, np.ndarray], unit: str, told: bool | None, sensor: tuple[int, int] | None
) -> Iterator[np.ndarray]:
    return of_arrays(arrays, unit, told, sensor)


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
