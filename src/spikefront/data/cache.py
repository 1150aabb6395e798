"""Parsed recordings in one memory-mapped file: built once, by one process, all or nothing.

An entry is a directory ``<set>-<fingerprint>/`` with ``events.bin`` (all recordings end to end, ``EVENT`` records) and
``index.json`` (names, offsets, a CRC-32 a recording, what was skipped). The fingerprint covers the format's version,
all that the reader is told, and the source files by place, size and time: other sources, or the same written anew,
make another entry; another split doesn't. A builder holds a lock that the kernel releases when it dies, works in a
directory of its own and renames it when all is written.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock

from spikefront.data.formats.refused import BadRecording
from spikefront.errors import UserError

FORMAT = 5
INDEX, EVENTS = "index.json", "events.bin"
EVENT = np.dtype([("x", "<u2"), ("y", "<u2"), ("t", "<u4"), ("p", "u1")])  # t in µs since the recording's first event


Events = np.ndarray | Iterator[np.ndarray]  # of a recording: all, or in blocks one after the other


@dataclass(frozen=True)
class Recording:
    """One recording of a set: ``read()`` parses it into a structured array with fields x, y, t (µs) and p, or an
    iterator of such blocks, of which only one need be in memory."""

    name: str  # the file, relative to the set's root, or an index
    label: int
    part: str  # "train" | "test"
    read: Callable[[], Events]
    size: int = 0  # of the file, in bytes
    source: str = ""  # which file at which state: its place and the time it was written


class Damaged(Exception):
    """A cache entry is not what its index says."""


class Recordings(Sequence):
    """The recordings of an entry; each is checked against its CRC the first time this process reads it."""

    def __init__(
        self, entry: Path, sources: Mapping[str, Recording], read: Callable[[Recording], Iterable[np.ndarray]]
    ) -> None:
        try:
            index = json.loads((entry / INDEX).read_text(encoding="utf-8"))
            self.names: list[str] = index["names"]
            self.labels = [sources[name].label for name in self.names]
            self.parts = [sources[name].part for name in self.names]
            self.skipped: dict[str, str] = index["skipped"]
            self.facts: list[dict[str, Any]] = index["facts"]  # of each, as whoever read it noted them
            self._offsets: list[int] = index["offsets"]
            self._crc: list[int] = index["crc"]
            count = self._offsets[-1]
            if (size := (entry / EVENTS).stat().st_size) != count * EVENT.itemsize:
                raise Damaged(f"{EVENTS} has {size} bytes instead of {count * EVENT.itemsize}")
            if index.pop("seal") != _seal(index):
                raise Damaged(f"{INDEX} does not match its checksum")
            self._events = np.memmap(entry / EVENTS, EVENT, "r", shape=(count,)) if count else np.empty(0, EVENT)
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise Damaged(str(error)) from error
        self.entry, self._sources, self._read = entry, sources, read
        self._checked: set[int] = set()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        events = self.glance(index)
        if index not in self._checked:
            if zlib.crc32(events.view(np.uint8).data) != self._crc[index]:
                events = self._mend(index)
            self._checked.add(index)
        return events

    def name(self, index: int) -> str:
        return self.names[index]

    def glance(self, index: int) -> np.ndarray:
        """A recording that isn't checked: of a long one only what is looked at is read."""
        return np.asarray(self._events[self._offsets[index] : self._offsets[index + 1]])

    def _mend(self, index: int) -> np.ndarray:
        """Parse a damaged recording again and write it back where it was."""
        name = self.names[index]
        print(f"spikefront: cached recording {name} in {self.entry} is damaged; parsing it again", file=sys.stderr)
        try:
            events = np.concatenate([np.empty(0, EVENT), *self._read(self._sources[name])])
        except BadRecording as error:
            raise UserError(_complaint(name, str(error))) from error
        begin, end = self._offsets[index : index + 2]
        if len(events) != end - begin or zlib.crc32(events.tobytes()) != self._crc[index]:
            raise UserError(f"{name} changed since {self.entry} was made: delete that directory and start again")
        with FileLock(f"{self.entry}.lock"), open(self.entry / EVENTS, "r+b") as file:
            file.seek(begin * events.itemsize)
            file.write(events.tobytes())
        return events


def open_cache(
    root: Path,
    name: str,
    recordings: Sequence[Recording],
    read: Callable[[Recording], Iterable[np.ndarray]],
    on_error: str,
    settings: Mapping[str, Any],
    facts: Callable[[str], Mapping[str, Any]] = lambda _: {},
) -> Recordings:
    """The entry of ``recordings`` under ``root``, built if it isn't there, built again if it is damaged.

    Args:
        read: a recording's events as blocks of ``EVENT``, written as they come.
        settings: all that ``read`` is told besides the recording; JSON-ready.
        facts: what is to be kept of a recording, by its name, beside its events; asked for once these are read.

    Raises:
        UserError: a recording can't be used and ``on_error`` is ``raise``; no recording can; the disk is full or the
            directory can't be written.
    """
    by_name = {r.name: r for r in recordings}
    if len(by_name) != len(recordings):
        raise UserError(f"two recordings of {name} have the same name")
    named = [(r.name, r.size, r.source) for r in recordings]
    told = json.dumps([FORMAT, name, named, settings], sort_keys=True)
    fingerprint = hashlib.sha256(told.encode()).hexdigest()[:16]
    entry = root / f"{name}-{fingerprint}"

    try:
        found = Recordings(entry, by_name, read)
        if not (found.skipped and on_error == "raise"):
            return _usable(found)
    except Damaged:
        pass
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{entry}.lock"):
            try:
                found = Recordings(entry, by_name, read)  # another process may have been faster
                if found.skipped and on_error == "raise":
                    for file in found.skipped:
                        for _ in read(by_name[file]):
                            pass
                    raise Damaged("recordings that were left out are in order now")
            except BadRecording as error:
                raise UserError(_complaint(file, str(error))) from error
            except Damaged as error:
                if entry.exists():
                    print(f"spikefront: cache {entry} is damaged ({error}); building it again", file=sys.stderr)
                _build(root, entry, recordings, read, on_error, facts)
                found = Recordings(entry, by_name, read)
    except OSError as error:
        raise UserError(_disk(error, root)) from error
    return _usable(found)


def _usable(found: Recordings) -> Recordings:
    """Says what was left out, once all are sure to be something."""
    for part in ("train", "test"):
        if part not in found.parts:
            raise UserError(f"no recording of the {part} part can be used{_first(found.skipped)}")
    _tell(found.skipped)
    return found


def _build(
    root: Path,
    entry: Path,
    recordings: Sequence[Recording],
    read: Callable[[Recording], Iterable[np.ndarray]],
    on_error: str,
    facts: Callable[[str], Mapping[str, Any]],
) -> None:
    for leftover in root.glob(f".{entry.name}-*"):  # of a builder that was killed: we hold the lock, nobody uses it
        shutil.rmtree(leftover, ignore_errors=True)
    if sum(r.size for r in recordings) > 1e8:
        print(f"spikefront: caching {len(recordings):,} recordings in {entry}, once", file=sys.stderr, flush=True)
    work = Path(tempfile.mkdtemp(prefix=f".{entry.name}-", dir=root))
    index: dict[str, Any] = {"names": [], "offsets": [0], "crc": [], "facts": [], "skipped": {}}
    try:
        with open(work / EVENTS, "wb") as file, ThreadPoolExecutor(1) as writer:
            for recording in recordings:
                begin, written = file.tell(), None  # one block is written while the next is parsed
                try:
                    for block in read(recording):
                        crc = written.result() if written else 0
                        written = writer.submit(_write, file, block, crc)
                    crc = written.result() if written else 0
                except BadRecording as error:
                    if on_error == "raise":
                        raise UserError(_complaint(recording.name, str(error))) from error
                    index["skipped"][recording.name] = str(error)
                    if written:
                        written.result()
                    file.seek(begin)
                    file.truncate()
                    continue
                index["names"].append(recording.name)
                index["offsets"].append(file.tell() // EVENT.itemsize)
                index["crc"].append(crc)
                index["facts"].append(facts(recording.name))
            file.flush()
            os.fsync(file.fileno())
        index["seal"] = _seal(index)
        (work / INDEX).write_text(json.dumps(index), encoding="utf-8")
        if entry.exists():
            shutil.rmtree(entry)
        work.chmod(0o755)
        work.rename(entry)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write(file: BinaryIO, block: np.ndarray, crc: int) -> int:
    """Appends ``EVENT`` records; the CRC of all that a recording has had so far."""
    file.write(data := block.view(np.uint8).data)
    return zlib.crc32(data, crc)


def _seal(index: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps({k: index[k] for k in sorted(index) if k != "seal"}).encode())


def _complaint(file: str, reason: str) -> str:
    asked = re.search(r"(give|mend|say) data\.", reason)  # it names the setting that is missing
    return f"{file}: {reason}" + ("" if asked else "; mend or remove the file, or leave it out with data.on_error=skip")


def _first(skipped: dict[str, str]) -> str:
    return next((f": {file}: {reason}" for file, reason in skipped.items()), "")


def _tell(skipped: dict[str, str]) -> None:
    if skipped:
        more = f", and {len(skipped) - 3} more" if len(skipped) > 3 else ""
        listed = ", ".join(f"{file}: {reason}" for file, reason in list(skipped.items())[:3])
        print(f"spikefront: {len(skipped)} recordings left out (data.on_error=skip): {listed}{more}", file=sys.stderr)


def _disk(error: OSError, root: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"the disk is full while caching events in {root}: make room, or set data.cache to another directory"
    return f"can't cache events in {root} ({error.strerror or error}): set data.cache to a directory you can write"
