"""What Optuna keeps to itself and this package needs, in one place.

``tests/sweeping/search/test_optuna_internals.py`` says what has changed and what then goes wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from optuna import Trial
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.samplers._lazy_random_state import LazyRandomState
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState


def id_of(trial: Trial | FrozenTrial) -> int:
    """By which a storage knows the trial; not its number in the study."""
    return trial._trial_id


def as_asked(trial: Trial) -> FrozenTrial:
    """A trial as the storage had it when it was asked for, of which it need not be asked again."""
    return trial._cached_frozen_trial


def contains(distribution: BaseDistribution, value: float) -> bool:
    """Whether a parameter of this distribution, not a categorical one, can have the value."""
    return distribution._contains(value)


def take_for_good(sampler: TPESampler, count: Callable[[int], int]) -> None:
    """Have TPE take so many for good ones of as many trials as it sees."""
    sampler._gamma = count


def random_states(part: Any) -> Iterator[np.random.RandomState]:
    """Of a sampler, and of the samplers and operators of Optuna's that it is made of, in the order they are held."""
    for value in vars(part).values():
        if isinstance(value, LazyRandomState):
            yield value.rng
        elif isinstance(value, np.random.RandomState):
            yield value
        elif type(value).__module__.startswith("optuna.samplers") and hasattr(value, "__dict__"):
            yield from random_states(value)


class OneObjective:
    """A study as Optuna's pruners want it: with one direction."""

    def __init__(self, study: Study, direction: str) -> None:
        self._study = study
        self.direction = StudyDirection.MAXIMIZE if direction == "maximize" else StudyDirection.MINIMIZE
        self._storage = _OneDirection(study._storage, self.direction)  # of which Hyperband makes studies of its own

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)


class _OneDirection:
    def __init__(self, storage: BaseStorage, direction: StudyDirection) -> None:
        self._whole, self._direction = storage, direction

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return [self._direction]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)


class StudyView:
    """A study as a sampler is to see it: some of its trials replaced, others left out.

    Args:
        shown: by number, what to see in a trial's place.
        chosen: the trials that are seen; None for all.
    """

    def __init__(
        self, study: Study, shown: Mapping[int, FrozenTrial], chosen: Sequence[FrozenTrial] | None = None
    ) -> None:
        self._study, self._shown, self._chosen = study, shown, chosen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        return self._get_trials(deepcopy, states)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        """By which Optuna's own samplers read a study."""
        every = self._study._get_trials(deepcopy, None, use_cache) if self._chosen is None else self._chosen
        found = (self._shown.get(t.number, t) for t in every)
        return [t for t in found if states is None or t.state in states]
