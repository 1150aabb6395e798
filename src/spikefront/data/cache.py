"""Parsed recordings in one memory-mapped file: built once, by one process, all or nothing.

An entry is a directory ``<set>-<fingerprint>/`` with ``events.bin`` (all recordings end to end, ``EVENT`` records) and
``index.json`` (names, offsets, a CRC-32 of each chunk of a recording, what was skipped). The fingerprint covers the
format's version, all that the reader is told, and the source files by place, size and time: other sources, or the same
written anew, make another entry; another split doesn't. A builder holds a lock that the kernel releases when it dies,
works in a directory of its own and renames it when all is written.
"""

from __future__ import annotations

import errno
import functools
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
from typing import Any

import numpy as np
from filelock import FileLock

from spikefront.data.chunks import CHUNK, append, chunked, crc_of
from spikefront.data.formats.refused import BadRecording
from spikefront.errors import UserError

FORMAT = 6
INDEX, EVENTS = "index.json", "events.bin"
EVENT = np.dtype([("x", "<u2"), ("y", "<u2"), ("t", "<u4"), ("p", "u1")])  # t in µs since the recording's first event


Events = np.ndarray | Iterator[np.ndarray]  # of a recording: all, or in blocks one after the other


@dataclass(frozen=True)
class Recording:
    """One recording of a set: ``read()`` parses it into a structured array with fields x, y, t (µs) and p, or an
    iterator of such blocks, of which only one need be in memory."""

    name: str  # the file, relative to the set's root, or an index
    label: int
    part: str  # "train" | "val", where the set has one of its own | "test"
    read: Callable[[], Events]
    size: int = 0  # of the file, in bytes
    source: str = ""  # which file at which state: its place and the time it was written


class Damaged(Exception):
    """A cache entry is not what its index says."""


class Recordings(Sequence):
    """The recordings of an entry; each chunk of one is checked against its CRC the first time this process reads it."""

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
            self._crc: list[list[int]] = index["crc"]
            count = self._offsets[-1]
            if (size := (entry / EVENTS).stat().st_size) != count * EVENT.itemsize:
                raise Damaged(f"{EVENTS} has {size} bytes instead of {count * EVENT.itemsize}")
            if index.pop("seal") != _seal(index):
                raise Damaged(f"{INDEX} does not match its checksum")
            self._events = np.memmap(entry / EVENTS, EVENT, "r", shape=(count,)) if count else np.empty(0, EVENT)
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise Damaged(str(error)) from error
        self.entry, self._sources, self._read = entry, sources, read
        self._checked: set[tuple[int, int]] = set()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        return self.between(index, 0, len(self.glance(index)))

    def between(self, index: int, first: int, last: int) -> np.ndarray:
        """Events ``first`` up to ``last``, not included, of a recording; no more of it is read than their chunks."""
        events = self.glance(index)
        for chunk in range(first // CHUNK, -(-last // CHUNK)):
            if (index, chunk) not in self._checked:
                if crc_of(events[chunk * CHUNK : (chunk + 1) * CHUNK]) != self._crc[index][chunk]:
                    self._mend(index)
                self._checked.add((index, chunk))
        return events[first:last]

    def name(self, index: int) -> str:
        return self.names[index]

    def glance(self, index: int) -> np.ndarray:
        """A recording that isn't checked: of a long one only what is looked at is read."""
        return np.asarray(self._events[self._offsets[index] : self._offsets[index + 1]])

    def _mend(self, index: int) -> None:
        """Parse a damaged recording again and write what is damaged back where it was."""
        name, begin, crcs = self.names[index], self._offsets[index], self._crc[index]
        print(f"spikefront: cached recording {name} in {self.entry} is damaged; parsing it again", file=sys.stderr)
        changed = UserError(f"{name} changed since {self.entry} was made: delete that directory and start again")
        chunk = -1
        try:
            with FileLock(f"{self.entry}.lock"), open(self.entry / EVENTS, "r+b") as file:
                for chunk, events in enumerate(chunked(self._read(self._sources[name]))):
                    if chunk >= len(crcs) or crc_of(events) != crcs[chunk]:
                        raise changed
                    if crc_of(self.glance(index)[chunk * CHUNK :][:CHUNK]) != crcs[chunk]:
                        file.seek((begin + chunk * CHUNK) * EVENT.itemsize)
                        file.write(events.view(np.uint8).data)
        except BadRecording as error:
            raise UserError(_complaint(name, str(error))) from error
        except OSError as error:
            raise UserError(_disk(error, self.entry)) from error
        if chunk + 1 < len(crcs):
            raise changed


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
    _tell(found.skipped, found.entry)
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
                crcs: list[int] = []
                begin, written = file.tell(), None  # one block is written while the next is parsed
                try:
                    for block in read(recording):
                        if written:
                            written.result()
                        written = writer.submit(append, file, begin, block, crcs)
                    if written:
                        written.result()
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
                index["crc"].append(crcs)
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


def _seal(index: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps({k: index[k] for k in sorted(index) if k != "seal"}).encode())


def _complaint(file: str, reason: str) -> str:
    asked = re.search(r"(give|mend|say) data\.", reason)  # it names the setting that is missing
    return f"{file}: {reason}" + ("" if asked else "; mend or remove the file, or leave it out with data.on_error=skip")


def _first(skipped: dict[str, str]) -> str:
    return next((f": {file}: {reason}" for file, reason in skipped.items()), "")


def _tell(skipped: dict[str, str], entry: Path) -> None:
    if skipped:
        more = f", and {len(skipped) - 3} more" if len(skipped) > 3 else ""
        listed = ", ".join(f"{file}: {reason}" for file, reason in list(skipped.items())[:3])
        count = "1 recording is" if len(skipped) == 1 else f"{len(skipped)} recordings are"
        _tell_once(f"spikefront: {count} left out (data.on_error=skip): {listed}{more}", entry)


@functools.cache
def _tell_once(line: str, _: Path) -> None:
    """A set is opened several times in a run."""
    print(line, file=sys.stderr)


def _disk(error: OSError, root: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"the disk is full while caching events in {root}: make room, or set data.cache to another directory"
    return f"can't cache events in {root} ({error.strerror or error}): set data.cache to a directory you can write"
