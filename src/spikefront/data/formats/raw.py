"""Prophesee's RAW: a header of text, then EVT2 words of 32 bits or EVT3 words of 16, little-endian.

Format: docs.prophesee.ai, "RAW file format", "EVT 2.0" and "EVT 3.0". Which cuts of a file can be told: those within
its header, within a word, and after an EVT3 vector's base without a vector. The words say nowhere how many there are,
and a camera stops between any two of them: a file cut at another word can't be told from a shorter recording.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from spikefront.data.formats import evt2, evt3
from spikefront.data.formats.decoded import EVENTS, MOST, Declared, Decoded, chunks, header_lines, known
from spikefront.data.formats.refused import BadRecording

HEAD = 1 << 16  # bytes in which a header ends
KERNELS = {"evt2": evt2.decode, "evt3": evt3.decode}
SIZES = {"evt2": 4, "evt3": 2}


def lines_of(head: bytes) -> tuple[list[str], int]:
    """A RAW or DAT header's lines without their ``%``, and where the events begin."""
    lines, start = header_lines(head, b"%", lambda line: line.strip() == "% end")
    return [line.lstrip("%").strip() for line in lines], start


def kind(lines: list[str]) -> str | None:
    """``evt2``, ``evt3`` or as the header names another one; None: it names none."""
    for line in lines:
        if found := re.match(r"evt\s+(\d+(?:\.\d+)?)", line, re.I) or re.match(r"format\s+EVT([\d.]+)", line, re.I):
            number = found[1].replace(".", "")
            return f"evt{number.removesuffix('0') or number}"
    return None


def size(lines: list[str]) -> tuple[int, int] | None:
    """Width and height that a header states in any of its ways."""
    found: dict[str, int] = {}
    for line in lines:
        if pair := re.match(r"(?:sensor\s+)?geometry:?\s+(\d+)\s*x\s*(\d+)", line, re.I):
            return int(pair[1]), int(pair[2])
        for name, number in re.findall(r"\b(width|height)\s*[=: ]\s*(\d+)", line, re.I):
            found[name.lower()] = int(number)
    return (found["width"], found["height"]) if len(found) == 2 else None


def open_raw(path: Path, declared: Declared) -> Decoded:
    with open(path, "rb") as file:
        lines, start = lines_of(file.read(HEAD))
    name = kind(lines)
    if name not in KERNELS:
        told = f"its header names {name.upper()}" if name else "its header names no format (% evt, % format)"
        raise BadRecording(f"{told}: EVT2 and EVT3 are read; write it anew as one of them")
    sensor, whence = known(size(lines), declared)
    return Decoded(name, sensor, whence, partial(_blocks, path, start, name, KERNELS[name]))


def _blocks(path: Path, start: int, name: str, decode: Callable[..., tuple[int, int]]) -> Iterator[np.ndarray]:
    width = SIZES[name]
    state = np.zeros(evt3.STATE, np.int64)
    for _, content in chunks(path, start, width, "word"):
        words = np.frombuffer(content, f"<u{width}")
        while len(words):
            block = np.empty(MOST, EVENTS)
            used, made = decode(words, state, block)
            words = words[used:]
            yield block[:made]
    if name == "evt3":
        if state[evt3.BEYOND]:
            raise BadRecording(f"an event has x = {state[evt3.BEYOND]}: beyond the 2048 columns that EVT3 can name")
        if state[evt3.PENDING]:
            raise BadRecording(
                f"the file is truncated: it ends at byte {path.stat().st_size} after a vector's base without its"
                " vector (if the camera ended it so, cut its last 2 bytes off)"
            )
