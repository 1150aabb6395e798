"""Files known by what is in them: their digests, and whatever else is worked out once a file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from spikefront.errors import UserError
from spikefront.files import write_atomically

FORMAT = 1
LARGE = 1e9  # bytes, from which on it is said that they are read


class Contents:
    """What is known of the files of ``root``, kept below ``cache`` as long as they keep their size and time."""

    def __init__(self, root: Path, cache: Path) -> None:
        self.root = root
        name = hashlib.sha256(os.fsencode(os.path.abspath(root))).hexdigest()[:12]
        self._path = cache / "folders" / f"{root.name or 'root'}-{name}-{FORMAT}.json"
        try:
            self._known: dict[str, dict[str, Any]] = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self._known = {}

    def digests(self, files: Iterable[str]) -> dict[str, str]:
        """Sixteen hex digits of what each file holds.

        Raises:
            UserError: a file can't be read.
        """
        files = list(dict.fromkeys(files))
        stale = [file for file in files if "digest" not in self._entry(file)]
        if (size := sum((self.root / file).stat().st_size for file in stale)) > LARGE:
            told = f"spikefront: reading {len(stale):,} files ({size / 1e9:.1f} GB) once, to know them by their content"
            print(told, file=sys.stderr, flush=True)
        return self.each(files, "digest", _digest)

    def each(self, files: Iterable[str], key: str, work: Callable[[Path], Any]) -> dict[str, Any]:
        """``work(path)`` of each file, JSON-ready, done once and known by ``key``."""
        found, new = {}, False
        for file in dict.fromkeys(files):
            entry = self._entry(file)
            if key not in entry:
                try:
                    entry[key], new = work(self.root / file), True
                except OSError as error:
                    raise UserError(f"can't read {self.root / file}: {error.strerror or error}") from error
            found[file] = entry[key]
        if new:
            with contextlib.suppress(OSError):  # the next run works it out again
                write_atomically(self._path, json.dumps(self._known))
        return found

    def _entry(self, file: str) -> dict[str, Any]:
        try:
            there = (self.root / file).stat()
        except OSError as error:
            raise UserError(f"can't read {self.root / file}: {error.strerror or error}") from error
        state = [there.st_size, there.st_mtime_ns, there.st_ino]
        entry = self._known.get(file)
        if entry is None or entry["state"] != state:
            entry = self._known[file] = {"state": state}
        return entry


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
