"""Files that are whole or not there: what a kill, a crash or a full disk must not leave half of; and the cache."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from spikefront.errors import UserError


@contextmanager
def writing(path: str | Path, mode: str = "w", durable: bool = False) -> Iterator[IO[Any]]:
    """Context with a new file that takes ``path``'s place at its end, and leaves nothing if the context fails.

    It is written beside ``path``, whose directory is made: putting it there is one step of the file system.

    Args:
        durable: wait until the disk has it: a power cut too leaves the old file or the new one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{os.fsdecode(os.fsencode(path.name)[:80])}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with scratch.open(f"{mode}+" if mode == "wb" else mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def write_atomically(path: str | Path, content: str) -> Path:
    """Write a text, whole or not at all; its path."""
    with writing(path) as file:
        file.write(content)
    return Path(path)


@contextmanager
def writing_folder(path: str | Path) -> Iterator[Path]:
    """Context with a new folder that takes ``path``'s place at its end, and leaves nothing if the context fails.

    Raises:
        UserError: there is something at ``path`` already, other than an empty folder; or nothing can be written there.
    """
    asked, path = path, Path(path).resolve()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        what = "not empty" if path.is_dir() else "a file"
        raise UserError(f"{asked} is {what}: give a folder that is empty, or that is not there yet")
    scratch = path.with_name(f".{os.fsdecode(os.fsencode(path.name)[:80])}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.mkdir()
    except OSError as error:
        raise UserError(f"{asked} can't be written ({error.strerror}): give a folder where you may write") from error
    try:
        yield scratch
        scratch.replace(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def cache_folder() -> Path:
    """The user's own, ``$SPIKEFRONT_CACHE``: compiled kernels, this machine's speed, downloaded checkpoints."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "spikefront"
    return Path(os.environ.get("SPIKEFRONT_CACHE", default))
