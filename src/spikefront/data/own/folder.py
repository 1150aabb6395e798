"""A user's own folder as a data set: its samples, what is known of it, and which of them train, validate and test."""

from __future__ import annotations

import functools
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock
from PIL import Image

from spikefront.data import formats
from spikefront.data.own.card import Card, beside
from spikefront.data.own.contents import Contents
from spikefront.data.own.rows import Sample
from spikefront.data.own.samples import SHOWN, Found, find
from spikefront.data.own.saved import is_saved, unpacked
from spikefront.data.own.split import Shares, assign, split_hash
from spikefront.errors import UserError

TEST, VAL, SEED = 0.2, 0.2, 0  # of a folder of which nothing is kept
KINDS = ("pictures", "recordings")


@dataclass(frozen=True)
class Asked:
    """What a configuration says of a folder; None: what is kept of it, or found in it."""

    root: str | None
    kind: str
    layout: str = "auto"
    table: str | None = None
    cache: str = "~/.cache/spikefront"

    @property
    def place(self) -> Path:
        if not self.root:
            raise UserError(
                f"data.root is not given: the folder that holds your {self.kind}, data.root=/path/to/folder"
            )
        return Path(self.root).expanduser()

    @property
    def files(self) -> Path:
        """What its samples lie below: the folder itself, or what is unpacked of one that ``datasets`` saved."""
        saved = self.kind == "pictures" and is_saved(self.place)
        return unpacked(self.place, self.kept) if saved else self.place

    @property
    def kept(self) -> Path:
        return Path(self.cache).expanduser()


@dataclass
class Parted:
    """A folder's samples and their parts.

    Attributes:
        parts: of each file ``train``, ``val`` or ``test``.
        digests: of each file.
        split_hash: of the whole split.
        card: where that is kept.
        lines: what is to be said of it.
    """

    found: Found
    parts: dict[str, str]
    digests: dict[str, str]
    shares: Shares
    split_hash: str
    card: Path
    lines: list[str] = field(default_factory=list)

    def of(self, part: str) -> list[Sample]:
        return [s for s in self.found.samples if self.parts[s.file] == part]

    def described(self) -> dict[str, Any]:
        """For results and checkpoints."""
        counts = Counter(self.parts[s.file] for s in self.found.samples)
        return {
            "card": str(self.card),
            "layout": self.found.layout,
            "classes": self.found.classes,
            "split": self.split_hash,
            "samples": dict(sorted(counts.items())),
            "seed": self.shares.seed,
        }


def open_folder(asked: Asked, fresh: bool = False) -> tuple[Found, Card]:
    """The samples of a folder, and what is kept of it.

    Args:
        fresh: look again, though nothing that names classes has changed since the last time.

    Raises:
        UserError: no folder, no samples, or none that can be told apart.
    """
    root = asked.place
    if not root.is_dir():
        find(root, asked.kind, bool)  # says what is wrong
    card = Card(root, asked.kept)
    return _found.__wrapped__(asked, None) if fresh else _found(asked, _stamp(asked.files, card.path)), card


@functools.lru_cache(maxsize=8)
def _found(asked: Asked, _: object) -> Found:
    card = Card(asked.place, asked.kept)
    layout, table, classes = (card.settings.get(key) for key in ("layout", "table", "classes"))
    if classes is not None and not (isinstance(classes, list) and all(isinstance(c, str) for c in classes)):
        raise UserError(f"{card.path}: `classes` is no list of names: quote numbers, such as ['0', '1']")
    return find(
        asked.files,
        asked.kind,
        looks_like(asked.kind),
        asked.layout if asked.layout != "auto" or layout is None else layout,
        asked.table or table,
        classes,
        timed=asked.kind == "recordings",
    )


def _stamp(root: Path, card: Path) -> object:
    """Another one when classes can be others: folders come and go, a table is written anew."""
    try:
        there = [entry for entry in os.scandir(root) if entry.is_dir() or entry.name.casefold().endswith(".csv")]
        paths = [*(entry.path for entry in there), str(root), *([str(card)] if card.exists() else [])]
        return tuple(sorted((path, os.stat(path).st_mtime_ns) for path in paths))
    except OSError as error:
        raise UserError(f"can't look into {root}: {error.strerror or error}") from error


def looks_like(kind: str) -> Callable[[Path], bool]:
    """Whether a file is a sample of that kind: pictures by their suffix, or by their content without a known one."""
    if kind == "recordings":
        return lambda path: formats.sniff(path) is not None or formats.is_empty(path)
    Image.init()
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN} - {".pdf", ".mpg"}

    def is_picture(path: Path) -> bool:
        suffix = path.suffix.casefold()
        if suffix in known or (suffix and not suffix[1:].isdigit()):
            return suffix in known
        try:
            with Image.open(path):
                return True
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return False

    return is_picture


def parted(asked: Asked, shares: Shares, keep: bool = True) -> Parted:
    """A folder's samples in their parts, as they were before as far as they were there; keeps that.

    Args:
        keep: false: leave what is kept as it is.

    Raises:
        UserError: as ``open_folder`` and ``assign``; other shares than those that are kept.
    """
    lock = beside(asked.place, asked.kept).with_suffix(".lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            return _parted(asked, shares, keep)
    except OSError as error:
        told = f"can't keep what is known of files in {lock.parent} ({error.strerror or error})"
        raise UserError(f"{told}: set data.cache to a directory you can write") from error


def _parted(asked: Asked, shares: Shares, keep: bool) -> Parted:
    found, card = open_folder(asked, fresh=True)
    files = sorted({s.file for s in found.samples})
    digests = Contents(found.root, asked.kept).digests(files)
    kept = card.kept.get("split") or {}
    before = _before(kept.get("parts") or {}, digests)
    _refuse_other_shares(kept, shares, found.parts, card)
    noun = "group" if any(s.group for s in found.samples) else asked.kind[:-1]
    parts = assign(found.samples, shares, before, digests, noun)
    lines = [f"{asked.place}: {_summary(found, parts)}"]
    if found.stray:
        shown = ", ".join(found.stray[:SHOWN]) + (" …" if len(found.stray) > SHOWN else "")
        lines.append(f"{len(found.stray)} files are no {asked.kind} and left alone: {shown}")
    if found.parts and "test" not in found.parts:
        lines.append(
            f"no test part among {', '.join(sorted(found.parts))}: data.test_fraction={shares.test:g} of train is"
        )
    lines += _contradictions(found, digests)
    if before and (new := len(parts.keys() - before.keys())):
        lines.append(f"{new} new files since the split was drawn; those that were there stay where they were")
    settings = {"kind": asked.kind, "layout": found.layout, "classes": found.classes}
    if found.layout == "table" and len(found.tables) == 1:
        settings["table"] = found.tables[0]
    told = {file: f"{parts[file]} {digests[file]}" for file in files}
    gone = {file: entry for file, entry in (kept.get("parts") or {}).items() if file not in told}
    split = {"test_fraction": shares.test, "val_fraction": shares.val, "seed": shares.seed, "parts": {**gone, **told}}
    if keep and card.write(settings, {**card.kept, "split": split}):
        lines.append(f"kept in {card.path}")
    return Parted(found, parts, digests, shares, split_hash(found.samples, parts, digests), card.path.absolute(), lines)


def _before(kept: Mapping[str, str], digests: Mapping[str, str]) -> dict[str, str]:
    """The part of each file that was there, under this name or, if that is gone, with this content under another."""
    moved = {entry.split()[1]: entry.split()[0] for file, entry in kept.items() if file not in digests}
    found = {}
    for file, digest in digests.items():
        if file in kept:
            found[file] = kept[file].split()[0]
        elif digest in moved:
            found[file] = moved[digest]
    return found


def _refuse_other_shares(kept: Mapping[str, Any], shares: Shares, declared: set[str], card: Card) -> None:
    for part, key, value in (
        ("test", "test_fraction", shares.test),
        ("val", "val_fraction", shares.val),
        (None, "seed", shares.seed),
    ):
        if part not in declared and kept.get(key, value) != value:
            raise UserError(
                f"data.{key}={value} would move files between parts: {card.path} keeps a split of {key} {kept[key]};"
                f" leave data.{key} out, or delete what stands below the line there to draw anew"
            )


def _summary(found: Found, parts: Mapping[str, str]) -> str:
    counts = Counter(parts[s.file] for s in found.samples)
    each = ", ".join(f"{counts[part]} {part}" for part in ("train", "val", "test") if counts[part])
    where = f"by {found.tables[0]}" if found.tables else f"as {found.layout}"
    groups = len({s.group for s in found.samples} - {None})
    people = f", {groups} groups" if groups else ""
    return f"{len(found.samples)} samples of {len(found.classes)} classes {where}{people}: {each}"


def _contradictions(found: Found, digests: Mapping[str, str]) -> list[str]:
    """A line where one content is of two classes."""
    seen: dict[Any, Sample] = {}
    for s in found.samples:
        first = seen.setdefault((digests[s.file], s.start, s.end), s)
        if first.label != s.label:
            return [f"{first.name} ({first.label}) and {s.name} ({s.label}) are the same file as two classes"]
    return []


def say(lines: list[str]) -> None:
    """To whoever watches, beside a command's own output."""
    for line in lines:
        print(f"spikefront: {line}", file=sys.stderr, flush=True)


def told(what: str, settings: Mapping[str, Any], kind: str) -> Any:
    """What a configuration takes from its folder: ``${folder:num_classes,pictures}`` and its like.

    Args:
        what: ``num_classes``, ``train_samples`` (val_fraction among them), ``test_fraction``, ``val_fraction`` or
            ``seed``.
        settings: the data configuration that asks.

    Raises:
        UserError: as ``open_folder``.
    """
    given = {key: settings[key] for key in ("layout", "table", "cache") if settings.get(key) is not None}
    found, card = open_folder(Asked(settings.get("root"), kind, **given))
    kept = card.kept.get("split") or {}
    shares = {"test_fraction": TEST, "val_fraction": VAL, "seed": SEED, **kept}
    if what == "num_classes":
        return len(found.classes)
    if what == "train_samples" and settings.get("window") is not None:
        return None  # known once they are cut
    if what == "train_samples":
        trained = sum(s.part in (None, "train", "val") for s in found.samples)
        return trained if "test" in found.parts else round(trained * (1 - shares["test_fraction"]))
    return shares[what]
