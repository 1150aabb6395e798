"""Which parameters matter, for each objective, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from statistics import mean, stdev
from typing import Any

import numpy as np
from optuna import Study, create_study
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

ENOUGH, EACH = 20, 5  # finished trials, and for each parameter, below which fANOVA's shares are noise
RESAMPLED = 6
Shares = dict[str, dict[str, float]]


def importances(study: Study, objectives: Iterable[str]) -> tuple[Shares, Shares]:
    """Share of each objective's variance that each parameter explains (fANOVA, Hutter et al., ICML 2014): the mean over
    bootstrapped samples of the finished trials, and its standard deviation; ``{}`` for an objective while there are too
    few of them to go on.
    """
    objectives = list(objectives)
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    parameters = {k for t in trials for k in t.params}
    if len(trials) < max(ENOUGH, EACH * len(parameters)):
        return {n: {} for n in objectives}, {n: {} for n in objectives}
    rng, parts = np.random.default_rng(0), []
    for _ in range(RESAMPLED):
        drawn = create_study(directions=study.directions, sampler=RandomSampler())
        drawn.add_trials(trials[i] for i in rng.integers(len(trials), size=len(trials)))
        parts.append(_shares(drawn, objectives))
    return _over(parts, mean), _over(parts, stdev)


def _shares(study: Study, objectives: Sequence[str]) -> Shares:
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    found: Shares = {}
    for i, name in enumerate(objectives):
        evaluator = FanovaImportanceEvaluator(n_trees=24, seed=0)
        try:
            found[name] = get_param_importances(study, evaluator=evaluator, target=partial(_value, i))
        except (RuntimeError, ValueError):  # all trials the same, or no parameter in all of them
            found[name] = {}
    return found


def _over(parts: Sequence[Shares], of: Any) -> Shares:
    found: Shares = {}
    for name in parts[0]:
        keys = sorted({k for p in parts for k in p[name]})
        values = {k: float(of([p[name].get(k, 0.0) for p in parts])) for k in keys}
        found[name] = dict(sorted(values.items(), key=lambda item: -item[1]))
    return found


def study_of(points: Iterable[tuple[Mapping[str, Any], Mapping[str, float]]], objectives: Mapping[str, str]) -> Study:
    """A study in memory of finished trials, ``(parameters, values)`` each, over the space that they span."""
    points = list(points)
    seen: dict[str, list[Any]] = {}
    for params, _ in points:
        for name, value in params.items():
            seen.setdefault(name, []).append(value)
    space = {name: _distribution(values) for name, values in seen.items()}
    study = create_study(directions=[StudyDirection[d.upper()] for d in objectives.values()], sampler=RandomSampler())
    for params, values in points:
        own = {
            name: value if isinstance(space[name], FloatDistribution) else str(value) for name, value in params.items()
        }
        study.add_trial(
            create_trial(params=own, distributions={n: space[n] for n in own}, values=[values[n] for n in objectives])
        )
    return study


def _distribution(values: list[Any]) -> BaseDistribution:
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return FloatDistribution(min(values), max(values), log=min(values) > 0 and max(values) > 100 * min(values))
    return CategoricalDistribution(sorted({str(v) for v in values}))


def _value(objective: int, t: FrozenTrial) -> float:
    assert t.values is not None
    return float(t.values[objective])
