"""CIFAR10-DVS: 10,000 recordings of CIFAR-10 images that circle on a monitor."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tonic.datasets
from scipy.io import loadmat

from spikefront.data.cache import Recording
from spikefront.data.download import figshare
from spikefront.data.event_files import EventFiles
from spikefront.data.filtering import Sensor
from spikefront.data.formats.aedat2 import open_aedat2
from spikefront.data.formats.aedat4 import open_aedat4
from spikefront.data.formats.decoded import EVENTS, Declared
from spikefront.data.formats.matlab import check_whole
from spikefront.data.formats.named_columns import limits, made, microseconds, polarity_zero
from spikefront.data.formats.refused import BadRecording
from spikefront.errors import UserError, near_matches

TONIC = tonic.datasets.CIFAR10DVS
CAMERA = Declared(sensor=(128, 128), unit="us")  # a DVS128; the headers of 2014 don't name it
LAST = 127  # column and row
SPLITS = Path(__file__).with_name("splits")


class CIFAR10DVS(EventFiles):
    """CIFAR10-DVS (Li et al. 2017, doi 10.3389/fnins.2017.00309), 128x128, 1,000 recordings in each of 10 classes.

    Reads ``<class>/cifar10_<class>_<number>`` as ``.aedat4`` (tonic's copy, which it can download), ``.aedat`` (AEDAT
    2.0, the original) or ``.mat`` (``dat2mat.m``'s ``out1``), in ``root`` or ``root/CIFAR10DVS``. The camera stood on
    its side: ``.aedat`` and ``.mat`` are turned into the one orientation in which SpikingJelly reads the set, on which
    the published results rest. Of an address with bits 8-14 = a, 1-7 = b, 0 = c it is x = 127 - a, y = 127 - b,
    p = 1 - c. ``.aedat4`` is taken as it stands there.

    Args:
        split: which recordings are the test part, 100 of each class: ``seed0`` (drawn once, stored), ``published`` (the
            last tenth of the file names in alphabetical order, as the Spike-driven Transformer's code splits), or a
            JSON file of numbers by class.
    """

    title = "CIFAR10-DVS"
    expected = "airplane/cifar10_airplane_0.aedat4 (or .aedat, .mat) … truck/cifar10_truck_999.aedat4"

    classes = tuple(sorted(tonic.datasets.CIFAR10DVS.classes, key=tonic.datasets.CIFAR10DVS.classes.__getitem__))

    archives = (figshare(38023437, TONIC.filename, TONIC.file_md5, "CIFAR10DVS", 11.2e9),)

    def __init__(self, *, split: str = "seed0", **common: object) -> None:
        super().__init__(**common)  # type: ignore[arg-type]
        self.split = split
        stored = [p.stem.removeprefix("cifar10_dvs_") for p in SPLITS.glob("cifar10_dvs_*.json")]
        path = SPLITS / f"cifar10_dvs_{split}.json" if split in stored else Path(split).expanduser()
        try:
            self.tested = {name: set(numbers) for name, numbers in json.loads(path.read_text(encoding="utf-8")).items()}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise UserError(
                f"data.split is {split!r}, neither stored nor a JSON file of numbers by class; "
                f"{near_matches(split, stored)}"
            ) from error

    def folder(self) -> Path | None:
        return self.holding(tonic.datasets.CIFAR10DVS.classes, "CIFAR10DVS")

    def opened(self, path: Path, known: Mapping[str, Any]) -> tuple[Iterable[np.ndarray], Sensor]:
        return ([READERS[path.suffix](path)], self.sensor) if path.suffix in READERS else super().opened(path, known)

    def recordings(self) -> Sequence[Recording]:
        classes = tonic.datasets.CIFAR10DVS.classes
        found = []
        for file, name in self.files(self.located(), classes, tuple(READERS)):
            number = re.search(r"(\d+)$", file.stem)
            part = "test" if number and int(number[1]) in self.tested.get(name, ()) else "train"
            read = (
                partial(READERS[file.suffix], file)
                if number
                else partial(self.refuse, "its name doesn't end in a number")
            )
            found.append(self.recording(file, classes[name], part, read))
        return found


def _aedat2(file: Path) -> np.ndarray:
    events = open_aedat2(file, CAMERA).events()
    return _turned(events["y"], events["x"], events["t"], events["p"])


def _aedat4(file: Path) -> np.ndarray:
    return open_aedat4(file, Declared()).events()


def _mat(file: Path) -> np.ndarray:
    """``out1`` of dat2mat.m: rows of t, x, y, p, or of t, 0, 0, x, y, p with p of -1 and 1. Its x is jAER's, its y
    counts from below."""
    check_whole(file)
    content = loadmat(file)
    if "out1" not in content:
        raise BadRecording("the file holds no variable 'out1'")
    rows = np.asarray(content["out1"])
    if rows.ndim != 2 or rows.shape[1] not in (4, 6):
        raise BadRecording(f"'out1' is of shape {rows.shape}, not (events, 4) or (events, 6)")
    t, x, y, p = (rows[:, i] for i in ((0, 1, 2, 3) if rows.shape[1] == 4 else (0, 3, 4, 5)))
    for axis, values in (("x", x), ("y", y)):
        if len(values) and not 0 <= (odd := values[np.argmax(np.abs(values - LAST / 2))]) <= LAST:
            raise BadRecording(f"an event has {axis} = {odd}, off the sensor of 128x128")
    events = made(x, LAST - y, microseconds(t, "us"), p, 0, polarity_zero(*limits("p", p)))
    return _turned(events["y"], events["x"], events["t"], events["p"])


def _turned(x: np.ndarray, y: np.ndarray, t: np.ndarray, p: np.ndarray) -> np.ndarray:
    events = np.empty(len(t), EVENTS)
    events["x"], events["y"], events["t"], events["p"] = x, y, t, p
    return events


READERS = {".aedat4": _aedat4, ".aedat": _aedat2, ".mat": _mat}
