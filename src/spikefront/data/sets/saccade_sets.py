"""N-MNIST and N-Caltech101: still images before an event camera that makes three micro-saccades."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tonic.datasets
from sklearn.model_selection import train_test_split
from tonic.datasets.nmnist import stabilize

from spikefront.data.cache import Recording
from spikefront.data.download import Archive
from spikefront.data.event_files import EventFiles
from spikefront.data.filtering import Sensor
from spikefront.data.formats.saccade_bin import read_saccade_bin
from spikefront.errors import UserError

MNIST, CALTECH = tonic.datasets.NMNIST, tonic.datasets.NCALTECH101
FOLDERS = {"train": "Train", "test": "Test"}  # of N-MNIST
# The authors' own copies (garrickorchard.com), from which tonic downloaded before
AUTHORS = "https://www.dropbox.com/sh"
TRAIN = f"{AUTHORS}/tg2ljlbmtzygrag/AABlMOuR15ugeOxMCX0Pvoxga/Train.zip?dl=1"
TEST = f"{AUTHORS}/tg2ljlbmtzygrag/AADSKgJ2CjaBWh75HnTNZyhca/Test.zip?dl=1"
WHOLE = f"{AUTHORS}/iuv7o3h2gv6g4vd/AAD0T79lglp-BrdbSCuH_7MFa/Caltech101.zip?dl=1"
SPLIT_SEED = 0  # the test part of N-Caltech101 is the same for everyone


class NMNIST(EventFiles):
    """N-MNIST (arXiv 1507.07629), 34x34, the 60,000 and 10,000 digits of MNIST, split as they are.

    Reads ``Train/<digit>/*.bin`` and ``Test/<digit>/*.bin`` in ``root`` or ``root/NMNIST``.

    Args:
        stabilise: undo the camera's motion (tonic's ``stabilize``).
    """

    title = "N-MNIST"
    expected = "Train/0 … Train/9 and Test/0 … Test/9 of .bin files (from train.zip and test.zip)"

    classes = tuple(map(str, range(10)))

    archives = (
        Archive(MNIST.train_url, MNIST.train_filename, MNIST.train_md5, "NMNIST", mirrors=(TRAIN,)),
        Archive(MNIST.test_url, MNIST.test_filename, MNIST.test_md5, "NMNIST", mirrors=(TEST,)),
    )

    def __init__(self, *, stabilise: bool = False, **common: object) -> None:
        super().__init__(**common)  # type: ignore[arg-type]
        self.stabilise = stabilise

    def reader_settings(self) -> dict[str, Any]:
        return {**super().reader_settings(), "stabilise": self.stabilise}

    def folder(self) -> Path | None:
        return self.holding(FOLDERS.values(), "NMNIST", every=True)

    def opened(self, path: Path, known: Mapping[str, Any]) -> tuple[Iterable[np.ndarray], Sensor]:
        return [_digit(path, self.stabilise)], self.sensor

    def recordings(self) -> Sequence[Recording]:
        digits = {str(i): i for i in range(10)}
        return [
            self.recording(file, digits[name], part, partial(_digit, file, self.stabilise))
            for part, folder in FOLDERS.items()
            for file, name in self.files(self.located() / folder, digits, (".bin",))
        ]


class NCaltech101(EventFiles):
    """N-Caltech101 (arXiv 1507.07629), at most 240x180, 8,709 recordings in 100 classes and a background class.

    Reads ``Caltech101/<class>/*.bin`` in ``root`` or ``root/NCALTECH101``. There is no official split: a tenth of each
    class, always the same, is the test part.
    """

    title = "N-Caltech101"
    expected = "Caltech101/accordion/image_0001.bin … Caltech101/yin_yang/ (from Caltech101.zip)"
    archives = (Archive(CALTECH.url, CALTECH.filename, CALTECH.file_md5, "NCALTECH101", mirrors=(WHOLE,)),)

    def folder(self) -> Path | None:
        found = self.holding(["Caltech101"], "NCALTECH101")
        return found and found / "Caltech101"

    def opened(self, path: Path, known: Mapping[str, Any]) -> tuple[Iterable[np.ndarray], Sensor]:
        return [_cornered(path)], self.sensor

    def recordings(self) -> Sequence[Recording]:
        folder = self.located()
        names = sorted(path.name for path in folder.iterdir() if path.is_dir())
        if len(names) != self.num_classes:
            raise UserError(f"{folder} has {len(names)} class folders, not {self.num_classes}: unpack all of them")
        files = list(self.files(folder, names, (".bin",)))
        self.classes = names
        labels = [names.index(name) for _, name in files]
        try:
            _, tested = train_test_split(range(len(files)), test_size=0.1, stratify=labels, random_state=SPLIT_SEED)
        except ValueError as error:
            raise UserError(f"{folder}: a tenth of {len(files)} recordings can't hold every class ({error})") from error
        test = set(tested)
        return [
            self.recording(file, label, "test" if i in test else "train", partial(_cornered, file))
            for i, ((file, _), label) in enumerate(zip(files, labels, strict=True))
        ]


def _digit(file: Path, stabilise: bool) -> np.ndarray:
    events = read_saccade_bin(file)
    return stabilize(events.astype(MNIST.dtype)) if stabilise and len(events) else events


def _cornered(file: Path) -> np.ndarray:
    """Moved into the sensor's corner, as tonic does."""
    events = read_saccade_bin(file)
    if len(events):
        events["x"] -= events["x"].min()
        events["y"] -= events["y"].min()
    return events
