"""Where a training will end: a Gaussian process over a study's trials, from parameters and the first epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

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
        if all(isinstance(v, int | float) for v in given):
            numbers = np.array([math.nan if v is None else float(v) for v in values])
            numbers = np.log(numbers) if np.nanmin(numbers) > 0 else numbers
            low, high = np.nanmin(numbers), np.nanmax(numbers)
            columns.append(np.nan_to_num((2 * numbers - low - high) / ((high - low) or 1.0)))
        else:
            columns += [np.array([float(v == choice) for v in values]) for choice in dict.fromkeys(map(str, given))]
    return np.stack(columns, axis=1) if columns else np.zeros((len(params), 0))


def features(encoded: np.ndarray, curves: Sequence[Curve], epoch: int) -> np.ndarray:
    """A row for each timestep t of each trial: t, its accuracy and energy after the epoch, how that changed, and the
    parameters ``encoded`` ``(trials, columns)``."""
    now, first = (scale([p for c in curves for p in c[at(c)]["anytime"]]) for at in (lambda _: epoch, min))
    steps = np.array([len(c[epoch]["anytime"]) for c in curves])
    ends = np.cumsum(steps)
    t, whole = np.arange(1, len(now) + 1) - np.repeat(ends - steps, steps), np.repeat(steps, steps)
    rows = [2 * t / whole - 1, np.log(t), now[:, 0], np.repeat(now[ends - 1, 0], steps)]
    rows += [now[:, 1] - np.log(t), now[:, 1] - first[:, 1]]
    return np.hstack([np.stack(rows, axis=1), np.repeat(encoded, steps, axis=0)])


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
            inverse = np.linalg.inv(kernel + noise * np.eye(len(here)))
            weights, left = inverse @ targets, 1 / np.diag(inverse)
            variance = 1 + noise - np.einsum("ij,jk,ik->i", cross, inverse, cross)
            for j in range(gained.shape[1]):
                width = max(1e-9, np.mean((weights[:, j] * left) ** 2 / left))  # errors left out have unit variance
                density = -0.5 * float(np.log(left * width).sum())
                if density > best[j][0]:
                    error = deviation[j] * np.sqrt(np.maximum(width * variance, 1e-9))
                    best[j] = (density, mean[j] + deviation[j] * cross @ weights[:, j], error)
    return np.stack([m for _, m, _ in best], axis=1), np.stack([e for _, _, e in best], axis=1)


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean squared difference of each pair of rows."""
    return np.asarray(((a[:, None] - b[None]) ** 2).mean(-1))
