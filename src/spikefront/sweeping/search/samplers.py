"""Optuna samplers under ask and tell."""

from __future__ import annotations

import contextlib
import functools
import math
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, BruteForceSampler, CmaEsSampler, QMCSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from spikefront.errors import UserError
from spikefront.sweeping.search import finite
from spikefront.sweeping.search.optuna_internals import random_states
from spikefront.sweeping.search.space import Point, Space


class Exhaustive(BruteForceSampler):
    """Every combination of choices and steps once, conditional parameters too.

    Optuna's own asks the loop of ``Study.optimize`` to stop when all is done; here the budget is the number of
    combinations, and there is no such loop.
    """

    def after_trial(self, *args: Any, **kwargs: Any) -> None:
        with contextlib.suppress(RuntimeError):
            super().after_trial(*args, **kwargs)


Taken = Callable[[Study, FrozenTrial], Iterable[Point]]
"""The points of a study that trials other than this one try, tried or shall try."""


class Around(BaseSampler):
    """A sampler that does what another does, seeing the study as ``_view`` gives it."""

    def __init__(self, sampler: BaseSampler) -> None:
        self.sampler = sampler

    def __str__(self) -> str:
        return str(self.sampler)

    def reseed_rng(self) -> None:
        self.sampler.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.sampler.infer_relative_search_space(self._view(study), trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.sampler.sample_relative(self._view(study), trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.sampler.sample_independent(self._view(study), trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self.sampler.before_trial(self._view(study), trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        self.sampler.after_trial(self._view(study), trial, state, values)

    def _view(self, study: Study) -> Any:
        return study


def innermost(sampler: BaseSampler) -> BaseSampler:
    """The sampler that the others are around."""
    return innermost(sampler.sampler) if isinstance(sampler, Around) else sampler


class Distinct(Around):
    """Any sampler, led to a point that no other trial has where it would repeat one: training is deterministic.

    Where nothing new is left behind a proposed value, the parameter's next value behind which there is takes its place;
    of a continuous one, some other value (a genetic sampler proposes a point again that it didn't change).

    Args:
        taken: see ``Taken``; of a space without an end it isn't asked.
    """

    def __init__(self, sampler: BaseSampler, space: Space, taken: Taken) -> None:
        super().__init__(sampler)
        self.space, self.taken = space, taken
        self._there: Callable[[], set[Point]] = set
        self._draw = random.Random()

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._there = functools.cache(lambda: set(self.taken(study, trial)))  # once a trial, if at all
        self._draw = random.Random(trial.number)
        super().before_trial(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        proposed = super().sample_relative(study, trial, search_space)
        found: dict[str, Any] = {}
        for key in self.space.parameters:
            if key in proposed:
                found[key] = self._new(key, proposed[key], found)
        return {**proposed, **found}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        value = super().sample_independent(study, trial, param_name, param_distribution)
        return self._new(param_name, value, trial.params)

    def _new(self, key: str, value: Any, before: Mapping[str, Any]) -> Any:
        """The value, or the next that leads to something new after those before it; the value if none does."""
        if key not in self.space.parameters or self._leads(before, key, value):
            return value
        if self.space.parameters[key].size == math.inf:
            return finite.at(self.space.parameters[key].distribution, self._draw.random())
        every = self.space.values(key)
        places = [self.space.place(key, v) for v in every]
        start = places.index(self.space.place(key, value))
        following = every[start + 1 :] + every[:start]
        return next((v for v in following if self._leads(before, key, v)), value)

    def _leads(self, before: Mapping[str, Any], key: str, value: Any) -> bool:
        """Whether a point with these values is left that is not taken."""
        given = {**before, key: value}
        size = self.space.size(given)
        if size == math.inf:
            return True
        if (whole := self.space.point(given)) is not None:
            return whole not in self._there()
        wanted = {k: self.space.place(k, v) for k, v in given.items() if k in self.space.parameters}
        there = {p for p in self._there() if all(wanted.get(k, place) == place for k, place in p)}
        return len(there) < size


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
