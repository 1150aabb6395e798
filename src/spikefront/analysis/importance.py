"""Which parameters matter, for each objective."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from optuna import Study, create_study
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, create_trial


def importances(study: Study, objectives: Iterable[str]) -> dict[str, dict[str, float]]:
    """Share of each objective's variance that each parameter explains (fANOVA, Hutter et al., ICML 2014); ``{}`` for
    an objective while there is too little to go on."""
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    found: dict[str, dict[str, float]] = {}
    for i, name in enumerate(objectives):
        try:
            found[name] = get_param_importances(
                study, evaluator=FanovaImportanceEvaluator(seed=0), target=partial(_value, i)
            )
        except (RuntimeError, ValueError):  # fewer than two finished trials, or no parameter in all of them
            found[name] = {}
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
