"""Images in WebDataset tar shards, read at random: an index of where each lies is made once and cached.

A shard is a plain tar whose members come in groups of one name: ``000123.jpg`` beside ``000123.cls`` (the class as
digits) or ``000123.json`` (with a ``label``). Reading by index instead of as a stream keeps what every other set has:
one order on any number of processes, exact resume, a validation part drawn by class.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock

from spikefront.errors import UserError
from spikefront.files import writing

FORMAT = 1
IMAGES = ("jpg", "jpeg", "png", "webp")
MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)")  # WebDataset's key and extension


class BadShard(Exception):
    """A shard, or one of its samples, can't be used; the message is the reason."""


class Shards:
    """The images of ``files``: a ``Source`` for ``Images``.

    Args:
        cache: directory of the index; one entry for each list of files as they are now.
        num_classes: classes are 0 to below this.
        on_error: what a broken shard or a sample without a class does: ``raise`` or ``skip``.
    """

    def __init__(self, files: Sequence[Path], cache: Path, num_classes: int, on_error: str) -> None:
        self.files = sorted(files)
        sources = [_identity(file) for file in self.files]
        digest = hashlib.sha256(json.dumps([FORMAT, sources, num_classes, on_error]).encode()).hexdigest()[:16]
        index = cache / f"shards-{digest}.npz"
        try:
            found = _load(index, quiet=True)  # another process may be making it
            if found is None:
                cache.mkdir(parents=True, exist_ok=True)
                with FileLock(f"{index}.lock"):
                    found = _load(index)
                    if found is None:
                        found = _index(self.files, num_classes, on_error)
                        _save(index, found)
        except OSError as error:
            raise UserError(
                f"can't keep the index of shards in {cache} ({error.strerror or error}): set data.cache"
            ) from error
        self.labels: np.ndarray = found["label"]
        self._shard, self._offset, self._size = found["shard"], found["offset"], found["size"]

    def name(self, index: int) -> str:
        return f"{self.files[self._shard[index]]}, image at byte {self._offset[index]}"

    def read(self, index: int) -> bytes:
        with open(self.files[self._shard[index]], "rb", buffering=0) as file:
            return os.pread(file.fileno(), int(self._size[index]), int(self._offset[index]))


def _identity(file: Path) -> tuple[str, int, int]:
    """A file as it is now; its size alone, a multiple of 10 KiB, would take a reshuffled shard for the old one."""
    found = file.stat()
    return str(file.absolute()), found.st_size, found.st_mtime_ns


def _index(files: Sequence[Path], num_classes: int, on_error: str) -> dict[str, np.ndarray]:
    rows: list[tuple[int, int, int, int]] = []
    for number, file in enumerate(files):
        try:
            for offset, size, label in _samples(file, num_classes, on_error):
                rows.append((number, offset, size, label))
        except BadShard as error:
            _bad(f"{file}: {error}", on_error)
    if not rows:
        raise UserError(
            f"no sample in {files[0]} … {files[-1]}: expected images (.jpg) with classes (.cls) beside them"
        )
    columns = np.asarray(rows, dtype=np.int64).T
    return dict(zip(("shard", "offset", "size", "label"), columns, strict=True))


def _samples(file: Path, num_classes: int, on_error: str):  # type: ignore[no-untyped-def]
    """Offset, size and class of each image of a shard."""
    key, image, label = None, None, None
    end = file.stat().st_size
    try:
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                match = MEMBER.fullmatch(member.name)
                if not member.isfile() or match is None:
                    continue
                if match[1] != key:
                    yield from _sample(file, key, image, label, num_classes, on_error)
                    key, image, label = match[1], None, None
                if member.offset_data + member.size > end:
                    raise BadShard("the shard is truncated")
                extension = match[2].lower()
                if extension in IMAGES:
                    image = (member.offset_data, member.size)
                elif extension in ("cls", "json"):
                    label = _label(tar.extractfile(member).read(), extension)  # type: ignore[union-attr]
            with open(file, "rb") as raw:  # tarfile takes a header that ends early for the end
                raw.seek(tar.offset)
                whole = raw.read(tarfile.BLOCKSIZE) == tarfile.NUL * tarfile.BLOCKSIZE
    except tarfile.TarError as error:
        raise BadShard(f"not a whole tar file ({error})") from error
    if not whole:
        if label is not None:
            yield from _sample(file, key, image, label, num_classes, on_error)
        raise BadShard("the shard is truncated")
    yield from _sample(file, key, image, label, num_classes, on_error)


def _sample(file, key, image, label, num_classes, on_error):  # type: ignore[no-untyped-def]
    if image is None:
        return
    if label is None:
        _bad(f"{file}: {key} has no class (.cls or .json with a label)", on_error)
    elif not 0 <= label < num_classes:
        _bad(f"{file}: {key} has the class {label}, not 0 to {num_classes - 1}", on_error)
    else:
        yield (*image, label)


def _label(content: bytes, extension: str) -> int | None:
    try:
        return int(json.loads(content)["label"]) if extension == "json" else int(content)
    except (ValueError, KeyError, TypeError):
        return None


def _bad(message: str, on_error: str) -> None:
    if on_error == "raise":
        raise UserError(f"{message}; mend or remove the file, or leave it out with data.on_error=skip")
    print(f"spikefront: {message}: left out", file=sys.stderr, flush=True)


def _load(index: Path, quiet: bool = False) -> dict[str, np.ndarray] | None:
    try:
        with np.load(index) as stored:
            return {key: stored[key] for key in ("shard", "offset", "size", "label")}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
        if not quiet:
            print(f"spikefront: {index} is damaged; making it again", file=sys.stderr, flush=True)
        return None


def _save(index: Path, columns: dict[str, np.ndarray]) -> None:
    with writing(index, "wb") as file:
        np.savez(file, **columns)  # type: ignore[arg-type]
