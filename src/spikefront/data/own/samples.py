"""Which samples a user's own folder holds, of which classes: what its layout says, or a table in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spikefront.data.own.rows import PARTS, Sample, is_table, rows
from spikefront.errors import UserError, near_matches

LAYOUTS = ("auto", "class", "parts", "group", "table")
TABLES = ("labels.csv", "metadata.csv")  # the names that decide where there are several
JUNK = ("__macosx", "thumbs.db", "desktop.ini", "spikefront.yaml", "spikefront.png")  # nobody put them there as samples
SHOWN = 3


@dataclass
class Found:
    """What a folder holds.

    Attributes:
        layout: ``class`` (``<class>/…``), ``parts`` (``{train,val,test}/<class>/…``), ``group``
            (``<group>/<class>/…``) or ``table``.
        classes: in the order of their numbers.
        stray: files that are no samples.
        tables: where the samples are listed.
    """

    root: Path
    layout: str
    classes: list[str]
    samples: list[Sample]
    stray: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)

    @property
    def parts(self) -> set[str]:
        """Those that the folder names itself."""
        return {s.part for s in self.samples if s.part}


def find(
    root: Path,
    what: str,
    is_sample: Callable[[Path], bool],
    layout: str = "auto",
    table: str | None = None,
    classes: Sequence[str] | None = None,
    timed: bool = False,
) -> Found:
    """The samples below ``root``.

    Args:
        what: ``pictures`` or ``recordings``, for messages.
        layout: one of ``LAYOUTS``.
        table: a CSV in ``root`` that lists the samples; None: ``labels.csv``, ``metadata.csv`` or the only one there.
        classes: those that are known already, in the order of their numbers; None: all, by name.
        timed: whether samples may be stretches of files.

    Raises:
        UserError: no folder, no samples, no classes, a layout that can be read in two ways, a table that can't be used.
    """
    if layout not in LAYOUTS:
        raise UserError(f"data.layout is {layout!r}; {near_matches(str(layout), LAYOUTS)}")
    if not root.is_dir():
        missing = "is not a folder" if root.exists() else "is not there"
        raise UserError(f"data.root: {root} {missing}: give the folder that holds your {what}")
    tables = _tables(root, table) if layout in ("auto", "table") else []
    if tables:
        listed = [s for file, part in tables for s in rows(file, root, classes, part, timed)]
        if not listed:
            raise UserError(f"{tables[0][0]} lists no sample")
        _refuse_twice(listed, timed)
        names = [os.path.relpath(file, root) for file, _ in tables]
        return Found(root, "table", _classes(listed, classes, root), listed, tables=names)
    if layout == "table":
        raise UserError(f"{root} holds no CSV with the columns file,label: name it with data.table=…")
    samples: list[str] = []
    stray: list[str] = []
    for path in files(root):
        (samples if is_sample(root / path) else stray).append(path)
    if not samples:
        others = f" ({len(stray)} other files, such as {stray[0]})" if stray else ""
        raise UserError(f"{root} holds no {what}{others}: expected <class>/<file>, or a CSV with file,label")
    chosen = _layout(root, samples) if layout == "auto" else layout
    laid = [(path, _placed(path, chosen)) for path in samples]
    stray += [path for path, sample in laid if sample is None]
    kept = [sample for _, sample in laid if sample is not None]
    if not kept:
        raise UserError(
            f"{root}: no class is known of {samples[0]}: expected {_expected(chosen)}, or a CSV with file,label"
        )
    return Found(root, chosen, _classes(kept, classes, root), kept, sorted(stray))


def files(root: Path) -> list[str]:
    """All files below ``root`` by their place in it, sorted; hidden ones are left out, links are followed."""
    return sorted(_walk(root, "", {os.path.realpath(root)}))


def _walk(root: Path, below: str, above: set[str]) -> Iterator[str]:
    try:
        entries = list(os.scandir(root / below))
    except OSError as error:
        raise UserError(f"can't look into {root / below}: {error.strerror or error}") from error
    for entry in entries:
        if entry.name.startswith(".") or entry.name.casefold() in JUNK:
            continue
        place = f"{below}/{entry.name}" if below else entry.name
        if entry.is_dir():
            if (real := os.path.realpath(entry.path)) not in above:  # a link to where we come from has no end
                yield from _walk(root, place, above | {real})
        elif entry.is_file():
            yield place


def _tables(root: Path, table: str | None) -> list[tuple[Path, str | None]]:
    """The tables and the part that each lists, where it lists one."""
    if table is not None:
        path = root / Path(table).expanduser()
        if not path.is_file():
            raise UserError(f"data.table={table}: there is no such file in {root}")
        if not Path(os.path.normpath(path)).is_relative_to(os.path.normpath(root)):
            raise UserError(f"data.table={table} lies outside of {root}: its files are found beside it")
        return [(path, None)]
    there = sorted(p for p in root.iterdir() if p.suffix.casefold() == ".csv" and not p.name.startswith("."))
    named = [p for name in TABLES for p in there if p.name.casefold() == name and is_table(p)]
    found = named[:1] or (there if len(there) == 1 and is_table(there[0]) else [])
    if found:
        return [(found[0], None)]
    inner = ((p / "metadata.csv", PARTS[p.name.casefold()]) for p in sorted(root.iterdir()) if _is_part(p.name))
    return [(path, part) for path, part in inner if is_table(path)]


def _is_part(name: str) -> bool:
    return name.casefold() in PARTS


def _layout(root: Path, samples: Sequence[str]) -> str:
    split = [path.split("/") for path in samples]
    deep = [p for p in split if len(p) > 2]
    tops = {p[0] for p in split if len(p) > 1}
    if deep and all(map(_is_part, tops)) and "train" in {PARTS[t.casefold()] for t in tops}:
        return "parts"
    within: dict[str, set[str]] = {}
    for p in deep:
        within.setdefault(p[1], set()).add(p[0])
    again = next((name for name, above in sorted(within.items()) if len(above) > 1), None)
    if again is not None and len(within) > 1 and len(deep) == sum(len(p) > 1 for p in split):
        one, two = sorted(within[again])[:2]
        raise UserError(
            f"{root}: {one}/{again} and {two}/{again} can be read in two ways: are {one} and {two} people or days"
            f" (data.layout=group) or classes (data.layout=class)? The answer is kept"
        )
    return "class"


def _placed(path: str, layout: str) -> Sample | None:
    """A file as the layout reads its place; None where that names no class."""
    places = path.split("/")[:-1]
    if layout == "class":
        return Sample(path, places[0]) if places else None
    if len(places) < 2:
        return None
    if layout == "group":
        return Sample(path, places[1], group=places[0])
    return Sample(path, places[1], part=PARTS[places[0].casefold()]) if _is_part(places[0]) else None


def _expected(layout: str) -> str:
    return {"class": "<class>/<file>", "group": "<group>/<class>/<file>"}.get(layout, "train/<class>/<file>")


def _classes(samples: Sequence[Sample], known: Sequence[str] | None, root: Path) -> list[str]:
    there = sorted({s.label for s in samples})
    if known is None:
        if len(there) < 2:
            inner = " (or data.root is one folder too high)" if (root / there[0]).is_dir() else ""
            raise UserError(f"{root} holds one class, {there[0]!r}: it takes two to tell apart{inner}")
        return there
    new, gone = [c for c in there if c not in known], [c for c in known if c not in there]
    if new:
        raise UserError(
            f"{root}: {new[0]!r} is none of the classes {', '.join(known)}: add it at the end of `classes` in"
            f" spikefront.yaml, or take its samples out"
        )
    if gone:
        raise UserError(
            f"{root}: there is no sample of the class {gone[0]!r} that spikefront.yaml names: put it back, or take it"
            " out of `classes` there"
        )
    return list(known)


def _refuse_twice(samples: Sequence[Sample], timed: bool) -> None:
    seen: dict[tuple, Sample] = {}
    for s in samples:
        key = (s.file, s.start, s.end) if timed else (s.file,)
        first = seen.setdefault(key, s)
        if first is not s:
            raise UserError(
                f"{s.name} is listed in row {first.row} already, as {first.label!r}: a sample has one row and one class"
            )
