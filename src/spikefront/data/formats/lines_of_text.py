"""Text: a line an event, columns parted by blanks, commas, semicolons or tabs; a first line may name them.

A file whose last line has no end is refused, for its last number may be cut. A cut at a line's end can't be told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from spikefront.data.formats.arrays import ASK_COLUMNS
from spikefront.data.formats.decoded import BLOCK, Declared, Decoded, known
from spikefront.data.formats.named_columns import (
    ASK_UNIT,
    Columns,
    columns_of,
    declared_columns,
    made,
    microseconds,
    polarity_zero,
    whole,
)
from spikefront.data.formats.refused import BadRecording

HEAD = 4096
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def is_text(head: bytes) -> bool:
    """Whether a file's first bytes are lines of numbers, three or more, behind lines of another kind or none."""
    try:
        lines = head.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        return False
    if len(head) == HEAD:
        lines = lines[:-1]
    kept, names, _ = _header(lines)
    rows = [line for line in lines[kept:] if line.strip()]
    return bool(rows or names) and all(_numbers(line) and len(_fields(line)) >= 3 for line in rows[:10])


def open_text(path: Path, declared: Declared) -> Decoded:
    with open(path, "rb") as file:
        head = file.read(HEAD)
        file.seek(-1, 2)
        if file.read() != b"\n":
            length = file.tell()
            raise BadRecording(
                f"the file is truncated: its last line ends at byte {length} without an end of line (if it is whole,"
                " add one)"
            )
    kept, names, size = _header(head.decode("utf-8-sig", "replace").splitlines())
    columns = declared_columns(declared) or (columns_of(names) if names else None)
    if columns is None:
        raise BadRecording(ASK_COLUMNS)
    unit = declared.unit or columns.unit
    if unit is None:
        raise BadRecording(ASK_UNIT)
    wanted = (
        len((declared.columns or "").replace(",", " ").replace(";", " ").split()) if declared.columns else len(names)
    )
    sensor, whence = known(size, declared)
    return Decoded("text", sensor, whence, partial(_blocks, path, kept, columns, unit, wanted))


def _header(lines: Sequence[str]) -> tuple[int, list[str], tuple[int, int] | None]:
    """How many lines stand before the events, the names of columns that one gives, a sensor's size that one gives."""
    names: list[str] = []
    size = None
    for at, line in enumerate(lines):
        plain = line.lstrip("#% ").strip()
        fields = _fields(plain)
        if plain and _numbers(plain) and not line.lstrip().startswith(("#", "%")):
            if at == 0 and len(fields) == 2 and all(field.isdigit() for field in fields):
                size = (int(fields[0]), int(fields[1]))  # "240 180", as in the Event Camera Dataset
                continue
            return at, names, size
        if columns_of(fields):
            names = fields
        elif plain and not line.lstrip().startswith(("#", "%")) and not names:
            return at, names, size
    return len(lines), names, size


def _fields(line: str) -> list[str]:
    line = line.strip()
    parts = re.split(r"\s*[,;\t]\s*", line) if re.search(r"[,;\t]", line) else line.split()
    return [part.strip() for part in parts if part.strip()]


def _numbers(line: str) -> bool:
    return all(NUMBER.fullmatch(field) for field in _fields(line))


def _blocks(path: Path, kept: int, columns: Columns, unit: str, wanted: int) -> Iterator[np.ndarray]:
    with open(path, encoding="utf-8-sig", errors="replace", newline=None) as file:
        for _ in range(kept):
            file.readline()
        at = kept + 1
        for lines in iter(lambda: file.readlines(BLOCK), []):
            yield _events(_parsed(lines, at, wanted, columns), columns, unit)
            at += len(lines)


def _parsed(lines: list[str], at: int, wanted: int, columns: Columns) -> np.ndarray:
    first = next((line for line in lines if line.strip()), "")
    if not first:
        return np.empty((0, wanted))
    mark = next((mark for mark in ",;\t" if mark in first), None)
    try:
        rows = np.loadtxt(lines, np.float64, comments="#", delimiter=mark, ndmin=2)
    except ValueError as error:
        told = str(error).splitlines()[0]
        raise BadRecording(f"can't be parsed: {told} (counted from line {at})") from error
    if rows.shape[1] != wanted:
        raise BadRecording(f"it has {rows.shape[1]} columns, not the {wanted} that are named")
    return rows


def _events(rows: np.ndarray, columns: Columns, unit: str) -> np.ndarray:
    x, y, t, p = (rows[:, columns.places[name]] for name in "xytp")
    if len(p) and p.max() > 1:
        raise BadRecording(f"polarities reach {whole('p', p).max()}: of text they are 0 and 1 or -1 and 1")
    off = polarity_zero(*((int(p.min()), 1) if len(p) else (0, 1)))
    return made(x, y, microseconds(t, unit), p, int(bool(columns.from_one)), min(off, 0))
