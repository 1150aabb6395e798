"""What `make test` tries of many examples alike; `make test-all` tries them all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import pytest

ALL = "SPIKEFRONT_TEST_ALL"  # environment: set by `make test-all`


def few(cases: Iterable[Any], every: int = 3) -> list[Any]:
    """The cases of a parametrised test, all but each ``every``-th of them slow."""
    return [case if i % every == 0 else _slow(case) for i, case in enumerate(cases)]


def _slow(case: Any) -> Any:
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)


def some(cases: Iterable[Any], first: int = 0, every: int = 3) -> list[Any]:
    """What one test goes through: each ``every``-th case from ``first`` on, where all are tried all of them."""
    values = list(cases)
    return values if os.environ.get(ALL) else values[first % every :: every]


def examples(number: int) -> int:
    """How many times a property is tried."""
    return number if os.environ.get(ALL) else number // 3
