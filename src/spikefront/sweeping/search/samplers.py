"""Optuna samplers under ask and tell."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from optuna.samplers import BaseSampler, BruteForceSampler
from optuna.samplers._lazy_random_state import LazyRandomState
from optuna.study import Study
from optuna.trial import FrozenTrial


class Exhaustive(BruteForceSampler):
    """Every combination of choices and steps once, conditional parameters too.

    Optuna's own asks the loop of ``Study.optimize`` to stop when all is done; here the budget is the number of
    combinations, and there is no such loop.
    """

    def after_trial(self, *args: Any, **kwargs: Any) -> None:
        with contextlib.suppress(RuntimeError):
            super().after_trial(*args, **kwargs)


def seeded(sampler: BaseSampler, seed: int | None) -> BaseSampler:
    """Have a sampler draw trial n's proposal from ``seed`` and n, whichever worker asks and whatever it asked before.

    With a seed alone all workers would draw the same points, and so would one that goes on with a study.
    """
    if seed is None:
        return sampler
    before = sampler.before_trial

    def before_trial(study: Study, trial: FrozenTrial) -> None:
        for i, state in enumerate(_random_states(sampler)):
            state.seed(np.random.SeedSequence((seed, trial.number, i)).generate_state(4))
        before(study, trial)

    sampler.before_trial = before_trial  # type: ignore[method-assign]
    return sampler


def _random_states(part: Any) -> Iterator[np.random.RandomState]:
    """Of a sampler and of the samplers and operators that it is made of."""
    for value in vars(part).values():
        if isinstance(value, LazyRandomState):
            yield value.rng
        elif type(value).__module__.startswith("optuna.samplers") and hasattr(value, "__dict__"):
            yield from _random_states(value)
