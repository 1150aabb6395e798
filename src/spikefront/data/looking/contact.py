"""The samples of a contact sheet, through the very data module that trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spikefront.data.cleaning import clean
from spikefront.data.filtering import named
from spikefront.data.formats import EVENTS, BadRecording, Declared, open_recording
from spikefront.data.looking.overview import TIMES, Overview, Piece
from spikefront.data.looking.sheet import COLUMNS, EACH, STILLS, Shown, coloured, evenly
from spikefront.data.own.rows import Sample

if TYPE_CHECKING:  # they load PyTorch
    from spikefront.data.sets.event_folder import EventFolder
    from spikefront.data.sets.image_folder import ImageFolder

LARGEST = 20_000_000  # events that are held at once


def of_recordings(module: EventFolder, seen: Overview, classes: Sequence[str]) -> Iterator[tuple[str, list[Shown]]]:
    """Of each class the samples with the fewest, a middling number and the most events."""
    most = EACH if len(classes) <= 8 else 2 if len(classes) <= 12 else 1
    declared = module.declared
    for name in classes:
        own = sorted((p for p in seen.pieces if p.sample.label == name), key=lambda p: (p.events, p.sample.file))
        places = evenly(len(own), most) if most > 1 else [len(own) // 2][: len(own)]
        yield name, [shown for i in places if (shown := _recording(module, seen, own[i], declared))]


def _recording(module: EventFolder, seen: Overview, piece: Piece, declared: Declared) -> Shown | None:
    fact = seen.facts[piece.sample.file]
    if fact["sensor"] is None:
        return None
    path, sensor = module.root / piece.sample.file, (fact["sensor"][0], fact["sensor"][1])
    events = clean(_between(path, declared, piece.start, piece.end), sensor)
    if module.filters:
        hot = seen.hot_pixels(module.filters.hot or TIMES)
        masked = {named(each): [[x, y] for x, y, _ in pixels] for each, pixels in hot.items()}
        try:
            events = np.concatenate(list(module.filters.over([events], sensor, masked, {})))
        except BadRecording:
            events = events[:0]
    frames = module.as_seen(events, sensor).numpy()
    places = evenly(len(frames), COLUMNS)
    pictures, words = coloured(frames[places])
    marked = piece.sample.start is not None or piece.sample.end is not None  # in the recording's own time, as marks are
    begin = 0 if marked else fact["first"]["t"]
    span = f"{(piece.start - begin) / 1e6:.6g}-{(piece.end - begin) / 1e6:.6g} s"
    return Shown(f"{piece.sample.file}   {span}, {piece.events:,} events", pictures, words)


def _between(path: Path, declared: Declared, start: int, end: int) -> np.ndarray:
    """A recording's events from ``start`` up to ``end`` (µs of its own time), the first ``LARGEST`` of them."""
    kept, count = [np.empty(0, EVENTS)], 0
    for block in open_recording(path, declared).blocks():
        own = block[(block["t"] >= start) & (block["t"] < end)]
        kept.append(own)
        count += len(own)
        if block["t"][-1] >= end or count > LARGEST:
            break
    return np.concatenate(kept)[:LARGEST]


def of_pictures(
    module: ImageFolder, seen: Overview, samples: Sequence[Sample], classes: Sequence[str]
) -> Iterator[tuple[str, list[Shown]]]:
    """Of each class some, evenly by name."""
    most = STILLS if len(classes) <= 12 else STILLS // 2
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (module.mean, module.std))
    good: Mapping[str, object] = seen.good
    for name in classes:
        own = [s.file for s in samples if s.label == name and s.file in good]
        found = []
        for i in evenly(len(own), most) if own else []:
            for _, batch in module.shown(module.root / own[i], {}):
                values = np.clip(batch[0].numpy() * std + mean, 0, 1)
                found.append(Shown(own[i], [np.round(values.transpose(1, 2, 0) * 255).astype(np.uint8)], [""]))
        yield name, found
