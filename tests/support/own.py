"""Folders as users have them: pictures and recordings of two classes that can be told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from spikefront.config import override

EVENTS = np.dtype([("x", "<u2"), ("y", "<u2"), ("t", "<i8"), ("p", "u1")])
SETS = {"image_folder": "pictures", "event_folder": "recordings"}


def picture(path: Path, value: int, seed: int = 0, size: tuple[int, int] = (12, 10)) -> Path:
    pixels = np.random.default_rng([value, seed]).integers(max(0, value - 30), min(255, value + 30), (*size[::-1], 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def pictures(root: Path, each: int = 5, classes=("dark", "light"), start: int = 0) -> Path:
    """``<class>/<number>.png``."""
    for c, name in enumerate(classes):
        for i in range(start, start + each):
            picture(root / name / f"{i}.png", 60 + 120 * c, i)
    return root


def events(
    right: bool, seed: int = 0, count: int = 400, sensor=(24, 16), begin: int = 0, seconds: float = 2
) -> np.ndarray:
    """A bar that goes from one side to the other."""
    rng = np.random.default_rng([right, seed])
    made = np.zeros(count, EVENTS)
    made["t"] = begin + np.sort(rng.integers(0, round(seconds * 1e6), count))
    place = (made["t"] - begin) / (seconds * 1e6) * (sensor[0] - 4)
    made["x"] = np.where(right, place, sensor[0] - 4 - place).astype(int) + rng.integers(0, 4, count)
    made["y"], made["p"] = rng.integers(0, sensor[1], count), rng.integers(0, 2, count)
    return made


def recordings(root: Path, each: int = 5, classes=("left", "right"), **how) -> Path:
    """``<class>/<number>.npy``."""
    for c, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(each):
            np.save(root / name / f"{i}.npy", events(bool(c), i, **how))
    return root


def given(option: str, tmp_path: Path) -> list[str]:
    """What a data set of a user's own needs beside its name; nothing for others."""
    if option not in SETS:
        return []
    make = pictures if option == "image_folder" else recordings
    return [override("data.root", str(make(tmp_path / "own"))), override("data.cache", str(tmp_path / "cache"))]
