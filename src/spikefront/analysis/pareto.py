"""Pareto arithmetic on plain points. Every function minimises; negate what is to be maximised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def non_dominated(points: ArrayLike) -> np.ndarray:
    """Mask ``(n,)`` of the points ``(n, objectives)`` that no other point dominates; of equal points all stay."""
    points = np.atleast_2d(np.asarray(points, dtype=float))
    if points.size == 0:
        return np.zeros(len(points), dtype=bool)
    order = np.lexsort(points.T[::-1])
    keep = np.zeros(len(points), dtype=bool)
    front = np.empty((0, points.shape[1]))
    for i in order:  # whoever dominates a point comes before it in lexicographic order
        p = points[i]
        if not np.any(np.all(front <= p, axis=1) & np.any(front < p, axis=1)):
            keep[i] = True
            front = np.vstack([front, p])
    return keep


def hypervolume(points: ArrayLike, reference: Sequence[float]) -> float:
    """Volume between ``points`` ``(n, objectives)`` and the ``reference`` point; points beyond it count nothing.

    Exact, by slicing along the last objective (Zitzler and Thiele, PPSN 1998); meant for fronts of hundreds of points.
    """
    reference_ = np.asarray(reference, dtype=float)
    points = np.asarray(points, dtype=float).reshape(-1, len(reference_))
    points = points[np.all(points < reference_, axis=1)]
    if not len(points):
        return 0.0
    return _volume(points[non_dominated(points)], reference_)


def _volume(points: np.ndarray, reference: np.ndarray) -> float:
    if len(reference) == 1:
        return float(reference[0] - points.min())
    points = points[np.argsort(points[:, -1], kind="stable")]
    edges = np.append(points[:, -1], reference[-1])
    if len(reference) == 2:
        best = np.minimum.accumulate(points[:, 0])
        return float(np.sum((reference[0] - best) * np.diff(edges)))
    total = 0.0
    for i in range(len(points)):
        if (depth := edges[i + 1] - edges[i]) > 0:
            below = points[: i + 1, :-1]
            total += depth * _volume(below[non_dominated(below)], reference[:-1])
    return total


def contributions(front: ArrayLike) -> list[float]:
    """For each point of a front ``(n, objectives)`` the hypervolume that only it covers, axes scaled to 0-1.

    The reference lies a tenth beyond the worst, so that the ends count as well.
    """
    points = np.atleast_2d(np.asarray(front, dtype=float))
    low, high = points.min(0), points.max(0)
    scaled = (points - low) / np.where(high > low, high - low, 1.0)
    reference = [1.1] * points.shape[1]
    total = hypervolume(scaled, reference)
    return [total - hypervolume(np.delete(scaled, i, axis=0), reference) for i in range(len(scaled))]
