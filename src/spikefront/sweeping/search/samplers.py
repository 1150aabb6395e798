"""Optuna samplers under ask and tell."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution
from optuna.samplers import BaseSampler, BruteForceSampler, CmaEsSampler, QMCSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from spikefront.errors import UserError
from spikefront.sweeping.search.optuna_internals import random_states
from spikefront.sweeping.search.space import Space


class Exhaustive(BruteForceSampler):
    """Every combination of choices and steps once, conditional parameters too.

    Optuna's own asks the loop of ``Study.optimize`` to stop when all is done; here the budget is the number of
    combinations, and there is no such loop.
    """

    def after_trial(self, *args: Any, **kwargs: Any) -> None:
        with contextlib.suppress(RuntimeError):
            super().after_trial(*args, **kwargs)


def note(sampler: BaseSampler, name: str, space: Space) -> str | None:
    """A line about parameters that a sampler leaves to chance: those that aren't numbers, or not in every trial."""
    if not isinstance(sampler, CmaEsSampler | QMCSampler):
        return None
    random = [p.key for p in space if p.when or (isinstance(p.distribution, CategoricalDistribution) and p.size > 1)]
    if not random:
        return None
    return (
        f"search/sampler={name} draws {', '.join(random)} at random: it searches numbers that every trial has, written"
        " range(…) or interval(…); search/sampler=tpe searches choices and conditional parameters too"
    )


def seeded(sampler: BaseSampler, seed: int | None) -> BaseSampler:
    """Have a sampler draw trial n's proposal from ``seed`` and n, whichever worker asks and whatever it asked before.

    With a seed alone all workers would draw the same points, and so would one that goes on with a study.

    Raises:
        UserError: it keeps no random state that a seed could be given to.
    """
    if seed is None:
        return sampler
    if not any(True for _ in random_states(sampler)):
        raise UserError(
            f"search.sampler.seed={seed}: {type(sampler).__name__} keeps no random state that could be seeded, so two"
            " searches would differ; set search.sampler.seed=null or choose another search/sampler"
        )
    before = sampler.before_trial

    def before_trial(study: Study, trial: FrozenTrial) -> None:
        for i, state in enumerate(random_states(sampler)):
            state.seed(np.random.SeedSequence((seed, trial.number, i)).generate_state(4))
        before(study, trial)

    sampler.before_trial = before_trial  # type: ignore[method-assign]
    return sampler
