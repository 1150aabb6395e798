"""AEDAT 4, what iniVation's DV writes, by the library ``aedat``, which takes a file that ends early for a shorter one.

So the file's own accounts are looked through first (iniVation's "AEDAT file formats"): each packet says how many bytes
it has, and the header where the table of packets begins that DV writes when it closes a recording. Cuts of a closed
recording can all be told; of one that was never closed those between two packets can't.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import aedat
import numpy as np

from spikefront.data.formats.decoded import EVENTS, Declared, Decoded, gathered, known
from spikefront.data.formats.refused import BadRecording

MAGIC = b"#!AER-DAT4.0\r\n"
LZ4, ZSTD = 0x184D2204, 0xFD2FB528  # what their frames begin with


def open_aedat4(path: Path, declared: Declared) -> Decoded:
    _whole(path)
    try:
        streams = aedat.Decoder(str(path)).id_to_stream()
    except Exception as error:  # the library has one kind for all that it doesn't understand
        raise BadRecording(f"can't be parsed: {error}") from error
    chosen = min((i for i, stream in streams.items() if stream["type"] == "events"), default=None)
    if chosen is None:
        raise BadRecording("it holds no stream of events")
    size = (int(streams[chosen]["width"]), int(streams[chosen]["height"]))
    sensor, whence = known(size if all(size) else None, declared)
    return Decoded("aedat4", sensor, whence, partial(_blocks, path, chosen))


def _blocks(path: Path, chosen: int) -> Iterator[np.ndarray]:
    return gathered(_packets(path, chosen))


def _packets(path: Path, chosen: int) -> Iterator[np.ndarray]:
    try:
        for packet in aedat.Decoder(str(path)):
            if packet["stream_id"] == chosen and "events" in packet:
                rows = packet["events"]
                events = np.empty(len(rows), EVENTS)
                events["x"], events["y"], events["t"], events["p"] = rows["x"], rows["y"], rows["t"], rows["on"]
                yield events
    except BaseException as error:
        if isinstance(error, GeneratorExit | KeyboardInterrupt | MemoryError):
            raise
        raise BadRecording(f"can't be parsed: {error}") from error


def _whole(path: Path) -> None:
    """Raises BadRecording if the file ends before what its header and packets announce."""
    length = path.stat().st_size
    with open(path, "rb") as file:
        magic = file.read(len(MAGIC))
        if magic != MAGIC:
            raise BadRecording(f"can't be parsed: not an AEDAT 4.0 file, it begins with {magic!r}")
        size = _number(file, "<I", length)
        header = file.read(size)
        if len(header) < size:
            raise _early(length, len(MAGIC) + 4 + size, "inside its header")
        at, table = len(MAGIC) + 4 + size, _table_position(header)
        if table >= 0 and length <= table:
            raise _early(length, table, "before its table of packets")
        while at < (table if table >= 0 else length):
            file.seek(at + 4)
            size = _number(file, "<i", length)
            if size < 0:
                raise BadRecording(f"can't be parsed: byte {at} begins no packet")
            at += 8 + size
            if at > length:
                raise _early(length, at, "inside a packet")
        if table >= 0:
            file.seek(table)
            _whole_table(file, length)


def _early(length: int, needed: int, where: str) -> BadRecording:
    return BadRecording(
        f"can't be parsed: the file is truncated, it ends at byte {length}, {where} that reaches byte {needed}"
    )


def _number(file: BinaryIO, kind: str, length: int) -> int:
    read = file.read(struct.calcsize(kind))
    if len(read) < struct.calcsize(kind):
        raise _early(length, file.tell() - len(read) + struct.calcsize(kind), "inside a number")
    return int(struct.unpack(kind, read)[0])


def _table_position(header: bytes) -> int:
    """Of an ``IOHeader`` flatbuffer the second field, ``dataTablePosition``; -1: the recording wasn't closed."""
    try:
        table = struct.unpack_from("<I", header)[0]
        fields = table - struct.unpack_from("<i", header, table)[0]
        if struct.unpack_from("<H", header, fields)[0] < 8:
            return -1
        where = struct.unpack_from("<H", header, fields + 6)[0]
        return int(struct.unpack_from("<q", header, table + where)[0]) if where else -1
    except struct.error as error:
        raise BadRecording("can't be parsed: its header is damaged") from error


def _whole_table(file: BinaryIO, length: int) -> None:
    """The table is the file's last part: plain, behind its size, or a frame of LZ4 or Zstandard, walked by blocks."""
    first = _number(file, "<I", length)
    if first == LZ4:
        flags = _number(file, "<B", length)
        file.seek(1 + 8 * (flags >> 3 & 1) + 4 * (flags & 1) + 1, 1)  # block size, content size, dictionary, checksum
        while size := _number(file, "<I", length) & 0x7FFF_FFFF:
            file.seek(size + 4 * (flags >> 4 & 1), 1)
        file.seek(4 * (flags >> 2 & 1), 1)
    elif first == ZSTD:
        flags = _number(file, "<B", length)
        single = flags >> 5 & 1
        sizes = (single, 2, 4, 8)[flags >> 6]
        file.seek((0, 1, 2, 4)[flags & 3] + sizes + (1 - single), 1)
        last = 0
        while not last:
            word = _number(file, "<H", length) | _number(file, "<B", length) << 16
            last, kind, size = word & 1, word >> 1 & 3, word >> 3
            file.seek(1 if kind == 1 else size, 1)
        file.seek(4 * (flags >> 2 & 1), 1)
    else:
        file.seek(first, 1)
    if file.tell() > length:
        raise _early(length, file.tell(), "inside its table of packets")
