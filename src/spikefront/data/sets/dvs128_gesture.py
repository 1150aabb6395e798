"""DVS128 Gesture: 11 hand and arm gestures of 29 people."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import tonic.datasets

from spikefront.data.cache import Recording
from spikefront.data.download import figshare
from spikefront.data.event_files import EventFiles
from spikefront.data.filtering import Sensor
from spikefront.data.formats.aedat31 import open_aedat31
from spikefront.data.formats.decoded import EVENTS, Declared
from spikefront.data.formats.named_columns import whole
from spikefront.data.formats.refused import BadRecording
from spikefront.errors import UserError

TRIALS = {"train": "trials_to_train.txt", "test": "trials_to_test.txt"}
TONIC = tonic.datasets.DVSGesture
CUT = {"train": "ibmGestureTrain", "test": "ibmGestureTest"}


class DVS128Gesture(EventFiles):
    """DVS128 Gesture (Amir et al., CVPR 2017), 128x128, with its split by user: 23 people to train on, 6 to test.

    Reads either the original ``DvsGesture/`` (AEDAT 3.1 recordings, a CSV of classes and times beside each; 1,176
    training and 288 test gestures), or tonic's copy ``DVSGesture/ibmGesture{Train,Test}/`` (cut into ``.npy``, times in
    ms; 1,077 and 264), which it can download.
    """

    title = "DVS128 Gesture"
    expected = (
        "DvsGesture/trials_to_train.txt, trials_to_test.txt, user01_fluorescent.aedat, user01_fluorescent_labels.csv …"
        " (unpacked from DvsGesture.tar.gz), or DVSGesture/ibmGestureTrain and ibmGestureTest (tonic's copy)"
    )

    classes = (
        *("hand clapping", "right hand wave", "left hand wave", "right arm clockwise", "right arm counter-clockwise"),
        *("left arm clockwise", "left arm counter-clockwise", "arm roll", "air drums", "air guitar", "other gestures"),
    )

    archives = (
        figshare(38022171, TONIC.train_filename, TONIC.train_md5, "DVSGesture", 2.4e9),
        figshare(38020584, TONIC.test_filename, TONIC.test_md5, "DVSGesture", 6.91e8),
    )

    def folder(self) -> Path | None:
        for names in (TRIALS, CUT):
            for folder in (self.root / "DvsGesture", self.root / "DVSGesture", self.root):
                if all((folder / name).exists() for name in names.values()):
                    return folder
        return None

    def opened(self, path: Path, known: Mapping[str, Any]) -> tuple[Iterable[np.ndarray], Sensor]:
        return ([_npy(path)], self.sensor) if path.suffix == ".npy" else super().opened(path, known)

    def recordings(self) -> Sequence[Recording]:
        folder = self.located()
        original = (folder / TRIALS["train"]).exists()
        found, users = [], {}
        for part in ("train", "test"):
            listed = self._trials(folder, part) if original else self._cut(folder, part)
            found += listed
            users[part] = {match[0] for r in listed if (match := re.search(r"user\d+", r.name))}
        if both := sorted(users["train"] & users["test"]):
            raise UserError(f"{folder}: {both[0]} is in both parts; the split is by user, so take it out of one list")
        return found

    def _trials(self, folder: Path, part: str) -> list[Recording]:
        found = []
        listed = (folder / TRIALS[part]).read_text(encoding="utf-8", errors="surrogateescape")
        for line in filter(None, map(str.strip, listed.splitlines())):
            file = folder / line
            try:
                rows = _gestures(file, self.num_classes)
            except BadRecording as error:
                found.append(self.recording(file, 0, part, partial(self.refuse, str(error))))
                continue
            for label, start, end in rows:
                read = partial(_between, file, start, end)
                found.append(self.recording(file, label, part, read, f" {start}-{end} µs"))
        return found

    def _cut(self, folder: Path, part: str) -> list[Recording]:
        found = []
        for file in sorted((folder / CUT[part]).glob("*/*.npy")):
            valid = file.stem.isdigit() and int(file.stem) < self.num_classes
            read = partial(_npy, file) if valid else partial(self.refuse, "its name isn't a class, 0 to 10")
            found.append(self.recording(file, int(file.stem) if valid else 0, part, read))
        return found


def _gestures(file: Path, classes: int) -> list[tuple[int, int, int]]:
    """Class (from 0), begin and end in µs of each gesture of a recording."""
    if not file.is_file():
        raise BadRecording("the recording is listed but missing")
    labels = file.with_name(f"{file.stem}_labels.csv")
    if not labels.is_file():
        raise BadRecording(f"its {labels.name} is missing")
    rows = []
    with open(labels, newline="", encoding="utf-8", errors="replace") as lines:
        for number, row in enumerate(csv.DictReader(lines), 2):
            try:
                label, start, end = (int(row[key]) for key in ("class", "startTime_usec", "endTime_usec"))
            except (KeyError, TypeError, ValueError) as error:
                raise BadRecording(f"{labels.name}, line {number}: not class,startTime_usec,endTime_usec") from error
            if not 1 <= label <= classes or end <= start:
                raise BadRecording(
                    f"{labels.name}, line {number}: class {label} from {start} to {end} µs can't be of"
                    f" data.num_classes={classes}"
                )
            rows.append((label - 1, start, end))
    if not rows:
        raise BadRecording(f"{labels.name} lists no gesture")
    return rows


def _between(file: Path, start: int, end: int) -> np.ndarray:
    events = _parsed(file)
    return events[(events["t"] >= start) & (events["t"] < end)]


@lru_cache(maxsize=1)  # a recording's gestures are read one after the other
def _parsed(file: Path) -> np.ndarray:
    parts = [np.empty(0, EVENTS), *open_aedat31(file, Declared()).read()]  # each gesture is held against the sensor
    return np.concatenate(parts)


def _npy(file: Path) -> np.ndarray:
    rows = np.load(file)
    if rows.ndim != 2 or rows.shape[1] != 4:
        raise BadRecording(f"an array of shape {rows.shape}, not (events, 4)")
    x, y, p, t = rows.T
    events = np.empty(
        len(rows), [("x", "i8"), ("y", "i8"), ("t", t.dtype if t.dtype.kind == "f" else "i8"), ("p", "i8")]
    )
    events["x"], events["y"], events["p"] = (whole(name, values) for name, values in zip("xyp", (x, y, p), strict=True))
    events["t"] = t.astype(events.dtype["t"]) * 1000
    return events
