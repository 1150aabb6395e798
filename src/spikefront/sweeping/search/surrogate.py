"""A Gaussian process with a length for each feature, about a straight line: what is between known trials."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dtrtri

Array = NDArray[np.float64]

NOISES = (0.003, 0.03, 0.2)  # shares of the variance
STEPS = (0.1, 4.0)  # by which a feature's weight is tried smaller and larger
ROUNDS = 2
RIDGE = 0.1  # of the line, in standardised features


class Process:
    """Of one output; Matérn 5/2 (Rasmussen and Williams 2006, 4.2.1).

    Weights of features, noise and variance are those of the best leave-one-out predictive density (5.4.2), found
    feature by feature.

    Args:
        rows: features ``(n, features)``.
        targets: ``(n,)``.
        chosen: the rows by which weights are chosen.
    """

    def __init__(self, rows: Array, targets: Array, chosen: NDArray[np.int_] | None = None) -> None:
        self._middle, self._spread = rows.mean(0), np.maximum(rows.std(0), 1e-6)
        here = self._standard(rows)
        level, scale = targets.mean(), max(float(targets.std()), 1e-6)
        self._level, self._scale = level, scale
        design = self._design(here)
        penalty = RIDGE * np.eye(design.shape[1])
        penalty[0, 0] = 1e-9
        known = (targets - level) / scale
        self._line = np.linalg.solve(design.T @ design + penalty, design.T @ known)
        left = known - design @ self._line
        picked = np.arange(len(rows)) if chosen is None else chosen
        self._weights, self._noise = _fitted(here[picked], left[picked])
        self._here = here
        kernel = _kernel(here, here, self._weights)
        inverse = np.linalg.inv(kernel + self._noise * np.eye(len(here)))
        self._inverse, self._pull = inverse, inverse @ left
        diagonal = np.diag(inverse)
        self._width = max(1e-9, float(np.mean(self._pull**2 / diagonal)))

    def __call__(self, rows: Array) -> tuple[Array, Array]:
        """Mean and standard deviation ``(n,)`` of what is there without noise."""
        there = self._standard(rows)
        cross = _kernel(there, self._here, self._weights)
        mean = self._design(there) @ self._line + cross @ self._pull
        variance = np.maximum(1 - np.einsum("ij,ij->i", cross @ self._inverse, cross), 1e-6)
        return self._level + self._scale * mean, self._scale * np.sqrt(self._width * variance)

    def _standard(self, rows: Array) -> Array:
        return np.asarray((rows - self._middle) / self._spread)

    @staticmethod
    def _design(rows: Array) -> Array:
        return np.hstack([np.ones((len(rows), 1)), rows])


def _kernel(a: Array, b: Array, weights: Array) -> Array:
    scaled_a, scaled_b = a * np.sqrt(weights), b * np.sqrt(weights)
    squares = (scaled_a**2).sum(1)[:, None] + (scaled_b**2).sum(1) - 2 * scaled_a @ scaled_b.T
    return _matern(np.maximum(squares, 0))


def _matern(squares: Array) -> Array:
    distance = np.sqrt(5 * squares)
    return np.asarray((1 + distance + distance**2 / 3) * np.exp(-distance))


def _fitted(rows: Array, targets: Array) -> tuple[Array, float]:
    lower = np.tril_indices(len(rows), -1)
    apart = (rows[lower[0]] - rows[lower[1]]) ** 2
    features = rows.shape[1]

    def density(squares: Array, noise: float) -> float:
        kernel = np.zeros((len(rows), len(rows)), order="F")
        kernel[lower] = _matern(squares)
        np.fill_diagonal(kernel, 1 + noise)
        factor, failed = dpotrf(kernel, lower=1, overwrite_a=1)
        if failed:
            return -math.inf
        half, _ = dtrtri(factor, lower=1, overwrite_c=1)
        diagonal = (half**2).sum(0)  # of the inverse
        width = max(1e-9, float(np.mean(((half @ targets) @ half) ** 2 / diagonal)))
        return -0.5 * float(np.log(width / diagonal).sum())

    even = apart.mean(1)
    best, weight, noise = max((density(w * even, n), w, n) for w in (0.1, 0.5, 2.0) for n in NOISES)
    weights, squares = np.full(features, weight / features), weight * even
    for _ in range(ROUNDS):
        for i in range(features):
            for step in STEPS:
                there = np.maximum(squares + (step - 1) * weights[i] * apart[:, i], 0)
                if (found := density(there, noise)) > best:
                    best, squares = found, there
                    weights[i] *= step
                    break
        for n in NOISES:
            if n != noise and (found := density(squares, n)) > best:
                best, noise = found, n
    return weights, noise
