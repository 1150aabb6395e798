"""A user's own folder of event recordings."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.utilities import rank_zero_only
from torch.utils.data import Dataset

from spikefront.data.binning import NORMALISATIONS
from spikefront.data.cache import BadRecording, Recording, Recordings
from spikefront.data.cleaning import check_reach
from spikefront.data.events import EventData
from spikefront.data.filtering import Sensor
from spikefront.data.formats import Declared, open_recording
from spikefront.data.framing import Framing, check_crop
from spikefront.data.own.card import Card
from spikefront.data.own.contents import Contents
from spikefront.data.own.folder import Asked, say
from spikefront.data.own.folder_set import FolderSet
from spikefront.data.stretches import Stretched, beyond, cut_up
from spikefront.data.windows import Windows
from spikefront.errors import UserError, near_matches

SCALES: dict[str, dict[str, Any]] = {  # what the binning makes of counts
    "none": {},
    "log": {"log": True},
    **{name: {"normalise": name} for name in NORMALISATIONS},
}


class EventFolder(FolderSet, EventData):
    """Recordings of a user's own: ``<class>/*``, ``{train,val,test}/<class>/*``, ``<group>/<class>/*`` or a table.

    Of any format of ``data.formats``, told by its content. A sample is a recording, a stretch of one that a table
    marks, or a window. The parts are drawn once, by whole recordings, and kept in ``spikefront.yaml`` (see ``card``).

    Args:
        layout, table, test_fraction: as of ``ImageFolder``; the table's ``start`` and ``end`` are µs of the recording's
            own time.
        sensor: width and height where the files don't say them; None: they do, or it was kept.
        columns, unit: of text and arrays without names: which column is what, and what times count.
        mixed_sensors: take recordings of several sensors, each brought into the same square.
        normalise: what becomes of counts: ``none``, ``log`` (of 1 and the count), or each sample divided by its own
            ``max``, ``std`` or ``mean``, so that sensors of any size and noise come out alike.
        window, stride: cut recordings, or what a table marks of them, into windows, ``1.5s``.
    """

    def __init__(
        self,
        *,
        root: str,
        cache: str,
        layout: str = "auto",
        table: str | None = None,
        test_fraction: float = 0.2,
        sensor: Sequence[int] | None = None,
        columns: str | None = None,
        unit: str | None = None,
        mixed_sensors: bool = False,
        window: str | float | None = None,
        stride: str | float | None = None,
        normalise: str = "none",
        **common: Any,
    ) -> None:
        self.lies_in(Asked(root, "recordings", layout, table, cache), test_fraction)
        self.root, self.mixed_sensors = self.asked.place, mixed_sensors
        self.windows = Windows.of(window, stride)
        if normalise not in SCALES:
            raise UserError(f"data.normalise is {normalise!r}; {near_matches(str(normalise), SCALES)}")
        self.normalise = normalise
        crop, side = common.pop("crop", None), common["image_size"]
        common["binning"] = partial(common["binning"], **SCALES[normalise])
        check_crop(crop, sensor)
        super().__init__(sensor=sensor or [side, side], cache=cache, **common)
        self.crop = crop  # on a sensor that is known once the recordings are
        self.given = {"sensor": list(sensor) if sensor else None, "columns": columns, "unit": unit}
        if mixed_sensors and self.downsample not in ("sum", "any"):
            raise UserError("data.mixed_sensors=true brings sensors to one size by data.downsample=sum or any")
        self._cut: dict[str, int] = {}
        self._sensors: dict[str, Sensor] = {}  # of each file that can be used

    @property
    def declared(self) -> Declared:
        """What is said of recordings that don't say it, now or when it was kept."""
        kept = Card(self.root, self.asked.kept).settings
        said: dict[str, Any] = {key: value if value is not None else kept.get(key) for key, value in self.given.items()}
        sensor = said.pop("sensor")
        return Declared(sensor=tuple(sensor) if sensor else None, **said)

    def facts(self) -> dict[str, dict[str, Any]]:
        """What each file's header says: ``format``, ``sensor`` and ``whence`` that is known; or why it is ``bad``."""
        declared = self.declared

        def look(path: Path) -> dict[str, Any]:
            try:
                found = open_recording(path, declared)
            except BadRecording as error:
                return {"bad": str(error)}
            return {"format": found.format, "sensor": found.sensor, "whence": found.whence}

        files = sorted({s.file for s in self.parted().found.samples})
        key = f"header {json.dumps(vars(declared), sort_keys=True)}"
        return Contents(self.root, self.asked.kept).each(files, key, look)

    def sensors(self, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
        """Of each file that can be used.

        Raises:
            UserError: one that isn't known; several where ``mixed_sensors`` doesn't allow it.
        """
        usable = {file: fact for file, fact in facts.items() if "bad" not in fact}
        for file, fact in usable.items():
            if fact["sensor"] is None:
                raise UserError(
                    f"{file} ({fact['format']}) doesn't say how large its sensor is ({self._reach(file)}):"
                    " give data.sensor=[width,height]"
                )
        found = {file: (int(fact["sensor"][0]), int(fact["sensor"][1])) for file, fact in usable.items()}
        counts = Counter(found.values())
        if len(counts) > 1 and not self.mixed_sensors:
            shown = ", ".join(
                f"{w}x{h} ({n} files, {next(f for f, s in found.items() if s == (w, h))})"
                for (w, h), n in counts.items()
            )
            raise UserError(
                f"recordings of {len(counts)} sensors: {shown}: take those of one, or data.mixed_sensors=true"
            )
        for width, height in counts if len(counts) > 1 else ():
            side = self.framed((width, height)).size[0]
            if side != self.image_size:
                raise UserError(
                    f"data.image_size={self.image_size} is more than the {side} pixels of the sensor of"
                    f" {width}x{height}: with data.mixed_sensors=true take data.image_size={side} or less"
                )
        return found

    def recordings(self) -> Sequence[Recording]:
        whole, numbers = self.parted(), self.numbers()
        first = {s.file: s for s in reversed(whole.found.samples)}
        listed = []
        for file in sorted(first):
            there, part = (self.root / file).stat(), "test" if whole.parts[file] == "test" else "train"
            source = f"{(self.root / file).absolute()} {there.st_mtime_ns} {whole.digests[file]}"
            listed.append(Recording(file, numbers[first[file].label], part, _nothing, there.st_size, source))
        return listed

    def numbers(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.parted().found.classes)}

    def reader_settings(self) -> dict[str, Any]:
        return vars(self.declared)

    def sensor_of(self, recording: Recording) -> Sensor:
        if recording.name not in self._sensors:
            raise BadRecording(self.facts()[recording.name]["bad"])
        return self._sensors[recording.name]

    def blocks(self, recording: Recording, note: dict[str, Any]) -> Iterator[np.ndarray]:
        for block in open_recording(self.root / recording.name, self.declared).blocks():
            note.setdefault("first", int(block["t"][0]))
            yield block

    def trained(self, recordings: Sequence[Recording]) -> Sequence[Recording]:
        parts = self.parted().parts
        return [r for r in recordings if parts[r.name] == "train" and r.name in self._sensors]

    def _reach(self, file: str) -> str:
        """What is known of a sensor that no header tells, once the recording has been read."""
        found = open_recording(self.root / file, self.declared)
        with contextlib.suppress(BadRecording):
            for _ in found.blocks():
                pass
        return found.whence

    def prepare(self) -> Recordings:
        self._sensors = self.sensors(self.facts())  # asked for before hours of reading
        found = super().prepare()
        self._see(next(iter(self._sensors.values())))
        return found

    @rank_zero_only
    def _keep(self) -> None:
        """What was said of recordings, now that they could be read with it and it is plausible."""
        card, given = Card(self.root, self.asked.kept), {k: v for k, v in self.given.items() if v is not None}
        for key, value in given.items():
            if (kept := card.settings.get(key, value)) != value:
                say([f"data.{key}={value} is taken; {card.path} keeps {key}: {kept}, which you may change there"])
        card.write(given, card.kept)

    def prepare_data(self) -> None:
        cut_up(self.parted().found.samples, self.prepare(), self.windows)

    def described(self) -> dict[str, Any]:
        if self._parted is None:
            return {}
        told = {
            "kind": "recordings",
            **self._parted.described(),
            "sensor": list(self.sensor),
            "seen": str(self.framing),
        }
        told |= {"samples": self._cut} if self._cut else {}
        return told | {"normalise": self.normalise} | super().described()

    def opened(self, path: Path, known: Mapping[str, Any]) -> tuple[Iterable[np.ndarray], Sensor]:
        found = open_recording(path, self.declared)
        if (sensor := found.sensor or known.get("sensor")) is None:
            raise BadRecording("its sensor isn't known: give overrides.data.sensor=[width,height]")
        return found.blocks(), (sensor[0], sensor[1])

    def windows_of(self, last: int) -> Sequence[tuple[int, int]]:
        return list(self.windows.over(0, last + 1, last)) if self.windows else super().windows_of(last)

    def parts(self) -> tuple[Dataset, Dataset, Dataset]:
        recordings, whole, numbers = self.prepare(), self.parted(), self.numbers()
        facts, sensors = self.facts(), self._sensors
        reached: dict[Sensor, list[list[int]]] = {}
        for name, noted in zip(recordings.names, recordings.facts, strict=True):
            if facts[name]["whence"] == "given":
                reached.setdefault(sensors[name], []).append(noted["reach"])
        kept = None if self.given["sensor"] else Card(self.root, self.asked.kept).path
        for sensor, theirs in reached.items():
            check_reach(theirs, sensor, kept)
        self._keep()
        cut, empty, lost = cut_up(whole.found.samples, recordings, self.windows)
        if lost and self.on_error == "raise":
            raise UserError(f"{lost[0]}; mend the table, or leave it out with data.on_error=skip")
        framings = {sensor: self.framed(sensor) for sensor in set(sensors.values())}
        stretched = Stretched(
            recordings,
            cut,
            [numbers[c.sample.label] for c in cut],
            [framings[sensors[name]] for name in recordings.names],
        )
        of: dict[str, list[int]] = {"train": [], "val": [], "test": []}
        for i, c in enumerate(cut):
            of[whole.parts[c.sample.file]].append(i)
        for part in ("train", "test"):
            if not of[part]:
                raise UserError(f"no sample of the {part} part can be used" + (f": {lost[0]}" if lost else ""))
        if of["val"] and "val" in whole.found.parts:
            self.val_fraction = len(of["val"]) / (len(of["val"]) + len(of["train"]))
        self._cut = {part: len(indices) for part, indices in of.items() if indices}
        late = beyond(whole.found.samples, recordings)
        rank_zero_only(say)([*lost[:3], *late[:3], *self._told(facts, framings, len(cut), empty)])
        self._tell(stretched)
        test_set = self._part(stretched, of["test"])
        val_set = self._part(stretched, of["val"]) if of["val"] else test_set
        return self._part(stretched, of["train"], self.augmentation), val_set, test_set

    def _part(self, recordings: Any, indices: Sequence[int], augmentation: Any = None) -> Any:
        part = super()._part(recordings, indices, augmentation)
        part.framing = None  # stretches are in the square already, each from its own sensor
        return part

    def _told(
        self, facts: Mapping[str, Any], framings: Mapping[tuple[int, int], Framing], count: int, empty: int
    ) -> list[str]:
        whence = ", ".join(sorted({fact["whence"] for fact in facts.values() if "bad" not in fact}))
        pooled = f" ({self.downsample})" if any(f.factor > 1 for f in framings.values()) else ""
        lines = [
            f"sensor ({whence}) {framing}{pooled}; data.normalise={self.normalise}" for framing in framings.values()
        ]
        if self.windows is not None:
            each = ", ".join(f"{n} {part}" for part, n in self._cut.items())
            left = f"; {empty} more hold no event and are left out" if empty else ""
            lines.append(f"{count} windows of {self.windows.width:g} µs: {each}{left}")
        return lines


def _nothing() -> np.ndarray:
    """Of a recording that its set reads by its name."""
    raise NotImplementedError
