"""What is worked out once for all processes that need it, and kept beside the cache."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from spikefront.files import write_atomically


def once(path: Path, work: Callable[[], Any]) -> Any:
    """``work()``, JSON-ready: one process does it and keeps it in ``path``, others wait and read that.

    Where nothing can be written, each does it.
    """
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    lock = FileLock(f"{path}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError:
        return work()
    try:
        with contextlib.suppress(OSError, ValueError):
            return json.loads(path.read_text(encoding="utf-8"))
        found = work()
        with contextlib.suppress(OSError):
            write_atomically(path, json.dumps(found))
        return found
    finally:
        lock.release()
