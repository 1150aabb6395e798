"""HARDVS: 300 everyday actions before a DAVIS346."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from spikefront.data.cache import Events, Recording
from spikefront.data.event_files import EventFiles
from spikefront.data.filtering import Sensor
from spikefront.data.formats import Declared, open_recording
from spikefront.errors import UserError

LISTS = {part: f"{part}_label.txt" for part in ("train", "val", "test")}
CLASS = re.compile(r"action_(\d{3})")
SUFFIXES = (".npz", ".aedat4")
DV = Declared(sensor=(346, 260), unit="us", columns="t x y p")  # what wrote the arrays' events: they count from 0


class HARDVS(EventFiles):
    """HARDVS (Wang et al., AAAI 2024, arXiv 2211.09648): 346x260, more than 100,000 recordings in 300 classes, with
    parts of its own. Names, lines and the archive's checksum are those of SpikingJelly 2.0.0's source; the parts' sizes
    in ``conf/data/hardvs.yaml`` were never held against the lists, which a run counts.

    Reads ``action_001/dvSave-….npz`` … ``action_300/`` (the authors' compact files: arrays t, x, y and p; or DV's
    ``.aedat4``) and the lists ``{train,val,test}_label.txt`` beside them, a recording a line, ``action_001/dvSave-…``
    before the first space, in ``root`` or ``root/HARDVS``. Class and number are those of the folder's name.
    """

    title = "HARDVS"
    expected = (
        "HARDVS/train_label.txt, val_label.txt, test_label.txt and action_001/*.npz … action_300/*.npz (from"
        " MINI_HARDVS_files.zip, MD5 9c4cc0d9ba043faa17f6f1a9e9aff982, by browser: 'Compact Event file' of"
        " https://github.com/Event-AHU/HARDVS; each of its 300 archives unpacked into a folder of its name)"
    )

    def folder(self) -> Path | None:
        for folder in (self.root / "HARDVS", self.root):
            if all((folder / name).is_file() for name in LISTS.values()):
                return folder
        return None

    def opened(self, path: Path, known: Mapping[str, Any]) -> tuple[Iterable[np.ndarray], Sensor]:
        return (_blocks(path), self.sensor) if path.suffix in SUFFIXES else super().opened(path, known)

    def recordings(self) -> Sequence[Recording]:
        folder = self.located()
        found = [self._listed(folder, name, part) for part, listed in LISTS.items() for name in _lines(folder / listed)]
        if not found:
            raise UserError(f"{folder}: {', '.join(LISTS.values())} list no recording: get them anew")
        name, count = Counter(r.name for r in found).most_common(1)[0]
        if count > 1:
            raise UserError(f"{folder}: {name} is listed twice in {', '.join(LISTS.values())}: take it out of one")
        missing = set(range(self.num_classes)) - {r.label for r in found if r.part == "train"}
        if missing and self.on_error == "raise":
            raise UserError(f"{folder / LISTS['train']} has no recording of action_{min(missing) + 1:03d}: get it anew")
        validating = sum(r.part == "val" for r in found)
        self.val_fraction = validating / (validating + sum(r.part == "train" for r in found))
        return found

    def _listed(self, folder: Path, name: str, part: str) -> Recording:
        matched = CLASS.fullmatch(name.partition("/")[0])
        label = int(matched[1]) - 1 if matched else -1
        file = next((f for s in SUFFIXES if (f := folder / f"{name}{s}").is_file()), folder / f"{name}{SUFFIXES[0]}")
        read: Callable[[], Events]
        if not 0 <= label < self.num_classes:
            read = partial(self.refuse, f"{LISTS[part]}: its folder isn't action_001 to action_{self.num_classes:03d}")
            label = 0
        elif not file.is_file():
            read = partial(self.refuse, f"{LISTS[part]} lists it, but it is missing")
        else:
            read = partial(_blocks, file)
        return self.recording(file, label, part, read)


def _lines(path: Path) -> list[str]:
    """The recordings that a list names, without what may stand behind a space."""
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    return [line.split()[0] for line in lines if line.strip()]


def _blocks(file: Path) -> Iterator[np.ndarray]:
    return open_recording(file, DV if file.suffix == ".npz" else Declared()).blocks()
