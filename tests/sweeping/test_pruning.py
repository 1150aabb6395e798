"""Pruning: what the front beats stops, what may reach it goes on."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import TrialState

from spikefront.errors import UserError
from spikefront.sweeping import pruning
from spikefront.sweeping.pruning import FrontPruner


def curve(final, energy, epochs=10):
    """Error falls evenly from 0.9 to ``1 - final``; half the accuracy for a third of the energy at t = 1."""
    accuracies = [0.1 + (final - 0.1) * e / epochs for e in range(1, epochs + 1)]
    return {
        e: {"accuracy": a, "energy_joules": energy, "anytime": [(a / 2, energy / 3), (a, energy)]}
        for e, a in enumerate(accuracies, 1)
    }


def finished(final, energy):
    return curve(final, energy), [(final / 2, energy / 3), (final, energy)]


FINISHED = [finished(0.9 - 0.02 * i, 1e-6 * (1 - 0.05 * i)) for i in range(10)]


def until(epoch, final, energy):
    return {e: p for e, p in curve(final, energy).items() if e <= epoch}


def test_the_dominated_stops_and_the_promising_goes_on():
    pruner = FrontPruner(confidence=0.9)
    assert "front" in (pruner.reason(until(5, 0.4, 3e-6), FINISHED) or "")
    assert pruner.reason(until(5, 0.95, 1e-6), FINISHED) is None
    assert pruner.reason(until(5, 0.4, 1e-8), FINISHED) is None  # cheap beyond all others, however inaccurate


def test_an_anytime_point_can_save_a_trial():
    poor = until(5, 0.4, 3e-6)
    poor[5]["anytime"] = [(0.2, 1e-8), *poor[5]["anytime"][1:]]
    assert FrontPruner().reason(poor, FINISHED) is None


def test_nothing_stops_before_there_is_something_to_compare_with():
    assert FrontPruner(startup_trials=20).reason(until(5, 0.2, 9e-6), FINISHED) is None
    assert FrontPruner(warmup_epochs=6).reason(until(5, 0.2, 9e-6), FINISHED) is None


def test_more_confidence_stops_no_more():
    trials = [until(e, f, c) for e in (1, 3, 6) for f in (0.3, 0.6, 0.85) for c in (5e-7, 1e-6, 2e-6)]
    stopped = [sum(FrontPruner(confidence=c).reason(t, FINISHED) is not None for t in trials) for c in (0.5, 0.9, 0.99)]
    assert stopped == sorted(stopped, reverse=True) and stopped[0] > 0


def test_optunas_pruners_judge_one_of_several_objectives():
    objectives = {"accuracy": "maximize", "energy": "minimize"}
    study = optuna.create_study(directions=list(objectives.values()))
    pruner = optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=0)
    verdicts = []
    for final in (0.9, 0.8, 0.85, 0.3, 0.95):
        trial = study.ask()
        reason = None
        for epoch, point in curve(final, 1e-6).items():
            trial.set_user_attr(f"epoch:{epoch}", point)
            reason = pruning.decide(pruner, study, study._storage, trial._trial_id, "accuracy", objectives)
            if reason:
                break
        study.tell(trial, None if reason else [final, 1e-6], state=TrialState.PRUNED if reason else TrialState.COMPLETE)
        verdicts.append(reason is not None)
    assert verdicts == [False, False, False, True, False]


def test_a_pruner_that_cannot_judge_is_refused():
    with pytest.raises(UserError, match="accuracy and energy"):
        pruning.check(FrontPruner(), "accuracy", {"accuracy": "maximize", "latency": "minimize"})
    with pytest.raises(UserError, match="prune_on"):
        pruning.check(optuna.pruners.MedianPruner(), "latency", {"accuracy": "maximize", "latency": "minimize"})
