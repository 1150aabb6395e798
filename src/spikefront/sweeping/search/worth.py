"""What points of accuracy and energy are worth to a front, where energies span decades."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spikefront.analysis.front import DECADES, in_decades
from spikefront.analysis.pareto import hypervolume, non_dominated

Array = NDArray[np.float64]


def placed(energy: ArrayLike, worst: float) -> Array:
    """Where energies lie between nothing (0) and the worst (1).

    It is the mean of an energy's share of the worst and of where its logarithm lies in the decades below that. The
    hypervolume over it is therefore the mean of that in linear energy, of which a front's cheap half has next to
    nothing, and of that in decades, of which its dear half has.
    """
    share = np.asarray(energy, dtype=float) / worst
    decades = 1 + np.log10(np.maximum(share, 10.0**-DECADES)) / DECADES
    return np.asarray((share + decades) / 2)


def volumes(points: ArrayLike, worst: float) -> tuple[float, float]:
    """The hypervolumes of pairs of accuracy and joules ``(n, 2)``, in linear energy and in decades: 0-1, 1 if a network
    without energy is always right."""
    minimised = np.asarray(points, dtype=float).reshape(-1, 2) * [-1, 1 / worst]
    return hypervolume(minimised, (0.0, 1.0)), hypervolume(*in_decades(minimised, (0.0, 1.0), [1])) / DECADES


class Gains:
    """What sets of points would add to a front's volume, thousands of sets at once.

    Args:
        front: pairs of accuracy and joules ``(n, 2)``, any points that are reached.
        worst: see ``placed``.
        cells: in which the energy is cut: a gain is right to a few of them times an accuracy.
    """

    def __init__(self, front: ArrayLike, worst: float, cells: int = 200) -> None:
        self.worst, self._cells = worst, (np.arange(cells) + 0.5) / cells
        accuracy, energy = np.asarray(front, dtype=float).reshape(-1, 2).T
        kept = non_dominated(np.stack([-accuracy, energy], axis=1))
        there = self._cells >= placed(energy[kept], worst)[:, None]
        self._reached = np.where(there, accuracy[kept][:, None], 0.0).max(0, initial=0.0)  # with each cell's energy
        self._below = np.concatenate([[0.0], self._reached.cumsum()])

    def of(self, accuracy: Array, energy: Array) -> Array:
        """Of sets ``(…, points)``, one number each."""
        first = np.searchsorted(self._cells, placed(energy, self.worst))
        order = first.argsort(-1)
        first = np.take_along_axis(first, order, -1)
        best = np.maximum.accumulate(np.take_along_axis(accuracy, order, -1), -1)
        # Each best is had from its point's first cell to before the next point's
        last = np.concatenate([first[..., 1:], np.full_like(first[..., :1], len(self._cells))], axis=-1)
        ahead = np.clip(np.searchsorted(self._reached, best), first, last)  # what is reached never falls
        gained = best * (ahead - first) - (self._below[ahead] - self._below[first])
        return np.asarray(gained.sum(-1) / len(self._cells))
