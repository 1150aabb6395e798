"""AEDAT 2.0 and 3.1, the formats of the original CIFAR10-DVS and DVS128 Gesture files.

tonic reads both (``tonic.io``), but takes a file that ends early for a shorter recording; these readers refuse it.
Addresses are decoded as tonic's ``read_dvs_128`` and ``read_dvs_ibm`` do.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tonic.io import events_struct, make_structured_array

from spikefront.data.cache import BadRecording

POLARITY = 1  # the type of a 3.1 packet whose events say that a pixel changed
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


def read_aedat2(path: Path) -> np.ndarray:
    """A DVS128's events as jAER writes them: x, y, t (µs), p."""
    data = _body(path, "2.0")
    if len(data) % 8:
        raise BadRecording(f"the file is truncated: {len(data)} bytes of events aren't a multiple of 8")
    words = np.frombuffer(data, ">u4").reshape(-1, 2)
    address, t = words[:, 0].astype(np.int64), words[:, 1].astype(np.int64)
    return make_structured_array((address >> 8) & 0x7F, (address >> 1) & 0x7F, t, address & 1, dtype=events_struct)


def read_aedat31(path: Path) -> np.ndarray:
    """The polarity events of an AEDAT 3.1 file (cAER): x, y, t (µs), p."""
    data = _body(path, "3.1")
    found = [np.empty((0, 2), np.int64)]
    at = 0
    while at < len(data):
        if at + PACKET.itemsize > len(data):
            raise BadRecording(f"the file is truncated: it ends inside the header of a packet, at byte {at}")
        packet = np.frombuffer(data, PACKET, 1, at)[0]
        length = int(packet["size"]) * int(packet["capacity"])
        if packet["size"] < 8 or length <= 0:
            raise BadRecording(f"byte {at} after the header is no packet: events of {packet['size']} bytes")
        at += PACKET.itemsize
        if at + length > len(data):
            raise BadRecording(f"the file is truncated: a packet at byte {at} needs {length} bytes more")
        if packet["type"] == POLARITY:
            words = np.frombuffer(data, "<u4", length // 4, at).reshape(-1, int(packet["size"]) // 4)[:, :2]
            events = words.astype(np.int64)
            events[:, 1] |= int(packet["overflow"]) << 31
            found.append(events)
        at += length
    address, t = np.concatenate(found).T
    return make_structured_array((address >> 17) & 0x1FFF, (address >> 2) & 0x1FFF, t, (address >> 1) & 1)


def _body(path: Path, version: str) -> bytes:
    """What follows the header, lines that begin with #."""
    content = path.read_bytes()
    if not content:
        raise BadRecording("the file is empty")
    if not content.startswith(b"#!AER-DAT" + version.encode()):
        raise BadRecording(f"not an AEDAT {version} file: it begins with {content[:12]!r}")
    at = 0
    while content[at : at + 1] == b"#":
        line = content.find(b"\n", at)
        if line < 0:
            raise BadRecording("the file is truncated: it ends inside its header")
        at = line + 1
    return content[at:]
