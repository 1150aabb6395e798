"""What every reader takes and gives: what a user declares, what is known of a file, its events in blocks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numba
import numpy as np

from spikefront.data.formats.refused import BadRecording
from spikefront.errors import UserError

EVENTS = np.dtype([("x", "<u2"), ("y", "<u2"), ("t", "<i8"), ("p", "u1")])  # t in µs, as the file has them
BLOCK = 1 << 22  # bytes of a file read at once
MOST = 1 << 19  # events of a block
UNIT = re.compile(r"(\d+(?:\.\d+)?)?(ns|us|µs|μs|ms|s)")
MICROSECONDS = {"ns": 1e-3, "us": 1.0, "µs": 1.0, "μs": 1.0, "ms": 1e3, "s": 1e6}


@dataclass(frozen=True)
class Declared:
    """What a user says of files that can't say it themselves.

    Args:
        sensor: width and height in pixels.
        columns: names of the columns of a text or an array without names, in order, such as ``t x y p``; ``x1 y1``:
            coordinates that count from 1; ``-``: a column that is left out. Of MATLAB and HDF5 files the names of
            coordinates alone (``x1 y1``) are looked at.
        unit: of times: ns, us, ms, s, or a tick of so many of them, such as ``100ns``.
    """

    sensor: tuple[int, int] | None = None
    columns: str | None = None
    unit: str | None = None

    def __post_init__(self) -> None:
        if self.unit is not None and not UNIT.fullmatch(str(self.unit)):
            raise UserError(f"data.unit is {self.unit!r}: give ns, us, ms, s, or a tick of so many, such as 100ns")
        if self.columns is not None:
            named = [
                name.removesuffix("1") for name in re.split(r"[\s,;]+", self.columns.strip().lower()) if name != "-"
            ]
            if sorted(named) not in (sorted("txyp"), sorted("xy")):
                raise UserError(
                    f"data.columns is {self.columns!r}: name t, x, y and p once each in the file's order, such as"
                    " 't x y p'; x1 and y1 count from 1, - is a column that is left out"
                )


@dataclass
class Decoded:
    """A recording of which the header has been read.

    Attributes:
        format: its name, as ``sniff`` gives it.
        sensor: width and height in pixels, None where nothing tells.
        whence: how the sensor is known: ``header``, ``chip``, ``given``; where nothing tells, what the events reach,
            such as "at least 637x480 by the events", once they have all been read.
    """

    format: str
    sensor: tuple[int, int] | None
    whence: str
    read: Callable[[], Iterator[np.ndarray]] = field(repr=False)

    def blocks(self) -> Iterator[np.ndarray]:
        """The events in order, as ``EVENTS`` of a few megabytes each, whatever the recording's length.

        Raises:
            BadRecording: no event, one off the sensor, a file that ends early, or whatever else is wrong with it.
        """
        width = height = events = 0
        for block in self.read():
            if not len(block):
                continue
            width, height = _reach(block, width, height)
            if self.sensor and (width > self.sensor[0] or height > self.sensor[1]):
                axis, value = ("x", width - 1) if width > self.sensor[0] else ("y", height - 1)
                raise BadRecording(
                    f"an event has {axis} = {value}, off the sensor of {self.sensor[0]}x{self.sensor[1]}"
                    f" ({self._source()})"
                )
            events += len(block)
            yield block
        if not events:
            raise BadRecording(f"the recording is empty: a file of {self.format} without an event")
        if self.sensor is None:
            self.whence = f"at least {width}x{height} by the events"

    def events(self) -> np.ndarray:
        """All blocks together, as ``EVENTS``."""
        return np.concatenate(list(self.blocks()))

    def _source(self) -> str:
        return {"header": "its header's", "chip": "its chip's", "given": "data.sensor"}.get(self.whence, self.whence)


@numba.njit(cache=True, nogil=True)
def _reach(events, width, height):  # type: ignore[no-untyped-def]
    """The smallest sensor that holds ``EVENTS`` and one of ``width`` and ``height``."""
    for i in range(len(events)):
        width, height = max(width, np.int64(events[i].x) + 1), max(height, np.int64(events[i].y) + 1)
    return width, height


def known(
    header: tuple[int, int] | None, declared: Declared, whence: str = "header"
) -> tuple[tuple[int, int] | None, str]:
    """Sensor and whence it is known. A header's word and a user's must be the same.

    Raises:
        BadRecording: they aren't.
    """
    given = tuple(declared.sensor) if declared.sensor else None
    if header and given and header != given:
        raise BadRecording(
            f"its {whence} says {header[0]}x{header[1]} pixels, data.sensor {given[0]}x{given[1]}: mend data.sensor"
        )
    if header:
        return header, whence
    return (given, "given") if given else (None, "the events, once they are read")  # type: ignore[return-value]


def gathered(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Small blocks put together to some of ``MOST`` events."""
    held: list[np.ndarray] = []
    count = 0
    for block in blocks:
        held.append(block)
        count += len(block)
        if count >= MOST:
            yield np.concatenate(held)
            held, count = [], 0
    if held:
        yield np.concatenate(held)


def chunks(path: Path, start: int, size: int, what: str) -> Iterator[tuple[int, bytes]]:
    """A file from ``start`` on as pairs of position and bytes, whole records of ``size`` bytes, ``BLOCK`` at once.

    Raises:
        BadRecording: the file ends within a record.
    """
    length = path.stat().st_size
    if over := (length - start) % size:
        raise BadRecording(
            f"the file is truncated: it ends at byte {length}, {over} bytes into a {what} of {size} at byte"
            f" {length - over}"
        )
    with open(path, "rb") as file:
        file.seek(start)
        at = start
        while content := file.read(BLOCK - BLOCK % size):
            yield at, content[: len(content) - len(content) % size]
            at += len(content)


def head_of(path: Path, most: int, magic: bytes, title: str) -> bytes:
    """The first ``most`` bytes of a file that begins with ``magic``.

    Raises:
        BadRecording: it is empty, or begins otherwise and so is no ``title`` file.
    """
    with open(path, "rb") as file:
        head = file.read(most)
    if not head:
        raise BadRecording("the file is empty")
    if not head.startswith(magic):
        raise BadRecording(f"not an {title} file: it begins with {head[:12]!r}")
    return head


def header_lines(head: bytes, mark: bytes, end: Callable[[str], bool]) -> tuple[list[str], int]:
    """The lines of text at a file's start that begin with ``mark``, and where what follows them begins.

    Args:
        head: the file's first bytes.
        end: whether a line is the header's last.

    Raises:
        BadRecording: the file ends within a line of its header.
    """
    lines: list[str] = []
    at = 0
    while head[at : at + 1] == mark:
        stop = head.find(b"\n", at)
        line = head[at : stop if stop >= 0 else len(head)]
        if any(byte < 32 and byte not in (9, 13) for byte in line):
            break  # events whose first byte happens to be the mark
        if stop < 0:
            raise BadRecording(f"the file is truncated: it ends inside its header, at byte {len(head)}")
        lines.append(line.decode("utf-8", "replace").rstrip("\r"))
        at = stop + 1
        if end(lines[-1]):
            break
    return lines, at
