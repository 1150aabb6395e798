"""Stopping trials early: against the whole front with several objectives, or by Optuna's pruners on one of them.

Optuna's own pruners know one objective only (``Trial.report`` refuses more). Here a trial's points after an epoch, its
anytime points among them, are moved to where a training that goes well would bring them, and the trial stops
when the front already beats every one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.pruners import BasePruner
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from spikefront.errors import UserError
from spikefront.sweeping.pareto import non_dominated

KEYS = {"accuracy": "accuracy", "energy": "energy_joules"}
Curve = Mapping[int, Mapping[str, Any]]
"""By epoch: ``accuracy``, ``energy_joules`` and ``anytime``, pairs of both after t = 1 … T timesteps."""


class FrontPruner:
    """Stops a trial whose optimistic outcome, anytime points included, the front of the finished ones dominates.

    What a training still gains is read off the finished trials that were about as accurate at the same epoch: the
    share of its error that each still lost, and the factor by which its energy changed. The hopeful outcome takes the
    quantile ``confidence`` of both in the trial's favour, so nominally ``1 - confidence`` of the trials that would
    reach the front are lost to each objective. Finished trials are those that weren't stopped, which errs on the
    hopeful side.

    Args:
        confidence: of not losing a member of the front, 0-1.
        warmup_epochs: epochs that every trial gets.
        startup_trials: finished trials before the first is stopped.
        neighbours: finished trials that each forecast is read off.
    """

    def __init__(
        self, confidence: float = 0.9, warmup_epochs: int = 1, startup_trials: int = 8, neighbours: int = 10
    ) -> None:
        if not 0 < confidence < 1:
            raise UserError(f"search.pruner.confidence is {confidence}: use a number between 0 and 1")
        self.confidence, self.warmup, self.startup = confidence, warmup_epochs, startup_trials
        self.neighbours = neighbours

    def reason(self, curve: Curve, finished: Sequence[tuple[Curve, Sequence[tuple[float, float]]]]) -> str | None:
        """Why to stop a trial after its curve's last epoch, or ``None``.

        Args:
            finished: each finished trial's curve and its final ``(accuracy, energy)`` points.
        """
        epoch = max(curve)
        if epoch < self.warmup or len(finished) < self.startup:
            return None
        known = [(c[epoch], points) for c, points in finished if epoch in c]
        if len(known) < self.startup:
            return None
        now = curve[epoch]
        near = sorted(known, key=lambda k: abs(k[0]["accuracy"] - now["accuracy"]))[: self.neighbours]
        left = [_ratio(1 - p[-1][0], 1 - then["accuracy"]) for then, p in near]
        spent = [_ratio(p[-1][1], then["energy_joules"]) for then, p in near]
        error, energy = (float(np.quantile(x, 1 - self.confidence)) for x in (left, spent))
        hoped = [(min(1.0, 1 - (1 - a) * min(1.0, error)), e * energy) for a, e in now["anytime"]]
        reached = np.array([(-a, e) for _, points in finished for a, e in points])
        front = reached[non_dominated(reached)]
        if all(np.any((front[:, 0] <= -a) & (front[:, 1] <= e)) for a, e in hoped):
            best = max(a for a, _ in hoped)
            return (
                f"after epoch {epoch} not even an accuracy of {best:.3f}, the hopeful forecast, would reach the front"
            )
        return None


def _ratio(after: float, before: float) -> float:
    return after / before if before > 0 else 1.0


def decide(
    pruner: Any, study: Study, storage: BaseStorage, trial_id: int, objective: str, objectives: Mapping[str, str]
) -> str | None:
    """Whether ``pruner`` stops the trial now: the reason, or ``None``. Optuna's see ``objective`` alone."""
    if isinstance(pruner, FrontPruner):
        finished = [
            (curve_of(t), [(p["accuracy"], p["energy_joules"]) for p in t.user_attrs.get("anytime", ())])
            for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        ]
        return pruner.reason(curve_of(storage.get_trial(trial_id)), [f for f in finished if f[1]])
    curve = curve_of(storage.get_trial(trial_id))
    epoch = max(curve)
    storage.set_trial_intermediate_value(trial_id, epoch, curve[epoch][KEYS[objective]])
    assert isinstance(pruner, BasePruner)
    view: Any = _OneObjective(study, objectives[objective])
    if pruner.prune(view, storage.get_trial(trial_id)):
        return f"{type(pruner).__name__} on {objective} after epoch {epoch}"
    return None


def check(pruner: Any, objective: str, objectives: Mapping[str, str]) -> None:
    """Raise UserError if the pruner can't judge these objectives."""
    if isinstance(pruner, FrontPruner) and set(objectives) != set(KEYS):
        raise UserError(f"search/pruner=front needs the objectives accuracy and energy, not {', '.join(objectives)}")
    if isinstance(pruner, BasePruner) and (objective not in objectives or objective not in KEYS):
        raise UserError(f"search.prune_on is '{objective}': use accuracy or energy, one of the objectives")


def curve_of(trial: FrozenTrial) -> dict[int, dict[str, Any]]:
    """A trial's points by epoch."""
    attributes = trial.user_attrs
    return {int(k.removeprefix("epoch:")): v for k, v in attributes.items() if k.startswith("epoch:")}


class _OneObjective:
    """A study as Optuna's pruners want it: with one direction."""

    def __init__(self, study: Study, direction: str) -> None:
        self._study = study
        self.direction = StudyDirection.MAXIMIZE if direction == "maximize" else StudyDirection.MINIMIZE

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)
