"""The event sets that lie in files: found, downloaded, listed by class."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from spikefront.data.cache import Events, Recording
from spikefront.data.download import Archive, fetch
from spikefront.data.events import EventData
from spikefront.data.formats.refused import BadRecording
from spikefront.errors import UserError


class EventFiles(EventData):
    """Base of the event sets that lie in files: finds them, downloads them from where tonic does, lists them by class.

    Args:
        root: the directory that holds the set, or tonic's directory of it.
        download: get what is missing.
    """

    title: str
    expected: str  # the files, for the message that they aren't there
    archives: Sequence[Archive] = ()  # what is downloaded; nothing where its authors give it to browsers alone

    def __init__(self, *, root: str, download: bool = True, **common: object) -> None:
        super().__init__(**common)  # type: ignore[arg-type]
        self.root, self.download = Path(root).expanduser(), download

    @abstractmethod
    def folder(self) -> Path | None:
        """Where the files are, None if they aren't."""

    def check(self) -> None:
        if self.archives and self.folder() is None:
            fetch(self.archives, self.title, self.root, f"{self.expected} there", self.download)
        self.located()

    def located(self) -> Path:
        folder = self.folder()
        if folder is None:
            raise UserError(
                f"{self.title} is not in {self.root.absolute()}: expected {self.expected} there; put them there, or set"
                " data.root to the directory that holds them"
            )
        return folder

    def holding(self, names: Iterable[str], tonics: str, every: bool = False) -> Path | None:
        """``root`` or tonic's directory in it, whichever holds one (or ``every``) of the directories ``names``."""
        names = list(names)
        for folder in (self.root / tonics, self.root):
            there = [(folder / name).is_dir() for name in names]
            if all(there) if every else any(there):
                return folder
        return None

    def files(self, folder: Path, classes: Iterable[str], suffixes: Sequence[str]) -> Iterator[tuple[Path, str]]:
        """The files of each class and its name, in the same order everywhere.

        Raises:
            UserError: a class folder is missing or holds no recording; one is none of the set's, unless skipped.
        """
        classes = list(classes)
        odd = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name not in classes)
        if odd and self.on_error == "raise":
            raise UserError(
                f"{folder / odd[0]} is not a class of {self.title}; remove it, or leave it out with data.on_error=skip"
            )
        for name in classes:
            within = folder / name
            there = sorted(p for p in within.iterdir() if p.suffix in suffixes) if within.is_dir() else []
            if not there:
                missing = "holds no recording" if within.is_dir() else "is missing"
                raise UserError(f"{within} {missing}: {self.title} has {', '.join(suffixes)} files there")
            yield from ((file, name) for file in there)

    def recording(self, file: Path, label: int, part: str, read: Callable[[], Events], more: str = "") -> Recording:
        name = f"{file.relative_to(self.root)}{more}"
        if not file.is_file():
            return Recording(name, label, part, read)
        found = file.stat()
        return Recording(name, label, part, read, found.st_size, f"{file.absolute()} {found.st_mtime_ns}")

    @staticmethod
    def refuse(reason: str) -> np.ndarray:
        """Of a recording of which it is clear without reading that it can't be used."""
        raise BadRecording(reason)
