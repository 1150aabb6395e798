"""Files that are whole or not there: what a kill, a crash or a full disk must not leave half of; and the cache."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


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


def cache_folder() -> Path:
    """The user's own, ``$SPIKEFRONT_CACHE``: compiled kernels, this machine's speed, downloaded checkpoints."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "spikefront"
    return Path(os.environ.get("SPIKEFRONT_CACHE", default))
