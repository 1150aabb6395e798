"""Recordings as cameras and programs write them, made here from each format's facts alone."""

from __future__ import annotations

import io
import struct

import numpy as np
from layouts import aedat4, aedat31, saccade_bin
from scipy.io import savemat

DAVIS = b"#!AER-DAT2.0\r\n# created by jAER\r\n# AEChip: eu.seebetter.ini.chips.davis.DAVIS240C\r\n"
DVS = b"#!AER-DAT2.0\r\n# AEChip: ch.unizh.ini.jaer.chip.retina.DVS128\r\n"


def events(n: int = 400, sensor: tuple[int, int] = (128, 100), seed: int = 0, start: int = 5000, step: int = 60):
    """Events in the order of their times, some at the same one; two of them in the corners."""
    rng = np.random.default_rng(seed)
    made = np.empty(n, [("x", "i8"), ("y", "i8"), ("t", "i8"), ("p", "i8")])
    made["x"], made["y"] = rng.integers(sensor[0], size=n), rng.integers(sensor[1], size=n)
    made["t"], made["p"] = start + np.cumsum(rng.integers(step, size=n)), rng.integers(2, size=n)
    made["x"][[1, 2]], made["y"][[1, 2]] = [0, sensor[0] - 1], [0, sensor[1] - 1]
    return made


def evt2(found: np.ndarray, header: bytes = b"% evt 2.0\n% geometry 128x100\n% end\n") -> bytes:
    """A time's upper part before each event that needs another, triggers and monitoring among them."""
    words, high = [], None
    for i, (x, y, t, p) in enumerate(found.tolist()):
        if (part := t >> 6 & 0xFFFFFFF) != high:
            words.append(8 << 28 | part)
            high = part
        if i % 7 == 0:
            words += [0xA << 28 | (t & 63) << 22 | 1, 0xE << 28 | 5, 0xF << 28 | 9]
        words.append(p << 28 | (t & 63) << 22 | x << 11 | y)
    return header + np.array(words, "<u4").tobytes()


def evt3(found: np.ndarray, header: bytes = b"% evt 3.0\n% format EVT3;height=100;width=128\n% end\n") -> bytes:
    """Neighbours of one time, row and polarity as vectors of 12, 12 and 8, all others by themselves."""
    words, high, low, row = [0x2005, 0x4001], None, None, None  # before the first time nothing is an event
    rows = found.tolist()
    at = 0
    while at < len(rows):
        x, y, t, p = rows[at]
        if (part := t >> 12 & 0xFFF) != high:
            words.append(8 << 12 | part)
            high, low = part, 0
        if t & 0xFFF != low:
            low = t & 0xFFF
            words.append(6 << 12 | low)
        if at % 9 == 0:
            words += [0xA << 12 | 1, 0xE << 12 | 2, 0x7 << 12 | 3, 0xF << 12 | 4]
        if y != row:
            row = y
            words.append(row)
        many = 1
        while at + many < len(rows) and rows[at + many][1:] == [y, t, p] and x < rows[at + many][0] < x + 32:
            if rows[at + many][0] <= rows[at + many - 1][0]:
                break
            many += 1
        if many == 1:
            words.append(2 << 12 | p << 11 | x)
        else:
            bits = sum(1 << rows[at + k][0] - x for k in range(many))
            words += [3 << 12 | p << 11 | x, 4 << 12 | bits & 0xFFF, 4 << 12 | bits >> 12 & 0xFFF, 5 << 12 | bits >> 24]
        at += many
    return header + np.array(words, "<u2").tobytes()


def vectors(n: int = 60, start: int = 5000) -> np.ndarray:
    """Runs of neighbours at one time, as EVT3 packs them."""
    rng = np.random.default_rng(3)
    rows = []
    for i in range(n):
        x, y, p = int(rng.integers(96)), int(rng.integers(100)), int(rng.integers(2))
        rows += [(x + k, y, start + 700 * i, p) for k in np.flatnonzero(rng.integers(2, size=32))]
    return np.array(rows, [(name, "i8") for name in "xytp"])


def dat(
    found: np.ndarray, header: bytes = b"% Data file containing CD events.\n% Version 2\n% Height 100\n% Width 128\n"
):
    words = np.empty((len(found), 2), "<u4")
    words[:, 0] = found["t"] & 0xFFFFFFFF
    words[:, 1] = found["x"] | found["y"] << 14 | found["p"] << 28
    return header + bytes([12, 8]) + words.tobytes()


def davis(found: np.ndarray, header: bytes = DAVIS, height: int = 180) -> bytes:
    """jAER's file of a DAVIS, with words of a frame, of the inertial sensor and of a trigger among its events."""
    out = []
    for i, (x, y, t, p) in enumerate(found.tolist()):
        if i % 5 == 0:
            out += [(1 << 31 | 170 << 22 | 3 << 12 | 99, t), (1 << 31 | 0xC00 | 7, t), (1 << 10 | x << 12, t)]
        out.append(((height - 1 - y) << 22 | x << 12 | p << 11, t))
    return header + b"".join(struct.pack(">II", address, t & 0xFFFFFFFF) for address, t in out)


def dvs128(found: np.ndarray, header: bytes = DVS) -> bytes:
    out = [(0x8000, 1)] + [(127 - y << 8 | 127 - x << 1 | 1 - p, t) for x, y, t, p in found.tolist()]
    return header + b"".join(struct.pack(">II", address, t) for address, t in out)


TABLES = {  # of 40 bytes: plain behind its size, or one stored block in a frame of LZ4 or Zstandard
    "plain": struct.pack("<I", 40) + bytes(40),
    "lz4": struct.pack("<IBBBI", 0x184D2204, 0x74, 0x40, 0, 1 << 31 | 40) + bytes(40 + 4) + bytes(4) + bytes(4),
    "zstd": struct.pack("<IBB", 0xFD2FB528, 0x24, 40) + (1 | 40 << 3).to_bytes(3, "little") + bytes(40) + bytes(4),
}


def closed(found: np.ndarray, table: bytes = TABLES["plain"]) -> bytes:
    """An AEDAT 4 file with the table of packets that DV writes last."""
    content = aedat4(found)
    at = content.index(struct.pack("<q", -1))
    return content[:at] + struct.pack("<q", len(content)) + content[at + 8 :] + table


def matlab(found: np.ndarray, first: int = 1, polarities: tuple[int, int] = (1, 2), compressed: bool = True) -> bytes:
    out = io.BytesIO()
    made = {"x": found["x"] + first, "y": found["y"] + first, "ts": found["t"], "p": np.array(polarities)[found["p"]]}
    savemat(out, {"TD": made}, do_compression=compressed)
    return out.getvalue()


def npy(found: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, found)
    return out.getvalue()


def npz(found: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **{name: found[name] for name in "xytp"})
    return out.getvalue()


def text(found: np.ndarray, header: str = "t,x,y,p\n") -> bytes:
    return (header + "".join(f"{t},{x},{y},{p}\n" for x, y, t, p in found.tolist())).encode()


WRITERS = {
    "evt2": evt2,
    "evt3": evt3,
    "dat": dat,
    "aedat2": davis,
    "aedat3.1": aedat31,
    "aedat4": closed,
    "n_mnist": saccade_bin,
    "mat": matlab,
    "npz": npz,
    "npy": npy,
    "text": text,
}
