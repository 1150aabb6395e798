"""Pareto arithmetic against brute force and Optuna's own."""

import numpy as np
import pytest
from optuna._hypervolume import compute_hypervolume

from spikefront.sweeping.pareto import hypervolume, non_dominated


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_non_dominated_is_the_definition(dimensions):
    points = np.random.default_rng(dimensions).integers(0, 6, (80, dimensions))
    dominated = [any((q <= p).all() and (q < p).any() for q in points) for p in points]
    assert non_dominated(points).tolist() == [not d for d in dominated]


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_hypervolume_is_optunas(dimensions):
    points = np.random.default_rng(dimensions).random((25, dimensions))
    reference = [0.9] * dimensions
    inside = points[(points < 0.9).all(1)]
    assert hypervolume(points, reference) == pytest.approx(compute_hypervolume(inside, np.array(reference)), rel=1e-9)


def test_hypervolume_by_hand():
    assert hypervolume([[0, 2], [1, 1], [2, 0], [2, 2]], [3, 3]) == 6
    assert hypervolume([], [1, 1]) == 0
    assert hypervolume([[2, 0]], [1, 1]) == 0
