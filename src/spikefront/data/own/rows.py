"""Tables of samples: ``file,label[,start,end,split,group]``, a row each, as a CSV."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spikefront.errors import UserError

NAMES = {  # of the columns, and what others call them
    "file": ("file", "file_name", "filename", "path"),
    "label": ("label", "class"),
    "start": ("start",),
    "end": ("end",),
    "split": ("split", "part"),
    "group": ("group",),
}
PARTS = {  # what the parts are called, in folders and in columns
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Sample:
    """A picture, a recording, or a stretch of one.

    Attributes:
        file: its place below the folder, with ``/`` between.
        label: its class, by name.
        part: ``train``, ``val`` or ``test`` where the folder says so.
        group: who or what it belongs to, with which it stays together; None: to nothing but its file.
        start, end: in µs of the recording's own time, the end not included; None: from its begin, to its end.
        row: its line in the table.
    """

    file: str
    label: str
    part: str | None = None
    group: str | None = None
    start: int | None = None
    end: int | None = None
    row: int | None = None

    @property
    def name(self) -> str:
        """For messages."""
        whole = self.start is None and self.end is None
        span = "" if whole else f" {self.start or 0}-{'' if self.end is None else self.end} µs"
        return f"{self.file}{span}" + (f" (row {self.row})" if self.row else "")


def ends_late(sample: Sample, last: int) -> bool:
    """Whether more than a tenth of a marked stretch lies behind its recording's last event, at ``last`` µs."""
    return sample.end is not None and 10 * (sample.end - 1 - last) > sample.end - (sample.start or 0)


def is_table(path: Path) -> bool:
    """Whether a CSV's header names at least files and labels."""
    try:
        with open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
            header: list[str] = next(_reader(file), [])
    except (OSError, ValueError, csv.Error):
        return False
    return {"file", "label"} <= set(_columns(header))


def rows(
    table: Path, root: Path, classes: Sequence[str] | None = None, part: str | None = None, timed: bool = False
) -> Iterator[Sample]:
    """The samples of a table, whose files lie relative to it, below ``root``.

    Args:
        classes: the only labels there may be; None: any.
        part: which all rows belong to, where no column says so.
        timed: whether samples may be stretches.

    Raises:
        UserError: by file and row: what can't be read, files that aren't there or lie elsewhere, unknown labels, an
            end that isn't after its start.
    """
    where = _relative(table, root)
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            reader = _reader(file)
            columns = _columns(next(reader, []))
            if not {"file", "label"} <= set(columns):
                raise UserError(f"{table}: the first line must name the columns file,label[,start,end,split,group]")
            if not timed and (marks := sorted({"start", "end"} & set(columns))):
                raise UserError(f"{table}: pictures have no {' and '.join(marks)}: leave that column out")
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                yield _sample(cells, columns, f"{where}, row {reader.line_num}", table, root, classes, part)
    except UnicodeDecodeError as error:
        raise UserError(f"{table} is not UTF-8: save it as such ({error.reason} at byte {error.start})") from error
    except csv.Error as error:
        raise UserError(f"{table} is no CSV: {error}") from error
    except OSError as error:
        raise UserError(f"can't read the table {table}: {error.strerror or error}") from error


def _reader(file):  # type: ignore[no-untyped-def]
    """Commas, semicolons or tabs, whichever the first line has most of."""
    first = file.readline()
    file.seek(0)
    return csv.reader(file, delimiter=max(",;\t", key=first.count), strict=True)


def _columns(header: Sequence[str]) -> dict[str, int]:
    there = [name.strip().casefold() for name in header]
    return {
        name: there.index(found)
        for name, words in NAMES.items()
        if (found := next((w for w in words if w in there), None))
    }


def _sample(
    cells: Sequence[str],
    columns: Mapping[str, int],
    where: str,
    table: Path,
    root: Path,
    classes: Sequence[str] | None,
    part: str | None,
) -> Sample:
    given = {name: cells[at].strip() if at < len(cells) else "" for name, at in columns.items()}
    for name in ("file", "label"):
        if not given[name]:
            raise UserError(f"{where}: the {name} is empty")
    file = _file(given["file"], where, table, root)
    if classes is not None and given["label"] not in classes:
        raise UserError(f"{where}: the label {given['label']!r} is none of the classes {', '.join(classes)}")
    if split := given.get("split"):
        if split.casefold() not in PARTS:
            raise UserError(f"{where}: the split {split!r} is none of train, val, test")
        part = PARTS[split.casefold()]
    start, end = (_time(given.get(name, ""), f"{where}: {name}") for name in ("start", "end"))
    if end is not None and end <= (start or 0):
        raise UserError(f"{where}: the end, {end} µs, is not after the start, {start or 0} µs")
    row = int(where.rpartition(" ")[2])
    return Sample(file, given["label"], part, given.get("group") or None, start, end, row)


def _file(text: str, where: str, table: Path, root: Path) -> str:
    """A file's place below ``root``, whatever links it goes through."""
    candidates = [text, text.replace("\\", "/")]
    for name in dict.fromkeys(candidates):
        path = os.path.normpath(table.parent / name)
        if not Path(path).is_relative_to(os.path.normpath(root)):
            raise UserError(f"{where}: {text} lies outside of {root}")
        if os.path.isfile(path):
            return _relative(Path(path), root)
    raise UserError(f"{where}: {text} is not in {table.parent}")


def _time(text: str, what: str) -> int | None:
    if not text:
        return None
    try:
        value = float(text)
        if not (math.isfinite(value) and value >= 0):
            raise ValueError
    except ValueError:
        raise UserError(f"{what} is {text!r}: give microseconds, a number of at least 0") from None
    return round(value) if not text.isdigit() else int(text)


def _relative(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()
