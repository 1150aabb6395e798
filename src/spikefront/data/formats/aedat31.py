"""AEDAT 3.1, what cAER writes: a header of text, then packets of events of one type, little-endian.

Format: iniVation's "AEDAT file formats". Only events whose validity bit is set are taken, and of a packet only as many
as its header counts. Which cuts can be told: all but those between two packets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from spikefront.data.formats.decoded import EVENTS, Declared, Decoded, gathered, head_of, header_lines, known
from spikefront.data.formats.refused import BadRecording

HEAD = 1 << 20
POLARITY = 1  # the type of a packet whose events say that a pixel changed
SENSORS = {"DVS128": (128, 128), "DAVIS240": (240, 180), "DAVIS346": (346, 260), "DAVIS640": (640, 480)}
PACKET = np.dtype(
    [
        ("type", "<i2"),
        ("source", "<i2"),
        ("size", "<i4"),
        ("offset", "<i4"),
        ("overflow", "<i4"),
        ("capacity", "<i4"),
        ("number", "<i4"),
        ("valid", "<i4"),
    ]
)


def open_aedat31(path: Path, declared: Declared) -> Decoded:
    head = head_of(path, HEAD, b"#!AER-DAT3.1", "AEDAT 3.1")
    lines, start = header_lines(head, b"#", lambda line: line.startswith("#!END-HEADER"))
    chip = next((found[1] for line in lines if (found := re.match(r"#\s*Source\s+\d+:\s*(\w+)", line))), "")
    size = next((size for name, size in SENSORS.items() if chip.upper().startswith(name)), None)
    sensor, whence = known(size, declared, "chip")
    return Decoded("aedat3.1", sensor, whence, partial(_blocks, path, start))


def _blocks(path: Path, start: int) -> Iterator[np.ndarray]:
    return gathered(_packets(path, start))


def _packets(path: Path, start: int) -> Iterator[np.ndarray]:
    length = path.stat().st_size
    with open(path, "rb") as file:
        file.seek(start)
        at = start
        while at < length:
            if at + PACKET.itemsize > length:
                raise BadRecording(
                    f"the file is truncated: it ends inside the header of a packet, at byte {length} (the packet's"
                    f" first byte is {at})"
                )
            packet = np.frombuffer(file.read(PACKET.itemsize), PACKET)[0]
            size, capacity, number = (int(packet[name]) for name in ("size", "capacity", "number"))
            if size < 8 or size % 4 or not 0 <= number <= capacity:
                raise BadRecording(
                    f"byte {at} begins no packet: {number} events of {size} bytes in the room of {capacity}"
                )
            at += PACKET.itemsize
            if at + size * capacity > length:
                raise BadRecording(
                    f"the file is truncated: a packet at byte {at} needs {at + size * capacity - length} bytes more"
                    f" than the file's {length}"
                )
            content = file.read(size * capacity)
            at += size * capacity
            if packet["type"] == POLARITY:
                words = np.frombuffer(content, "<u4").reshape(capacity, size // 4)[:number]
                yield _events(words[words[:, 0] & 1 == 1], int(packet["overflow"]))


def _events(words: np.ndarray, overflow: int) -> np.ndarray:
    events = np.empty(len(words), EVENTS)
    address = words[:, 0]
    events["x"], events["y"] = address >> 17 & 0x7FFF, address >> 2 & 0x7FFF
    events["p"], events["t"] = address >> 1 & 1, words[:, 1].astype(np.int64) | overflow << 31
    return events
