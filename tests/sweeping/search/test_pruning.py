"""Pruning: what the front beats stops, what may reach it goes on."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from spikefront.errors import UserError
from spikefront.sweeping.search import pruning
from spikefront.sweeping.search.forecast import encode, forecast
from spikefront.sweeping.search.pruning import FrontPruner, Seen
from spikefront.sweeping.study import attributes, brought


def curve(final, energy, epochs=10):
    """Error falls evenly from 0.9 to ``1 - final``; half the accuracy for a third of the energy at t = 1."""
    accuracies = [0.1 + (final - 0.1) * e / epochs for e in range(1, epochs + 1)]
    return {
        e: {"accuracy": a, "energy_joules": energy, "anytime": [(a / 2, energy / 3), (a, energy)]}
        for e, a in enumerate(accuracies, 1)
    }


def seen(final, energy, width, stopped=False):
    own = curve(final, energy)
    return Seen({"width": width}, own, [(final / 2, energy / 3), (final, energy)], stopped)


OBJECTIVES = {"accuracy": "maximize", "energy": "minimize"}
ENDED = [seen(0.9 - 0.02 * i, 1e-6 * (1 - 0.05 * i), 64 - i) for i in range(10)]


def judge(pruner, epoch, final, energy, ended=ENDED):
    return pruner.judge({"width": 60}, {e: p for e, p in curve(final, energy).items() if e <= epoch}, ended)


def decide(pruner, study, trial):
    where, read = (study, study._storage, trial._trial_id), (attributes.curve, brought.seen)
    return pruning.decide(pruner, *where, *read, "accuracy", OBJECTIVES)


def test_the_dominated_stops_and_the_promising_goes_on():
    pruner = FrontPruner()
    stop = judge(pruner, 5, 0.4, 3e-6)
    assert stop is not None and "hypervolume" in stop.reason
    assert [e for _, e in stop.outlook] == pytest.approx([1e-6, 3e-6], rel=0.2) and stop.outlook[1][0] < 0.7
    assert judge(pruner, 5, 0.95, 1e-6) is None
    assert judge(pruner, 5, 0.4, 1e-8) is None  # cheap beyond all others, however inaccurate


def test_an_anytime_point_can_save_a_trial():
    poor = {e: p for e, p in curve(0.4, 3e-6).items() if e <= 5}
    assert FrontPruner().judge({"width": 60}, poor, ENDED) is not None
    for point in poor.values():
        point["anytime"] = [(0.3, 1e-8), *point["anytime"][1:]]
    assert FrontPruner().judge({"width": 60}, poor, ENDED) is None


def test_what_would_add_next_to_nothing_stops():
    close = (5, 0.905, 1e-6)  # a hair more accurate than the best of the front
    assert judge(FrontPruner(tolerance=0.0), *close) is None
    assert judge(FrontPruner(tolerance=0.2), *close) is not None


def test_nothing_stops_before_there_is_something_to_compare_with():
    assert judge(FrontPruner(startup_trials=20), 5, 0.2, 9e-6) is None
    assert judge(FrontPruner(warmup_epochs=6), 5, 0.2, 9e-6) is None
    stopped = [seen(0.3, 1e-6, 64, stopped=True)] * 20
    assert judge(FrontPruner(), 5, 0.2, 9e-6, ENDED[:3] + stopped) is None


def test_nothing_stops_while_nothing_has_learnt_anything():
    """The first epochs of a thousand classes: every finished accuracy is 0."""
    ended = [seen(0.0, energy, width) for energy, width in ((1e-6, 16), (2e-6, 32), (3e-6, 64))]
    assert judge(FrontPruner(startup_trials=3), 3, 0.0, 2e-6, ended) is None


def test_more_confidence_stops_no_more():
    trials = [(e, f, c) for e in (1, 3, 6) for f in (0.3, 0.6, 0.85) for c in (5e-7, 1e-6, 2e-6)]
    stopped = [sum(judge(FrontPruner(confidence=c), *t) is not None for t in trials) for c in (0.5, 0.9, 0.99)]
    assert stopped == sorted(stopped, reverse=True) and stopped[0] > 0


def test_points_that_were_known_before_count_as_front():
    """They have no curve: nothing is learnt from them, but what they beat stops."""
    ended = [*ENDED, Seen({"width": 1}, {}, [(0.99, 1e-9)])]
    assert judge(FrontPruner(), 5, 0.95, 1e-6, ended) is not None


def test_parameters_become_numbers():
    encoded = encode([{"lr": 1e-4, "neuron": "lif"}, {"lr": 1e-2, "neuron": "plif", "tau": 3.0}, {"lr": 1e-3}])
    assert encoded[:, 0] == pytest.approx([-1, 1, 0])
    assert encoded[:, 1:3].tolist() == [[1, 0], [0, 1], [0, 0]]
    assert encoded[:, 3].tolist() == [0, 0, 0]  # one value tells nothing


def test_forecasts_are_as_wide_as_their_errors():
    draw = np.random.default_rng(0)
    x = draw.uniform(-1, 1, (300, 3))
    y = np.stack([np.sin(2 * x[:, 0]) + 0.3 * draw.normal(size=300), x[:, 1] - x[:, 2]], axis=1)
    mean, error = forecast(x[:60], y[:60], x[60:])
    off = (mean - y[60:]) / error
    assert off.std(0)[0] == pytest.approx(1, abs=0.4)
    assert np.abs(mean - y[60:]).mean(0)[1] < 0.05


def test_a_study_is_judged_by_all_that_has_ended_in_it():
    """Complete trials by their final points, stopped ones by their forecasts, known ones by their values alone."""
    study = optuna.create_study(directions=list(OBJECTIVES.values()))

    def run(final, energy, epochs, width):
        trial = study.ask()
        trial.suggest_int("width", width, width)
        for epoch, point in curve(final, energy).items():
            if epoch <= epochs:
                attributes.set_point(trial, epoch, point)
        return trial, decide(FrontPruner(), study, trial)

    for i in range(10):
        trial, _ = run(0.9 - 0.02 * i, 1e-6 * (1 - 0.05 * i), 10, 64 - i)
        points = [(0.45 - 0.01 * i, 3e-7 * (1 - 0.05 * i)), (0.9 - 0.02 * i, 1e-6 * (1 - 0.05 * i))]
        steps = [{"t": t, "accuracy": a, "energy_joules": e} for t, (a, e) in enumerate(points, 1)]
        attributes.set_outcome(trial, {"anytime": steps})
        study.tell(trial, points[-1])
    stopped, stop = run(0.4, 3e-6, 5, 60)
    assert stop is not None
    attributes.OUTLOOK.set(stopped, stop.outlook)
    study.tell(stopped, state=TrialState.PRUNED)
    assert run(0.95, 1e-6, 5, 60)[1] is None
    study.add_trial(optuna.create_trial(values=[0.99, 1e-9], params={}, distributions={}))
    assert run(0.95, 1e-6, 5, 60)[1] is not None


@pytest.mark.parametrize(
    ("pruner", "stopped"),
    [
        (optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=0), [0.3]),
        (optuna.pruners.HyperbandPruner(min_resource=1, max_resource=2, reduction_factor=4), [0.8, 0.85, 0.3]),
    ],
)
def test_optunas_pruners_judge_one_of_several_objectives(pruner, stopped):
    study = optuna.create_study(directions=list(OBJECTIVES.values()))
    verdicts = []
    for final in (0.9, 0.8, 0.85, 0.3, 0.95):
        trial = study.ask()
        reason = None
        for epoch, point in curve(final, 1e-6).items():
            attributes.set_point(trial, epoch, point)
            reason = decide(pruner, study, trial)
            if reason:
                break
        study.tell(trial, None if reason else [final, 1e-6], state=TrialState.PRUNED if reason else TrialState.COMPLETE)
        verdicts += [final] if reason else []
    assert verdicts == stopped


def test_a_pruner_that_cannot_judge_is_refused():
    with pytest.raises(UserError, match="accuracy and energy"):
        pruning.check(FrontPruner(), "accuracy", {"accuracy": "maximize", "latency": "minimize"})
    with pytest.raises(UserError, match="prune_on"):
        pruning.check(optuna.pruners.MedianPruner(), "latency", {"accuracy": "maximize", "latency": "minimize"})
