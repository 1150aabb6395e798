"""What was seen of a folder, in lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from spikefront.data.looking.overview import Overview, Piece, grouped, spread
from spikefront.data.own.folder import Parted
from spikefront.data.own.samples import Found
from spikefront.units import amount, duration

SHOWN = 5
CLASSES = 40  # lines
WIDE = 40  # characters of a class's name


def of_all(root: Path, kind: str, seen: Overview, found: Found | None, parted: Parted | None) -> Iterator[str]:
    """Files, classes, groups; sensor, time, events and hot pixels; of pictures sizes and kinds; what is bad.

    Args:
        found: which samples there are; None: none are known.
        parted: and in which part they are.
    """
    formats = Counter(fact["format"] for fact in seen.facts.values() if "error" not in fact)
    told = ", ".join(f"{n} {name}" for name, n in formats.most_common()) or "none that can be read"
    what = kind if len(seen.facts) != 1 else kind[:-1]
    yield f"{root}: {len(seen.facts):,} {what}, {seen.bytes / 1e6:,.1f} MB: {told}"
    if found is not None:
        yield from _classes(kind, seen, found, parted)
    yield from _recordings(seen) if kind == "recordings" else _pictures(seen)
    yield from _bad(seen)


def _classes(kind: str, seen: Overview, found: Found, parted: Parted | None) -> Iterator[str]:
    groups = sorted({s.group for s in found.samples} - {None}, key=str)
    if groups:
        yield f"groups    {len(groups)}: {_some(list(map(str, groups)))}"
    if found.stray:
        some = "1 file is" if len(found.stray) == 1 else f"{len(found.stray)} files are"
        yield f"others    {some} no {kind} and left alone: {_some(found.stray)}"
    pieces: dict[str, list[Piece]] = {}
    for piece in seen.pieces:
        pieces.setdefault(piece.sample.label, []).append(piece)
    yield f"classes   {len(found.classes)}, samples by {found.tables[0] if found.tables else f'layout={found.layout}'}"
    for name in found.classes[:CLASSES]:
        own = [s for s in found.samples if s.label == name]
        where = Counter(parted.parts[s.file] for s in own) if parted else {}
        parts = ", ".join(f"{where[p]} {p}" for p in ("train", "val", "test") if where.get(p))
        label = name if len(name) <= WIDE else f"{name[: WIDE // 2]}…{name[-WIDE // 2 + 1 :]}"
        line = f"  {label:<{min(WIDE, max(map(len, found.classes)))}}  {len(own):>6}"
        if parts:
            line += f"   {parts}"
        if name in pieces:
            line += f"   {spread([p.events for p in pieces[name]])[0]:,.0f} events"
        yield line
    if len(found.classes) > CLASSES:
        yield f"  … and {len(found.classes) - CLASSES} more"


def _recordings(seen: Overview) -> Iterator[str]:
    for (sensor, whence), files in seen.sensors().items():
        size = f"{sensor[0]}x{sensor[1]}" if sensor else "unknown"
        yield f"sensor    {size} ({whence}): {_count(files)}" + ("" if sensor else f", {_some(files)}")
    if seen.pieces:
        seconds = [p.inside / 1e6 for p in seen.pieces]
        events = [p.events for p in seen.pieces]
        yield f"samples   {len(events):,}, {duration(sum(seconds))} in all"
        yield "seconds   {:.3g} a sample (5-95 %: {:.3g}-{:.3g})".format(*spread(seconds))
        yield "events    {:,.0f} a sample (5-95 %: {:,.0f}-{:,.0f})".format(*spread(events))
        rates = [p.events / max(p.inside, 1) * 1e6 for p in seen.pieces]
        middle, low, high = map(amount, spread(rates))
        yield f"rate      {middle} events a second (5-95 %: {low}-{high})"
        on = sum(fact["on"] for fact in seen.good.values()) / max(1, sum(f["events"] for f in seen.good.values()))
        yield f"ON        {on:.0%} of the events"
    for sensor, hot in seen.hot_pixels().items():
        if hot:
            shown = ", ".join(f"({x}, {y}) {share:.2%}" for x, y, share in hot[:SHOWN])
            more = " …" if len(hot) > SHOWN else ""
            yield f"hot       {len(hot)} pixels of {sensor[0]}x{sensor[1]}, with their share of events: {shown}{more}"


def _pictures(seen: Overview) -> Iterator[str]:
    good = seen.good.values()
    sizes = Counter(f"{fact['width']}x{fact['height']}" for fact in good)
    if sizes:
        shown = ", ".join(f"{n} of {size}" for size, n in sizes.most_common(SHOWN))
        rest = len(sizes) - SHOWN
        yield f"sizes     {shown}" + (f" and {rest} other{'s' * (rest > 1)}" if rest > 0 else "")
        modes = Counter(fact["mode"] for fact in good)
        yield f"modes     {', '.join(f'{n} {mode}' for mode, n in modes.most_common())}"
    if turned := sum("orientation" in fact for fact in good):
        yield f"turned    {turned} as EXIF says"
    if moving := [file for file, fact in seen.good.items() if "frames" in fact]:
        yield f"animated  {len(moving)}, the first frame of each is taken: {_some(moving)}"


def _bad(seen: Overview) -> Iterator[str]:
    bad: Mapping[str, str] = seen.bad
    if bad:
        yield f"bad       {len(bad)} of {len(seen.facts)} files:"
        for why, files in grouped(bad).items():
            yield f"  {_some(files)}: {why}" if len(files) == 1 else f"  {len(files)} files ({_some(files)}): {why}"
    if seen.empty:
        yield f"empty     {len(seen.empty)} marked samples hold no event: {_some([s.name for s in seen.empty])}"
    if seen.late:
        names = _some(sorted({s.name for s in seen.late}))
        yield f"late      {len(set(seen.late))} marked samples end long after their recording's last event: {names}"
    if bad or seen.empty:
        yield "          a training stops at these: mend them, take them out, or leave them out with data.on_error=skip"


def _count(files: Sequence[str]) -> str:
    return f"{len(files):,} file{'s' * (len(files) != 1)}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (" …" if len(names) > SHOWN else "")
