"""What of a study with very many trials a sampler is shown that fits a model to all it sees, turn by turn."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from spikefront.analysis import pareto
from spikefront.analysis.front import minimised
from spikefront.analysis.schema import Directions
from spikefront.errors import UserError

FEWEST = 20
GOOD = 0.1  # of a study's trials, what TPE takes for good ones with several objectives; of a single one it takes 25
STEP = 2654435769  # 2³² by the golden ratio: the multiples of it modulo 2³² are spread evenly, wherever they end


class Excerpt:
    """The best of a study's trials by their fronts, and of all of them an even sample, the same from turn to turn.

    The sampler takes for good what it would of all trials, if that isn't more than half of what it is shown; how often
    each region was tried the sample says. What that costs doesn't grow with the study.

    Args:
        most: trials that are shown; a study with fewer is shown whole.

    Raises:
        UserError: ``most`` is no number of trials, or too small a one.
    """

    def __init__(self, objectives: Directions, most: int) -> None:
        if not isinstance(most, int) or most < FEWEST:
            raise UserError(f"search.excerpt is {most}: use a number of trials, {FEWEST} or more, or null for all")
        self._objectives, self._most = objectives, most
        self._looked: set[int] = set()  # numbers of complete trials
        self._values: dict[int, list[float]] = {}  # of the first fronts' trials, to be minimised
        self._fronts: list[list[int]] = []  # their numbers, each front's along it
        self._good: int | None = None

    def good(self, seen: int) -> int:
        """How many of the trials that it sees the sampler takes for good ones."""
        return math.ceil(GOOD * seen) if self._good is None else min(self._good, seen)

    def choose(
        self, trials: Sequence[FrozenTrial], bound: Mapping[int, FrozenTrial], early: Collection[int]
    ) -> list[FrozenTrial] | None:
        """The trials that are shown; None for all.

        Args:
            bound: by number, what stands for a complete trial where it is asked for its constraints.
            early: the numbers of trials that are on the front by their early points.
        """
        if len(trials) <= self._most:
            return None
        self._look([t for t in trials if t.state == TrialState.COMPLETE and t.number not in self._looked], bound)
        self._good = min(math.ceil(GOOD * len(trials)), self._most // 2)
        numbers = np.array([t.number for t in trials], dtype=np.uint64)
        best = [*_even(sorted(early), self._good)]
        for front in self._fronts:
            best += _even(front, self._good - len(best))
        places = numbers * np.uint64(STEP) % np.uint64(2**32)
        places[np.isin(numbers, np.array(best, dtype=np.uint64))] = 0  # before the others
        return [trials[i] for i in np.sort(np.argpartition(places, self._most)[: self._most])]

    def _look(self, new: Sequence[FrozenTrial], bound: Mapping[int, FrozenTrial]) -> None:
        """Take in trials: whoever is on one of the first fronts was there before, or is new."""
        self._looked.update(t.number for t in new)
        for trial in new:
            if not any(excess > 0 for excess in bound.get(trial.number, trial).constraints.values()):
                named = dict(zip(self._objectives, trial.values, strict=True))
                self._values[trial.number] = minimised(named, self._objectives)
        if not new or not self._values:
            return
        numbers, left = np.array(list(self._values)), np.array(list(self._values.values()))
        self._fronts, self._values = [], {}
        while len(self._values) < self._most // 2 and len(numbers):
            front = pareto.non_dominated(left)
            order = np.argsort(left[front, 0])
            self._fronts.append(numbers[front][order].tolist())
            self._values |= zip(self._fronts[-1], left[front][order].tolist(), strict=True)
            numbers, left = numbers[~front], left[~front]


def _even(members: Sequence[int], count: int) -> list[int]:
    """As many of these, evenly spread."""
    if len(members) <= count:
        return list(members)
    return [members[i] for i in np.linspace(0, len(members) - 1, count).round().astype(int)]
