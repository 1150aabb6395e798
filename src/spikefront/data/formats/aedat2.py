"""AEDAT 2.0, what jAER writes: a header of text, then pairs of address and time (µs), big-endian words of 32 bits.

The chip that the header names says what an address means (iniVation's "AEDAT file formats"; jAER's ``DVS128`` and
``DavisChip``). Rows are counted from below there and turned upright here. Columns of a DVS128 are mirrored, as jAER
and SpikingJelly show them; a DAVIS's are taken as they stand in the file, as eventcv reads them.

Which cuts of a file can be told: those within its header or an event. It says nowhere how many events there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np

from spikefront.data.formats.decoded import EVENTS, Declared, Decoded, chunks, head_of, header_lines, known
from spikefront.data.formats.refused import BadRecording

HEAD = 1 << 24  # bytes in which a header ends: jAER may write a camera's whole settings there


class Layout(NamedTuple):
    """Where an address has its parts: first bits, numbers that they may reach, bits that mean another kind of word."""

    sensor: tuple[int, int]
    x: int
    y: int
    polarity: int
    bits: tuple[int, int]  # of x and y
    other: int  # any of these bits: a frame's, an inertial sensor's or a trigger's word
    empty: int  # none of these bits is ever set
    mirrored: bool
    on: int  # the polarity bit of an event that became brighter


DVS128 = Layout((128, 128), 1, 8, 0, (7, 7), 0x8000_8000, 0x7FFF_0000, True, 0)
DAVIS240 = Layout((240, 180), 12, 22, 11, (10, 9), 0x8000_0400, 0, False, 1)
DAVIS346 = DAVIS240._replace(sensor=(346, 260))
LAYOUTS = (DVS128, DAVIS240, DAVIS346)
CHIPS = (  # the end of the Java class that a header names
    (r"dvs128", DVS128),
    (r"(davis240|dvs240|sbret10|sbret20|sbret21)\w*", DAVIS240),
    (r"davis346\w*", DAVIS346),
)


def open_aedat2(path: Path, declared: Declared) -> Decoded:
    head = head_of(path, HEAD, b"#!AER-DAT2", "AEDAT 2.0")
    lines, start = header_lines(head, b"#", lambda line: "End Of ASCII Header" in line)
    layout, sensor, whence = _layout(lines, declared)
    return Decoded("aedat2", sensor, whence, partial(_blocks, path, start, layout))


def _layout(lines: list[str], declared: Declared) -> tuple[Layout, tuple[int, int], str]:
    chip = next((found[1] for line in lines if (found := re.match(r"#\s*AEChip:\s*(\S+)", line))), None)
    if chip is None:
        found_by = next((layout for layout in LAYOUTS if layout.sensor == declared.sensor), None)
        if found_by is None:
            raise BadRecording(
                "its header names no chip (AEChip:), which decides how it is read: give its size,"
                " data.sensor=[128,128] (DVS128), [240,180] (DAVIS240) or [346,260] (DAVIS346)"
            )
        return found_by, found_by.sensor, "given"
    name = chip.rpartition(".")[2].lower()
    layout = next((layout for pattern, layout in CHIPS if re.fullmatch(pattern, name)), None)
    if layout is None:
        raise BadRecording(f"it is of the chip {chip}, whose addresses aren't known: DVS128, DAVIS240 and DAVIS346 are")
    _, whence = known(layout.sensor, declared, "chip")
    return layout, layout.sensor, whence


def _blocks(path: Path, start: int, layout: Layout) -> Iterator[np.ndarray]:
    state = np.zeros(2, np.int64)
    numbers = np.array([*layout.sensor, *layout[1:4], *layout.bits, *layout[5:]], np.int64)
    for at, content in chunks(path, start, 8, "event"):
        words = np.frombuffer(content, ">u4").astype(np.uint32)
        block = np.empty(len(words) // 2, EVENTS)
        odd, made = _decode(words, numbers, state, block)
        if odd >= 0:
            width, height = layout.sensor
            raise BadRecording(
                f"the address {words[2 * odd]:#010x} at byte {at + 8 * odd} is none of a sensor of {width}x{height}:"
                " another chip's file, or a damaged one"
            )
        yield block[:made]


@numba.njit(cache=True, nogil=True)
def _decode(words, layout, state, out):  # type: ignore[no-untyped-def]
    """Pairs of address and time into ``out``: the first event that can't be (or -1), events made."""
    width, height, x_at, y_at, p_at, x_bits, y_bits, other, empty, mirrored, on = layout
    made = 0
    for i in range(len(out)):
        address, time = np.int64(words[2 * i]), np.int64(words[2 * i + 1])
        if address & other:
            continue
        if time + (1 << 31) < state[0]:
            state[1] += 1
        state[0] = time
        x = (address >> x_at) & ((1 << x_bits) - 1)
        y = (address >> y_at) & ((1 << y_bits) - 1)
        if address & empty or x >= width or y >= height:
            return i, made
        event = out[made]
        event.x = width - 1 - x if mirrored else x
        event.y = height - 1 - y
        event.t = (state[1] << 32) | time
        event.p = 1 if (address >> p_at) & 1 == on else 0
        made += 1
    return -1, made
