"""Optuna samplers under ask and tell."""

from __future__ import annotations

import contextlib
from typing import Any

from optuna.samplers import BruteForceSampler


class Exhaustive(BruteForceSampler):
    """Every combination of choices and steps once, conditional parameters too.

    Optuna's own asks the loop of ``Study.optimize`` to stop when all is done; here the budget is the number of
    combinations, and there is no such loop.
    """

    def after_trial(self, *args: Any, **kwargs: Any) -> None:
        with contextlib.suppress(RuntimeError):
            super().after_trial(*args, **kwargs)
