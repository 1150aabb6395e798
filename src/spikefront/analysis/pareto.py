"""Pareto arithmetic on plain points, by moocore. Every function minimises; negate what is to be maximised.

What moocore leaves to us: that of equal points all stay (two trials with one result are both on the front), that a
figure which is not a number is on no front, and no points at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.float64]


def non_dominated(points: ArrayLike) -> NDArray[np.bool_]:
    """Mask ``(n,)`` of the points ``(n, objectives)`` that no other point dominates; of equal points all stay."""
    known = np.atleast_2d(np.asarray(points, dtype=float))
    if not known.size:
        return np.zeros(0, dtype=bool)
    keep: NDArray[np.bool_] = ~np.isnan(known).any(axis=1)
    if keep.any():
        keep[keep] = moocore.is_nondominated(known[keep], keep_weakly=True)
    return keep


def hypervolume(points: ArrayLike, reference: Sequence[float]) -> float:
    """Volume between ``points`` ``(n, objectives)`` and the ``reference`` point; points beyond it count nothing."""
    known: Points = np.asarray(points, dtype=float).reshape(-1, len(reference))
    known = known[np.all(known < reference, axis=1)]
    return float(moocore.hypervolume(known, ref=reference)) if len(known) else 0.0


def attained(fronts: Sequence[ArrayLike], share: float) -> list[tuple[float, float]]:
    """The surface that at least this share of several fronts ``(n, 2)``, none of them empty, attain (0: at least one):
    its corners ``(x, y)`` by x."""
    known = np.vstack([np.asarray(f, dtype=float) for f in fronts])
    owners = np.repeat(np.arange(len(fronts)), [len(f) for f in fronts])  # type: ignore[arg-type]
    corners = moocore.eaf(known, owners, percentiles=[100 * share])[:, :2]
    return sorted((float(x), float(y)) for x, y in corners)


def contributions(front: ArrayLike) -> list[float]:
    """For each point of a front ``(n, objectives)`` the hypervolume that only it covers, axes scaled to 0-1.

    The reference lies a tenth beyond the worst, so that the ends count as well. Of equal points none covers anything
    alone.
    """
    points: Points = np.atleast_2d(np.asarray(front, dtype=float))
    low, high = points.min(0), points.max(0)
    scaled = (points - low) / np.where(high > low, high - low, 1.0)
    if points.shape[1] == 1:  # which moocore refuses: the best is the whole front
        return [1.1 if len(points) == 1 else 0.0] * len(points)
    return [float(c) for c in moocore.hv_contributions(scaled, ref=1.1)]
