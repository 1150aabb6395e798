"""Prophesee's DAT (version 2): a header of text, two bytes of type and size, 8 bytes an event.

Which cuts of a file can be told: those within its header or an event. It says nowhere how many events there are, so
one that is cut between two of them can't be told from a shorter recording.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numba
import numpy as np

from spikefront.data.formats.decoded import EVENTS, Declared, Decoded, chunks, known
from spikefront.data.formats.raw import HEAD, lines_of, size
from spikefront.data.formats.refused import BadRecording

CHANGES = (0, 12)  # types of events that say that a pixel changed


def is_dat(lines: list[str]) -> bool:
    """Whether a header is a DAT's, which names what it holds."""
    return any(re.match(r"data file containing|version\s+\d", line, re.I) for line in lines)


def open_dat(path: Path, declared: Declared) -> Decoded:
    with open(path, "rb") as file:
        head = file.read(HEAD)
    lines, start = lines_of(head)
    if len(head) < start + 2:
        raise BadRecording(f"the file is truncated: it ends at byte {len(head)}, before the type of its events")
    version = next((found[1] for line in lines if (found := re.match(r"version\s+(\d+)", line, re.I))), "2")
    if version != "2":
        raise BadRecording(f"a DAT of version {version}: version 2 is read; write it anew with Metavision's tools")
    type_, width = head[start], head[start + 1]
    if type_ not in CHANGES or width != 8:
        raise BadRecording(f"its events are of type {type_} and {width} bytes, not 2D ones (type 0 or 12, 8 bytes)")
    sensor, whence = known(size(lines), declared)
    return Decoded("dat", sensor, whence, partial(_blocks, path, start + 2))


def _blocks(path: Path, start: int) -> Iterator[np.ndarray]:
    state = np.zeros(2, np.int64)
    for at, content in chunks(path, start, 8, "event"):
        block = np.empty(len(content) // 8, EVENTS)
        odd = _decode(np.frombuffer(content, "<u4"), state, block)
        if odd >= 0:
            raise BadRecording(f"the event at byte {at + 8 * odd} has a polarity that is neither 0 nor 1")
        yield block


@numba.njit(cache=True, nogil=True)
def _decode(words, state, out):  # type: ignore[no-untyped-def]
    """Pairs of time and address into ``out``; the first event without a polarity, or -1. Times have 32 bits."""
    for i in range(len(out)):
        time, address = np.int64(words[2 * i]), np.int64(words[2 * i + 1])
        if time + (1 << 31) < state[0]:
            state[1] += 1
        state[0] = time
        if address >> 29:
            return i
        event = out[i]
        event.x = address & 0x3FFF
        event.y = (address >> 14) & 0x3FFF
        event.t = (state[1] << 32) | time
        event.p = (address >> 28) & 1
    return -1
