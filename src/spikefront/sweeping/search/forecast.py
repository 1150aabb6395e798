"""Where a training will end: a Gaussian process over a study's trials, from parameters and the first epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.linalg.lapack import dpotrf, dtrtri

from spikefront.analysis.schema import EpochPoint

LENGTHS, NOISES = (1.0, 2.0, 4.0), (0.01, 0.05, 0.2)  # in standard deviations, and shares of the variance
ROWS = 200  # of the training data, those nearest to what is asked: the cost doesn't grow with the study

Curve = Mapping[int, EpochPoint]
"""A training's points by epoch."""


def scale(points: Sequence[Sequence[float]]) -> np.ndarray:
    """Pairs of accuracy and joules as ``(points, 2)``: log-odds and log, where gains are even and noise is alike."""
    accuracy, energy = np.asarray(points, dtype=float).T
    kept = np.clip(accuracy, 0.002, 0.998)
    return np.stack([np.log(kept / (1 - kept)), np.log(np.maximum(energy, 1e-30))], axis=1)


def unscale(points: np.ndarray) -> list[tuple[float, float]]:
    """What ``scale`` was made of."""
    return [(1 / (1 + math.exp(-a)), math.exp(e)) for a, e in points.tolist()]


def encode(params: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Parameters as numbers ``(trials, columns)``: positive ones by their logarithm, all from -1 to 1, others one-hot.

    A conditional parameter that a trial hasn't is 0.
    """
    columns = []
    for key in dict.fromkeys(k for p in params for k in p):
        values = [p.get(key) for p in params]
        given = [v for v in values if v is not None]
        if all(issubclass(kind, int | float) for kind in set(map(type, given))):
            numbers = np.array([math.nan if v is None else float(v) for v in values])
            numbers = np.log(numbers) if np.nanmin(numbers) > 0 else numbers
            low, high = np.nanmin(numbers), np.nanmax(numbers)
            columns.append(np.nan_to_num((2 * numbers - low - high) / ((high - low) or 1.0)))
        else:
            columns += [np.array([float(v == choice) for v in values]) for choice in dict.fromkeys(map(str, given))]
    return np.stack(columns, axis=1) if columns else np.zeros((len(params), 0))


@dataclass(frozen=True)
class Trace:
    """A training after an epoch, as ``(timesteps, 2)`` on the scales of ``scale``: then, and after its first."""

    now: np.ndarray
    first: np.ndarray

    @cached_property
    def rows(self) -> np.ndarray:
        """A row for each timestep t: t, its accuracy and energy, and how that changed."""
        steps = len(self.now)
        t = np.arange(1, steps + 1)
        rows = [2 * t / steps - 1, np.log(t), self.now[:, 0], np.repeat(self.now[-1:, 0], steps)]
        return np.stack([*rows, self.now[:, 1] - np.log(t), self.now[:, 1] - self.first[:, 1]], axis=1)


def trace(curve: Curve, epoch: int) -> Trace:
    return Trace(scale(curve[epoch]["anytime"]), scale(curve[min(curve)]["anytime"]))


def features(encoded: np.ndarray, traces: Sequence[Trace]) -> np.ndarray:
    """The rows of each trial's trace, with its parameters ``encoded`` ``(trials, columns)``."""
    return np.hstack([np.vstack([t.rows for t in traces]), np.repeat(encoded, [len(t.now) for t in traces], axis=0)])


def forecast(known: np.ndarray, gained: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation ``(asked, outputs)`` of what is gained yet.

    A Gaussian process an output (squared exponential, one length for all standardised features). Length, noise and
    variance are those of the best leave-one-out predictive density (Rasmussen and Williams 2006, 5.4.2), so the
    deviations are as wide as the errors made on the known trials, which the marginal likelihood's are not with few.

    Args:
        known, asked: features ``(rows, columns)``.
        gained: ``(known rows, outputs)``.
    """
    middle, spread = known.mean(0), np.maximum(known.std(0), 0.05)
    here, there = (known - middle) / spread, (asked - middle) / spread
    far = _distances(there, here)
    if len(here) > ROWS:
        near = np.sort(np.argpartition(far.min(0), ROWS)[:ROWS])
        here, gained, far = here[near], gained[near], far[:, near]
    mean, deviation = gained.mean(0), np.maximum(gained.std(0), 1e-3)
    targets, apart = (gained - mean) / deviation, _distances(here, here)
    best = [(-math.inf, mean, mean)] * gained.shape[1]
    for length in LENGTHS:
        kernel, cross = np.exp(-apart / (2 * length**2)), np.exp(-far / (2 * length**2))
        for noise in NOISES:
            root = _inverse_root(kernel + noise * np.eye(len(here)))
            weights, left = root.T @ (root @ targets), 1 / (root**2).sum(0)  # by the inverse's diagonal
            variance = 1 + noise - ((cross @ root.T) ** 2).sum(1)
            for j in range(gained.shape[1]):
                width = max(1e-9, np.mean((weights[:, j] * left) ** 2 / left))  # errors left out have unit variance
                density = -0.5 * float(np.log(left * width).sum())
                if density > best[j][0]:
                    error = deviation[j] * np.sqrt(np.maximum(width * variance, 1e-9))
                    best[j] = (density, mean[j] + deviation[j] * cross @ weights[:, j], error)
    return np.stack([m for _, m, _ in best], axis=1), np.stack([e for _, _, e in best], axis=1)


def _inverse_root(covariance: np.ndarray) -> np.ndarray:
    """Such that its transpose times itself is the inverse."""
    factor, failed = dpotrf(covariance.T, lower=True)
    assert not failed, "noise on the diagonal keeps a covariance positive definite"
    return np.asarray(dtrtri(factor, lower=True)[0])


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean squared difference of each pair of rows."""
    return np.asarray(((a[:, None] - b[None]) ** 2).mean(-1))
