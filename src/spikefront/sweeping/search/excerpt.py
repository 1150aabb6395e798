"""What of a study with very many trials a sampler is shown that fits a model to all it sees, turn by turn."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from spikefront.analysis import pareto
from spikefront.analysis.front import minimised
from spikefront.analysis.schema import Directions

MOST = 1000  # trials that are shown
BEST = 0.1  # of those, the best: as many as TPE takes for good ones
STEP = 2654435769  # 2³² by the golden ratio: the multiples of it modulo 2³² are spread evenly, wherever they end


class Excerpt:
    """The best of a study's trials by their fronts, and of all of them an even sample, the same from turn to turn.

    What a sampler takes from them, which regions are good and how often each region was tried, is then what all trials
    would say, and its cost doesn't grow with the study.

    Args:
        most: trials that are shown; a study with fewer is shown whole.
    """

    def __init__(self, objectives: Directions, most: int = MOST) -> None:
        self._objectives, self._most, self._count = objectives, most, math.ceil(BEST * most)
        self._looked: set[int] = set()  # numbers of complete trials
        self._best: dict[int, list[float]] = {}  # values, to be minimised, of the first fronts' trials

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
        numbers = np.array([t.number for t in trials], dtype=np.uint64)
        best = np.array([*_even(sorted(early), self._count), *_even(list(self._best), self._count)], dtype=np.uint64)
        places = numbers * np.uint64(STEP) % np.uint64(2**32)
        places[np.isin(numbers, best)] = 0  # before the others
        return [trials[i] for i in np.sort(np.argpartition(places, self._most)[: self._most])]

    def _look(self, new: Sequence[FrozenTrial], bound: Mapping[int, FrozenTrial]) -> None:
        """Take in trials: whoever is on one of the first fronts was there before, or is new."""
        self._looked.update(t.number for t in new)
        for trial in new:
            if not any(excess > 0 for excess in bound.get(trial.number, trial).constraints.values()):
                named = dict(zip(self._objectives, trial.values, strict=True))
                self._best[trial.number] = minimised(named, self._objectives)
        numbers, left = np.array(list(self._best)), np.array(list(self._best.values()))
        found: dict[int, list[float]] = {}
        while new and len(found) < self._count and len(numbers):
            front = pareto.non_dominated(left)
            order = np.argsort(left[front, 0])
            found |= zip(numbers[front][order].tolist(), left[front][order].tolist(), strict=True)
            numbers, left = numbers[~front], left[~front]
        self._best = found if new else self._best


def _even(members: Sequence[int], count: int) -> list[int]:
    """As many of these, evenly spread."""
    if len(members) <= count:
        return list(members)
    return [members[i] for i in np.linspace(0, len(members) - 1, count).round().astype(int)]
