"""The data sets made of event recordings: parsed once into a cache, binned into frames when read."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import Dataset

from spikefront.data.augmentation import EventAugmentation
from spikefront.data.base import ImageData
from spikefront.data.binning import Binning, search
from spikefront.data.cache import EVENT, Recording, Recordings, open_cache
from spikefront.data.chunks import spooled
from spikefront.data.cleaning import check_reach, clean, cleaned
from spikefront.data.filtering import Filters, HotPixels, Sensor, line
from spikefront.data.formats import Declared, open_recording
from spikefront.data.formats.refused import BadRecording
from spikefront.data.frames import Frames, Labelled
from spikefront.data.framing import POOLS, Framing
from spikefront.data.once import once
from spikefront.data.own.folder import say
from spikefront.errors import UserError, near_matches

__all__ = ["EventData", "Frames", "clean", "looked_at"]

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
        filters: ``hot``, ``refractory`` and ``neighbours``: what is taken out before recordings are cached.
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
        filters: Mapping[str, Any] | None = None,
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
        self.filters = Filters.of(filters)
        self.hot: HotPixels | None = None  # known once the training part has been looked through, or from a checkpoint
        self._notes: dict[str, dict[str, Any]] = {}
        self._filtered: dict[str, Any] = {}
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
        if self.filters:
            if self.filters.hot is not None and self.hot is None:
                self.hot = self._hot_pixels(recordings, told)
            told = {**told, "filters": vars(self.filters), "hot": self.hot}
        facts = self._notes.pop
        found = open_cache(self.cache, str(self.name), recordings, self.read, self.on_error, told, facts)
        if self.filters and found.facts:
            self._filtered = self.filters.told(found.facts, self.hot)
        return found

    def _hot_pixels(self, recordings: Sequence[Recording], told: Mapping[str, Any]) -> HotPixels:
        """Those of the training part, found once."""
        trained = self.trained(recordings)
        named = [(r.name, r.size, r.source) for r in trained]
        key = hashlib.sha256(json.dumps([named, told, self.filters.hot], sort_keys=True).encode()).hexdigest()[:16]

        def work() -> HotPixels:
            say([f"looking for hot pixels in {len(trained):,} recordings of the training part, once"])
            return self.filters.found((self.sensor_of(r), self._cleaned(r, {})) for r in trained)

        return once(self.cache / f"{self.name}-hot-{key}.json", work)

    def trained(self, recordings: Sequence[Recording]) -> Sequence[Recording]:
        """Those of the training part without what is set aside for validation."""
        kept, _ = self._shared_out([r.part for r in recordings], [r.label for r in recordings])
        return [recordings[i] for i in kept]

    def _shared_out(self, parts: Sequence[str], labels: Sequence[int]) -> tuple[list[int], list[int]]:
        """Which recordings train and which validate: the set's own validation part, or one drawn from the training."""
        train, own = ([i for i, part in enumerate(parts) if part == wanted] for wanted in ("train", "val"))
        if own:
            return train, own
        kept, held = self.held_out([labels[i] for i in train])
        return [train[i] for i in kept], [train[i] for i in held]

    def reader_settings(self) -> dict[str, Any]:
        """All that decides which events a recording gives, besides its file."""
        return {"sensor": self.sensor}

    def sensor_of(self, recording: Recording) -> Sensor:
        return self.sensor

    def blocks(self, recording: Recording, note: dict[str, Any]) -> Iterable[np.ndarray]:
        """A recording's events as its file has them; ``note`` may get what else is to be known of it, JSON-ready."""
        found = recording.read()
        return [found] if isinstance(found, np.ndarray) else found

    def _cleaned(self, recording: Recording, note: dict[str, Any]) -> Iterator[np.ndarray]:
        """A recording's events as the cache holds them, but for what the filters remove, in blocks."""
        width = height = 0
        try:
            for events in cleaned(self.blocks(recording, note), self.sensor_of(recording)):
                width, height = max(width, int(events["x"].max())), max(height, int(events["y"].max()))
                yield events
        except (BadRecording, UserError, MemoryError):
            raise
        except Exception as error:  # whatever a parser makes of a damaged file
            raise BadRecording(
                f"can't be parsed ({type(error).__name__}: {str(error).strip() or 'no reason'})"
            ) from error
        note["reach"] = [width + 1, height + 1]

    def read(self, recording: Recording) -> Iterator[np.ndarray]:
        """A recording's events as the cache holds them, in blocks."""
        note = self._notes[recording.name] = {}
        events = self._cleaned(recording, note)
        yield from self.filters.over(events, self.sensor_of(recording), self.hot, note) if self.filters else events

    def described(self) -> dict[str, Any]:
        return {"filters": self._filtered} if self._filtered else {}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | ({"hot_pixels": self.hot} if self.hot is not None else {})

    def recall(self, known: Mapping[str, Any]) -> None:
        if known.get("filters", {}).get("hot") == self.filters.hot:
            self.hot = known.get("hot_pixels")

    def opened(self, path: Path, known: Mapping[str, Any]) -> tuple[Iterable[np.ndarray], Sensor]:
        """A user's recording as this set's are read: its events in blocks, as its file has them, and its sensor.

        Raises:
            BadRecording: it can't be.
        """
        return open_recording(path, Declared(sensor=self.sensor)).blocks(), self.sensor

    def windows_of(self, last: int) -> Sequence[tuple[int, int]]:
        """The samples that a recording of ``last`` µs is, each from one time to another, which isn't included."""
        return [(0, last + 1)]

    def shown(self, path: Path, known: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
        self.recall(known)
        try:
            blocks, sensor = self.opened(path, known)
            whole = cleaned(blocks, sensor)
            kept = self.filters.over(whole, sensor, self.hot, {}) if self.filters else whole
            events = spooled(kept, EVENT)
        except (OSError, BadRecording) as error:
            raise UserError(f"input={path}: {error}") from error
        for start, end in self.windows_of(int(events["t"][-1])):
            first, after = search(events["t"], np.array([start, end], np.float64))
            yield f"{start / 1e6:.3g}-{end / 1e6:.3g} s", self.as_seen(events[first:after], sensor)[None]

    def as_seen(self, events: np.ndarray, sensor: Sensor) -> Tensor:
        """Events on a sensor as the network is shown them in evaluation, ``(timesteps, channels, side, side)``."""
        if sensor != self.framing.sensor:
            self._see(sensor)
        return self.binning(self.framing(events))[: self.timesteps]

    def prepare_data(self) -> None:
        self.prepare()

    def parts(self) -> tuple[Dataset, Dataset, Dataset]:
        recordings = self.prepare()
        test = [i for i, part in enumerate(recordings.parts) if part == "test"]
        check_reach([fact["reach"] for fact in recordings.facts], self.sensor)
        self._tell(recordings)
        self._tell_of_squashing()
        kept, held = self._shared_out(recordings.parts, recordings.labels)
        test_set = self._part(recordings, test)
        val_set = self._part(recordings, held) if held else test_set
        return self._part(recordings, kept, self.augmentation), val_set, test_set

    def _part(
        self, recordings: Labelled, indices: Sequence[int], augmentation: EventAugmentation | None = None
    ) -> Frames:
        return Frames(recordings, indices, self.binning, augmentation, self.timesteps, self.framing)

    @rank_zero_only
    def _tell_of_squashing(self) -> None:
        width, height = self.framing.size
        if width != height:
            say(
                [
                    f"{self.framing}: as large as {self.image_size}x{self.image_size} things are distorted;"
                    " data.fit=pad adds empty pixels, data.fit=square takes the middle"
                ]
            )

    @rank_zero_only
    def _tell(self, recordings: Labelled) -> None:
        """What the filters removed; a line where the binning leaves out many events, or many frames empty."""
        if self._filtered:
            say([line(self._filtered)])
        places = looked_at(recordings)
        left_out, empty = np.mean([self.binning.gaps(recordings.glance(i)) for i in places], axis=0)
        if left_out > GAP:
            what = f"leaves out {left_out:.1%} of the events"
        elif empty > GAP:
            what = f"leaves {empty:.0%} of the frames empty"
        else:
            return
        change = "data.binning.window" if self.binning.mode == "window" else "data.binning.mode"
        say(
            [
                f"data.binning.mode={self.binning.mode} with {self.binning.timesteps} timesteps {what} (of"
                f" {len(places)} recordings): change model.timesteps or {change}"
            ]
        )
