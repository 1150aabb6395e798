"""Pareto arithmetic against brute force and Optuna's own."""

import math

import numpy as np
import optuna
import pytest
from optuna._hypervolume import compute_hypervolume

from spikefront.analysis.front import front_of
from spikefront.analysis.pareto import attained, contributions, hypervolume, non_dominated
from spikefront.sweeping.search.anytime import Front
from spikefront.sweeping.study import brought


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


def test_a_front_kept_as_the_study_grows_is_that_of_all_trials():
    draw, objectives = np.random.default_rng(0), {"accuracy": "maximize", "energy": "minimize"}
    study = optuna.create_study(directions=list(objectives.values()))
    front, answers = Front(objectives, brought.candidate), []
    for _ in range(60):
        accuracy, energy = draw.random(2).round(1) + 0.1
        anytime = [{"t": t, "accuracy": accuracy * t / 2, "energy_joules": energy * t / 2} for t in (1, 2)]
        own = {"metrics": {"accuracy": accuracy, "energy": energy}, "anytime": anytime}
        everyone = [brought.candidate(t, objectives) for t in study.trials]
        ours = {
            "number": -1,
            "params": {},
            "values": own["metrics"],
            "test": {},
            "anytime": anytime,
            "samples": None,
            "origin": None,
            "breaks": [],
        }
        expected = any(p["number"] == -1 for p in front_of([*everyone, ours], objectives))
        front.look(study)
        answers.append(front.takes(brought.would_be(len(study.trials), {**own, "test": {}})))
        assert answers[-1] == expected
        study.add_trial(optuna.create_trial(values=[accuracy, energy], user_attrs=own))
    assert 5 < sum(answers) < 40


def test_equal_points_all_stay_and_what_is_no_number_is_on_no_front():
    assert non_dominated([[1, 2], [1, 2], [2, 1], [2, 2]]).tolist() == [True, True, True, False]
    assert non_dominated([[math.nan, 0], [1, 2], [0, math.nan]]).tolist() == [False, True, False]
    assert non_dominated([]).tolist() == [] and hypervolume([[math.nan, 0], [1, 1]], [2, 3]) == 2


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_contributions_are_what_the_front_loses_without_a_point(dimensions):
    points = np.random.default_rng(dimensions).integers(0, 9, (40, dimensions)) / 8
    front = points[non_dominated(points)]
    scaled = (front - front.min(0)) / np.where(np.ptp(front, 0) > 0, np.ptp(front, 0), 1)
    reference = [1.1] * dimensions
    lost = [hypervolume(scaled, reference) - hypervolume(np.delete(scaled, i, 0), reference) for i in range(len(front))]
    assert contributions(front) == pytest.approx(lost)


@pytest.mark.parametrize("runs", [2, 3, 5, 7])
def test_attained_surfaces_are_the_definition(runs):
    draw = np.random.default_rng(runs)
    fronts = [draw.integers(0, 8, (draw.integers(1, 6), 2)).astype(float) for _ in range(runs)]
    for share, least in ((0.0, 1), (0.5, -(-runs // 2)), (1.0, runs)):
        surface = np.array(attained(fronts, share))
        for place in np.ndindex(10, 10):
            by = sum(bool((front <= place).all(1).any()) for front in fronts)
            assert bool((surface <= place).all(1).any()) == (by >= least)
