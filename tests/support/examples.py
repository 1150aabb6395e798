"""What `make test` tries of many examples alike; `make test-all` tries them all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import pytest


def few(cases: Iterable[Any], every: int = 3) -> list[Any]:
    """The cases of a parametrised test, all but each ``every``-th of them slow."""
    values = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [pytest.param(*v, marks=[] if i % every == 0 else pytest.mark.slow) for i, v in enumerate(values)]


def examples(number: int) -> int:
    """How many times a property is tried."""
    return number if os.environ.get("SPIKEFRONT_TEST_ALL") else number // 3
