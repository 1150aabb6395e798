"""``spikefront.yaml``: what is known of a user's own folder, kept in it, for people to read and to change.

Above a line of its own stand settings, the user's: they are written once, where they are not there yet, and never
changed. Below it stands what Spikefront keeps: which file is in which part.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from spikefront.errors import UserError
from spikefront.files import write_atomically

NAME = "spikefront.yaml"
TITLE = "# What Spikefront knows of this folder. Yours to change: what stands above the line is never overwritten."
LINE = "# --- kept by Spikefront: which file is in which part, so that it stays when files come ---"
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class Card:
    """What is kept of ``root``, in it, or below ``cache`` where it can't be written.

    Attributes:
        settings: what stands above the line.
        kept: what stands below it.
        path: the file.
    """

    def __init__(self, root: Path, cache: Path) -> None:
        within, other = root / NAME, beside(root, cache)
        self.path = other if not os.access(root, os.W_OK) or (other.exists() and not within.exists()) else within
        self._beside = other
        text = ""
        for path in dict.fromkeys((self.path, within)):
            if path.is_file():
                text = _read(path)
                break
        self._above, self._below = (*text.split(LINE, 1), "")[:2]
        self.settings, self.kept = (_mapping(part, path) for part in (self._above, self._below))

    def write(self, settings: Mapping[str, Any], kept: Mapping[str, Any]) -> bool:
        """Add what is not there yet of ``settings`` and replace what is ``kept``; whether anything was new."""
        added = {key: value for key, value in settings.items() if key not in self.settings}
        if not added and kept == self.kept:
            return False
        above = self._above.rstrip("\n") or TITLE
        text = "\n".join([above, *([_dumped(added)] if added else []), "", LINE, _dumped(kept), ""])
        try:
            write_atomically(self.path, text)
        except OSError:
            if self.path == self._beside:
                raise UserError(
                    f"can't keep the split in {self.path}: set data.cache to a directory you can write"
                ) from None
            self.path = self._beside
            return self.write(settings, kept)
        self._above, self.settings, self.kept = f"{above}\n{_dumped(added)}", {**self.settings, **added}, dict(kept)
        return True


def beside(root: Path, cache: Path) -> Path:
    """Where it is kept of a folder that can't be written."""
    place = os.path.abspath(root)
    return cache / "folders" / f"{root.name or 'root'}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:12]}.yaml"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"can't read {path}: {error}") from error


def _mapping(text: str, path: Path) -> dict[str, Any]:
    try:
        found = yaml.load(text, Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise UserError(f"{path} is no YAML{line}: {getattr(error, 'problem', error)}") from error
    if found is not None and not isinstance(found, dict):
        raise UserError(f"{path} is no mapping: write key: value")
    return found or {}


def _dumped(values: Mapping[str, Any]) -> str:
    if not values:
        return ""
    return yaml.dump(dict(values), Dumper=Dumper, allow_unicode=True, sort_keys=False, width=1000).rstrip("\n")
