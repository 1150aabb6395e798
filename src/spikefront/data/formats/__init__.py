"""One file a recording format. (Stand-in: structured ``.npy`` arrays alone.)"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spikefront.data.cache import BadRecording


@dataclass(frozen=True)
class Declared:
    """What a user says of recordings that don't say it themselves."""

    sensor: tuple[int, int] | None = None
    columns: str | None = None
    unit: str | None = None


@dataclass
class Decoded:
    """A recording: its format, its sensor and whence that is known, its events."""

    format: str
    sensor: tuple[int, int] | None
    whence: str
    array: np.ndarray

    def blocks(self) -> Iterator[np.ndarray]:
        yield self.array

    def events(self) -> np.ndarray:
        return self.array


def sniff(path: str | Path) -> str | None:
    """The format by its content; None: no recording."""
    with open(path, "rb") as file:
        return "npy" if file.read(6) == b"\x93NUMPY" else None


def open_recording(path: str | Path, declared: Declared | None = None) -> Decoded:
    """A recording; raises BadRecording."""
    declared = declared or Declared()
    try:
        array = np.load(path)
    except (OSError, ValueError, EOFError) as error:
        raise BadRecording(f"can't be read ({error})") from error
    if not {"x", "y", "t", "p"} <= set(array.dtype.names or ()):
        raise BadRecording("no fields x, y, t, p")
    return Decoded("npy", declared.sensor, "given" if declared.sensor else "unknown", array)
