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
        self._reached = self._best(accuracy[kept][None], energy[kept][None])[0]

    def of(self, accuracy: Array, energy: Array) -> Array:
        """Of sets ``(sets, points)``, one number each."""
        best = self._best(accuracy, energy)
        return np.asarray(np.maximum(best - self._reached, 0).mean(-1))

    def _best(self, accuracy: Array, energy: Array) -> Array:
        """The best accuracy that no more than each cell's energy reaches, ``(sets, cells)``."""
        best = np.zeros((len(accuracy), len(self._cells)))
        for a, place in zip(accuracy.T, placed(energy, self.worst).T, strict=True):
            np.maximum(best, np.where(self._cells >= place[:, None], a[:, None], 0.0), out=best)
        return best
