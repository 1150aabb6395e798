"""The data sets made of event recordings: parsed once into a cache, binned into frames when read."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from spikefront.data.augmentation import EventAugmentation
from spikefront.data.base import ImageData
from spikefront.data.binning import Binning
from spikefront.data.cache import Events, Recording, Recordings, open_cache
from spikefront.data.cleaning import check_reach, clean, cleaned
from spikefront.data.download import Archive, fetch
from spikefront.data.formats.refused import BadRecording
from spikefront.data.frames import Frames, Labelled
from spikefront.data.framing import POOLS, Framing
from spikefront.errors import UserError, near_matches

__all__ = ["EventData", "EventFiles", "Frames", "clean", "looked_at"]

LOOKED_AT = 50  # recordings, to tell what the binning leaves out
GAP = 0.1  # the largest share of events or frames that may be missing without a word


def looked_at(recordings: Sized) -> range:
    """Some of many recordings, evenly."""
    return range(0, len(recordings), max(1, len(recordings) // LOOKED_AT))


class EventData(ImageData):
    """Base of all event sets: recordings are parsed once into a cache, and binned into ``timesteps`` frames when read.

    Args:
        sensor: width and height of the sensor in pixels; coordinates outside are an error.
        binning: ``(events) -> (T, C, image_size, image_size)``, a Hydra partial of ``Binning``.
        cache: directory of the parsed recordings, one entry a set.
        augmentation: of training samples, or None.
        frames: how many a recording is binned into; more than ``timesteps``: the network sees the first ones, as one
            does that is stopped early. None: ``timesteps``.
        crop: x, y, width and height of what is looked at; None: the whole sensor.
        fit: how that becomes the network's square, ``pad``, ``square`` or ``squash`` (see ``Framing``).
        downsample: how the sensor's pixels become the network's fewer ones: ``sum``, each event is counted there;
            ``any``, once a frame; ``mean``, counts are averaged, as without.
    """

    def __init__(
        self,
        *,
        sensor: Sequence[int],
        binning: Callable[..., Binning],
        cache: str,
        augmentation: EventAugmentation | None = None,
        frames: int | None = None,
        crop: Sequence[int] | None = None,
        fit: str = "squash",
        downsample: str | None = None,
        **common: object,
    ) -> None:
        super().__init__(**common)  # type: ignore[arg-type]
        if isinstance(sensor, str) or len(sensor) != 2 or not all(isinstance(n, int) and n > 0 for n in sensor):
            raise UserError(f"data.sensor is {sensor}: give its width and height in pixels, such as [128,128]")
        if downsample not in (None, *POOLS):
            raise UserError(f"data.downsample is {downsample!r}; {near_matches(str(downsample), POOLS)}")
        if downsample in ("sum", "any") and fit == "squash":
            raise UserError(f"data.downsample={downsample} pools squares of pixels: take data.fit=pad or square")
        if frames is not None and frames < self.timesteps:
            raise UserError(f"data.frames={frames} is less than model.timesteps={self.timesteps}")
        self.crop, self.fit, self.downsample, self._binning = crop, fit, downsample, binning
        self._frames = frames or self.timesteps
        self._see((sensor[0], sensor[1]))
        self.cache, self.augmentation = Path(cache).expanduser(), augmentation
        self.first = frames is not None or self.binning.mode == "window"

    def _see(self, sensor: tuple[int, int]) -> None:
        """Have recordings be of that sensor."""
        self.sensor, self.framing = sensor, self.framed(sensor)
        size, once = self.framing.size, {"once": True} if self.downsample == "any" else {}
        self.binning = self._binning(timesteps=self._frames, sensor=size, size=self.image_size, **once)
        self.binning.check(self.channels)

    def framed(self, sensor: tuple[int, int]) -> Framing:
        """How a sensor's events come into the network's square."""
        pooled = self.image_size if self.downsample in ("sum", "any") else None
        return Framing(sensor, self.crop, self.fit, pooled)

    def fewer(self, images: Tensor, timesteps: int) -> Tensor:
        """Event frames ``(B, T, C, H, W)`` as fewer, ``(B, timesteps, C, H, W)``: the first ones where a network sees
        the beginning of a recording, else sums of neighbours."""
        there, binning = images.shape[1], self.binning
        if timesteps == there or self.first:
            return images[:, :timesteps]
        if there % timesteps:
            raise UserError(
                f"model.timesteps={timesteps} beside {there}: event frames are added up, so it must divide that number"
            )
        if binning.representation != "frames" or binning.log or binning.normalise or binning.once:
            raise UserError(
                "model.timesteps of event frames that are no counts (data.binning.representation, log, normalise, once)"
                " can't be made of longer ones: search it with search/engine=trials"
            )
        return images.unflatten(1, (timesteps, there // timesteps)).sum(2)

    def seen(self, train: bool) -> list[Any]:
        augmentation = [self.augmentation] if train and self.augmentation is not None else []
        return [*([self.framing] if self.framing.moves else []), self.binning, *augmentation]

    @abstractmethod
    def recordings(self) -> Sequence[Recording]:
        """All recordings of both parts, in an order that is the same everywhere."""

    def prepare(self) -> Recordings:
        """The cached recordings, built if need be: one process builds, the others wait."""
        recordings = self.recordings()
        if odd := next((r for r in recordings if not 0 <= r.label < self.num_classes), None):
            raise UserError(
                f"{odd.name} is of class {odd.label}, data.num_classes={self.num_classes} has 0 to"
                f" {self.num_classes - 1}"
            )
        told = self.reader_settings()
        return open_cache(self.cache, str(self.name), recordings, self.read, self.on_error, told)

    def reader_settings(self) -> dict[str, Any]:
        """All that decides which events a recording gives, besides its file."""
        return {"sensor": self.sensor}

    def read(self, recording: Recording) -> Iterator[np.ndarray]:
        """A recording's events as the cache holds them, in blocks."""
        try:
            found = recording.read()
            yield from cleaned([found] if isinstance(found, np.ndarray) else found, self.sensor)
        except (BadRecording, UserError, MemoryError):
            raise
        except Exception as error:  # whatever a parser makes of a damaged file
            raise BadRecording(
                f"can't be parsed ({type(error).__name__}: {str(error).strip() or 'no reason'})"
            ) from error

    def prepare_data(self) -> None:
        self.prepare()

    def parts(self) -> tuple[Dataset, Dataset, Dataset]:
        recordings = self.prepare()
        train = [i for i, part in enumerate(recordings.parts) if part == "train"]
        test = [i for i, part in enumerate(recordings.parts) if part == "test"]
        check_reach((recordings[i] for i in looked_at(recordings)), self.sensor)
        self._tell_of_gaps(recordings)
        self._tell_of_squashing()
        kept, held = self.held_out([recordings.labels[i] for i in train])
        test_set = self._part(recordings, test)
        val_set = self._part(recordings, [train[i] for i in held]) if held else test_set
        return self._part(recordings, [train[i] for i in kept], self.augmentation), val_set, test_set

    def _part(
        self, recordings: Labelled, indices: Sequence[int], augmentation: EventAugmentation | None = None
    ) -> Frames:
        return Frames(recordings, indices, self.binning, augmentation, self.timesteps, self.framing)

    def _tell_of_squashing(self) -> None:
        width, height = self.framing.size
        if width != height:
            print(
                f"spikefront: {self.framing}: as large as {self.image_size}x{self.image_size} things are distorted;"
                " data.fit=pad adds empty pixels, data.fit=square takes the middle",
                file=sys.stderr,
                flush=True,
            )

    def _tell_of_gaps(self, recordings: Labelled) -> None:
        """A line where the binning leaves out a large part of the events, or frames empty."""
        places = looked_at(recordings)
        left_out, empty = np.mean([self.binning.gaps(recordings[i]) for i in places], axis=0)
        if left_out > GAP:
            what = f"leaves out {left_out:.1%} of the events"
        elif empty > GAP:
            what = f"leaves {empty:.0%} of the frames empty"
        else:
            return
        change = "data.binning.window" if self.binning.mode == "window" else "data.binning.mode"
        print(
            f"spikefront: data.binning.mode={self.binning.mode} with {self.binning.timesteps} timesteps {what} (of"
            f" {len(places)} recordings): change model.timesteps or {change}",
            file=sys.stderr,
            flush=True,
        )


class EventFiles(EventData):
    """Base of the event sets that lie in files: finds them, has tonic download them, lists them by class.

    Args:
        root: the directory that holds the set, or tonic's directory of it.
        download: get what is missing.
    """

    title: str
    expected: str  # the files, for the message that they aren't there
    archives: Sequence[Archive]  # what ``fetch`` downloads

    def __init__(self, *, root: str, download: bool = True, **common: object) -> None:
        super().__init__(**common)  # type: ignore[arg-type]
        self.root, self.download = Path(root).expanduser(), download

    @abstractmethod
    def fetch(self) -> None:
        """Download, check and unpack the set into ``root``."""

    @abstractmethod
    def folder(self) -> Path | None:
        """Where the files are, None if they aren't."""

    def check(self) -> None:
        if self.folder() is None:
            fetch(self.fetch, self.title, self.root, f"{self.expected} there", self.archives, self.download)
            self.located()

    def located(self) -> Path:
        folder = self.folder()
        if folder is None:
            raise UserError(f"{self.title} is not in {self.root.absolute()}: expected {self.expected} there")
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
