"""Downloads: once, by one process, with a clear line where one isn't possible."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

from filelock import FileLock

from spikefront.errors import UserError


def fetch(download: Callable[[], object], name: str, root: Path, expected: str, allowed: bool = True) -> None:
    """Run ``download``, which gets the set ``name`` into ``root`` and returns at once if it is there.

    Raises:
        UserError: it isn't ``allowed`` (``data.download=false``) or fails; says which files are ``expected`` where.
    """
    where = f"expected {expected}; put them there, or set data.root to the directory that holds them"
    if not allowed:
        raise UserError(f"{name} is not in {root.absolute()}: {where}, or download with data.download=true")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{name}.lock"), redirect_stdout(sys.stderr):
            download()
    except Exception as error:  # whatever a network, a server or an archive can do wrong
        reason = str(getattr(error, "reason", None) or error).strip() or type(error).__name__
        raise UserError(f"{name} is not in {root.absolute()} and can't be downloaded ({reason}): {where}") from error
