"""Events in files: ``CHUNK`` of them at a time, so that a part of a long recording can be read, and checked, alone."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np

CHUNK = 1 << 18  # events of a recording that a CRC covers


def crc_of(events: np.ndarray, before: int = 0) -> int:
    """The CRC-32 of records, or of those with CRC ``before`` and these behind them."""
    return zlib.crc32(events.view(np.uint8).data, before)


def append(file: BinaryIO, begin: int, block: np.ndarray, crcs: list[int]) -> None:
    """Write records behind those that a recording has from byte ``begin`` on; keeps ``crcs`` of its chunks."""
    there = (file.tell() - begin) // block.itemsize
    file.write(block.view(np.uint8).data)
    while len(block):
        chunk, within = divmod(there, CHUNK)
        crcs += [0] * (chunk + 1 - len(crcs))
        part, block = block[: CHUNK - within], block[CHUNK - within :]
        crcs[chunk] = crc_of(part, crcs[chunk])
        there += len(part)


def chunked(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The same records, ``CHUNK`` at a time, each valid until the next."""
    held, count = np.empty(0), 0
    for block in blocks:
        if not len(held):
            held = np.empty(CHUNK, block.dtype)
        while len(block):
            part, block = block[: CHUNK - count], block[CHUNK - count :]
            held[count : count + len(part)] = part
            count += len(part)
            if count == CHUNK:
                yield held
                count = 0
    if count:
        yield held[:count]


def spooled(blocks: Iterable[np.ndarray], dtype: np.dtype) -> np.ndarray:
    """Records end to end in a nameless file, of which no more need be in memory than is looked at."""
    with tempfile.TemporaryFile() as file:
        for block in blocks:
            file.write(block.view(np.uint8).data)
        file.flush()
        return np.memmap(file, dtype, "r") if file.tell() else np.empty(0, dtype)
