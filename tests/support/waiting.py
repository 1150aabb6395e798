"""Until something is so."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(what: Callable[[], object], seconds: float = 60, otherwise: Callable[[], str] = lambda: "") -> None:
    """Look again and again; after so many seconds the test ends with what ``otherwise`` says."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, otherwise()
        time.sleep(0.1)
