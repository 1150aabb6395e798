"""The 40 bits an event of N-MNIST and N-Caltech101 (arXiv 1507.07629): x, y, polarity and 23 bits of time (µs).

The format has no header at all. So it is taken for one only where nothing else fits, the file is called ``.bin`` and
its times never fall, which no other content does by chance. Which cuts can be told: those within an event.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from spikefront.data.formats.decoded import EVENTS, Declared, Decoded, chunks, known
from spikefront.data.formats.refused import BadRecording

OVERFLOW, STEP = 240, 2**13  # an event in this row says that time went on by so many µs
LOOKED_AT = 5 * 4096  # bytes, to tell whether a file is one


def is_saccade_bin(path: Path) -> bool:
    """Whether a file is of this format, as far as can be known."""
    if path.suffix.lower() != ".bin":
        return False
    with open(path, "rb") as file:
        rows = _rows(file.read(LOOKED_AT))
    events, _ = _events(rows, 0, True)
    return len(events) > 0 and bool((events["t"][1:] >= events["t"][:-1]).all())


def open_saccade_bin(path: Path, declared: Declared) -> Decoded:
    sensor, whence = known(None, declared)
    overflows = sensor is None or sensor[1] <= OVERFLOW
    return Decoded("n_mnist", sensor, whence, partial(_blocks, path, overflows))


def _blocks(path: Path, overflows: bool) -> Iterator[np.ndarray]:
    before = 0
    for _, content in chunks(path, 0, 5, "event"):
        events, before = _events(_rows(content), before, overflows)
        yield events


def _rows(content: bytes) -> np.ndarray:
    return np.frombuffer(content[: len(content) - len(content) % 5], np.uint8).reshape(-1, 5)


def _events(rows: np.ndarray, before: int, overflows: bool) -> tuple[np.ndarray, int]:
    """Events of rows of 5 bytes, and the µs that overflows have added after them."""
    more = before + STEP * np.cumsum((rows[:, 1] == OVERFLOW) & overflows)
    kept = rows[:, 1] != OVERFLOW if overflows else slice(None)
    events = np.empty(len(rows), EVENTS)
    wide = rows.astype(np.int64)
    events["x"], events["y"], events["p"] = rows[:, 0], rows[:, 1], rows[:, 2] >> 7
    events["t"] = ((wide[:, 2] & 127) << 16 | wide[:, 3] << 8 | wide[:, 4]) + more
    return events[kept], int(more[-1]) if len(more) else before


def read_saccade_bin(path: Path) -> np.ndarray:
    """All events of a file that is known to be one, ``EVENTS``."""
    found = list(_blocks(path, True))
    if not found:
        raise BadRecording("the recording is empty")
    return np.concatenate(found)
