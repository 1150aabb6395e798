"""Stopping trials early: against the whole front with several objectives, or by Optuna's pruners on one of them.

Optuna's own pruners know one objective only (``Trial.report`` refuses more). Here a trial's points, its anytime
points among them, are moved to where a training that goes well would bring them, and the trial stops when the
front would gain next to nothing by all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from statistics import NormalDist
from typing import Any

import numpy as np
from optuna.pruners import BasePruner
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from spikefront.analysis.pareto import non_dominated
from spikefront.analysis.schema import Directions
from spikefront.errors import UserError
from spikefront.sweeping.search.forecast import Curve, Trace, encode, features, forecast, scale, trace, unscale
from spikefront.sweeping.search.optuna_internals import OneObjective
from spikefront.sweeping.search.worth import volumes

JUDGED = ("accuracy", "energy")  # what each epoch's point says of the objectives
LATEST = 500  # ended trials that a forecast looks at
Breaks = Callable[[float, float], list[str]]
"""The constraints on what is measured that a network of this accuracy and energy breaks, in words."""


def _nothing(accuracy: float, energy: float) -> list[str]:
    return []


@dataclass(frozen=True)
class Seen:
    """A trial that has ended: parameters, points by epoch, and the final ``(accuracy, energy)`` after t = 1 … T.

    Of a ``stopped`` one the final points are the forecast's; the places of those that break a constraint on what is
    measured are ``infeasible``.
    """

    params: Mapping[str, Any]
    curve: Curve
    final: Sequence[tuple[float, float]]
    stopped: bool = False
    infeasible: Sequence[int] = ()
    seconds: float | None = None  # of the whole training, where known

    @cached_property
    def reached(self) -> np.ndarray:
        """``(points, 2)``: what is to be minimised, of the points that are feasible."""
        return np.array([(-a, e) for i, (a, e) in enumerate(self.final) if i not in self.infeasible]).reshape(-1, 2)

    @cached_property
    def end(self) -> np.ndarray:
        """The final points as ``scale`` measures."""
        return scale(self.final)

    @cached_property
    def traces(self) -> dict[int, Trace]:
        """The curve's epochs that were asked for, as ``features`` wants them."""
        return {}

    def trace(self, epoch: int) -> Trace:
        if epoch not in self.traces:
            self.traces[epoch] = trace(self.curve, epoch)
        return self.traces[epoch]


@dataclass(frozen=True)
class Stop:
    """Why to stop a trial, and its final points as they are forecast."""

    reason: str
    outlook: list[tuple[float, float]]


class _Reached:
    """What trainings have come to, kept from one verdict to the next.

    Attributes:
        front: ``(points, 2)``, minimised, of all that were trained to the end.
        dearest: the most energy among all their points, in joules.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._counted: dict[int, Seen] = {}
        self.front, self.dearest = np.empty((0, 2)), 0.0

    def see(self, ended: Sequence[Seen]) -> None:
        new = [s for s in ended if id(s) not in self._counted]
        if len(self._counted) + len(new) != len(ended):  # another study, or some are judged otherwise by now
            self._forget()
            new = list(ended)
        self._counted |= {id(s): s for s in new}
        points = np.concatenate([self.front, *(s.reached for s in new if not s.stopped)])
        if len(points) > len(self.front):
            self.dearest = max(self.dearest, float(points[:, 1].max()))
            self.front = np.unique(points[non_dominated(points)], axis=0)


class FrontPruner:
    """Stops a trial whose optimistic outcome, anytime points included, adds too little to the finished ones' front.

    A Gaussian process forecasts the final accuracy and energy of each anytime point from the trial's parameters and
    its points so far; it learns from the trials that were trained to the end and, by their forecasts, from those that
    were stopped. The hopeful outcome lies so many standard deviations
    above in accuracy and below in energy that a normal variable stays within them with probability ``confidence``.

    Args:
        confidence: of not stopping what would reach the front, for each point and objective, 0-1.
        tolerance: share of the front's hypervolume (accuracy from 0, energy up to the largest) that a trial must hope
            to add, in joules or in decades of energy.
        warmup_epochs: epochs that every trial gets.
        startup_trials: trials trained to the end before the first is stopped.
    """

    def __init__(
        self, confidence: float = 0.95, tolerance: float = 0.002, warmup_epochs: int = 1, startup_trials: int = 6
    ) -> None:
        if not 0 < confidence < 1:
            raise UserError(f"search.pruner.confidence is {confidence}: use a number between 0 and 1")
        if not 0 <= tolerance < 1:
            raise UserError(f"search.pruner.tolerance is {tolerance}: use a share of the hypervolume, such as 0.002")
        self.confidence, self.tolerance = confidence, tolerance
        self.warmup, self.startup = warmup_epochs, startup_trials
        self._reached = _Reached()

    def judge(
        self, params: Mapping[str, Any], curve: Curve, ended: Sequence[Seen], breaks: Breaks = _nothing
    ) -> Stop | None:
        """Whether to stop a trial after its curve's last epoch."""
        epoch = max(curve)
        whole = (s for s in reversed(ended) if epoch in s.curve and len(s.final) == len(s.curve[epoch]["anytime"]))
        known = list(islice(whole, LATEST))[::-1]
        if epoch < self.warmup or sum(not s.stopped for s in known) < max(1, self.startup):
            return None
        encoded, own = encode([*(s.params for s in known), params]), trace(curve, epoch)
        traces = [s.trace(epoch) for s in known]
        gained = np.concatenate([s.end for s in known]) - np.concatenate([t.now for t in traces])
        mean, error = forecast(features(encoded[:-1], traces), gained, features(encoded[-1:], [own]))
        expected = own.now + mean
        hoped = unscale(expected + NormalDist().inv_cdf(self.confidence) * error * [1.0, -1.0])
        kept = [(a, e) for a, e in hoped if not breaks(a, e)]
        if not kept:
            a, e = hoped[-1]
            return Stop(
                f"after epoch {epoch} even the hopeful forecast, accuracy {a:.3f} at {e:.3g} J, breaks"
                f" search.constraints: {'; '.join(breaks(a, e))}",
                unscale(expected),
            )
        self._reached.see(ended)
        if not len(self._reached.front):
            return None
        front, worst = self._reached.front * [-1, 1], 1.001 * self._reached.dearest
        before, after = volumes(front, worst), volumes([*front, *kept], worst)
        if min(before) <= 0:  # nothing has learnt anything yet
            return None
        gain = max(new / old - 1 for new, old in zip(after, before, strict=True))
        if gain >= self.tolerance and gain > 0:
            return None
        a, e = hoped[-1]
        return Stop(
            f"after epoch {epoch} even the hopeful forecast, accuracy {a:.3f} at {e:.3g} J, would add"
            f" {gain:.1%} to the front's hypervolume",
            unscale(expected),
        )


Read = Callable[[FrozenTrial, Directions], Seen | None]
"""What is to be learnt from a trial that has ended, from where the study keeps it; None if nothing is."""


def decide(
    pruner: Any,
    study: Study,
    storage: BaseStorage,
    trial_id: int,
    curve: Callable[[FrozenTrial], Curve],
    seen: Read,
    objective: str,
    objectives: Directions,
    breaks: Breaks = _nothing,
) -> Stop | None:
    """Whether ``pruner`` stops the trial now. Optuna's see ``objective`` alone.

    Args:
        curve: a trial's points so far, from where the study keeps them.
        seen: likewise what is to be learnt from a trial that has ended.
    """
    trial = storage.get_trial(trial_id)
    own = curve(trial)
    epoch = max(own)
    if isinstance(pruner, FrontPruner):
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        return pruner.judge(trial.params, own, [s for t in ended if (s := seen(t, objectives))], breaks)
    value = {"accuracy": own[epoch]["accuracy"], "energy": own[epoch]["energy_joules"]}[objective]
    storage.set_trial_intermediate_value(trial_id, epoch, value)
    assert isinstance(pruner, BasePruner)
    view: Any = OneObjective(study, objectives[objective])
    if pruner.prune(view, storage.get_trial(trial_id)):
        return Stop(f"{type(pruner).__name__} on {objective} after epoch {epoch}", [])
    return None


def remembered(seen: Read) -> Read:
    """The same, each trial looked at once, as it doesn't change any more, unless it is shown with other values."""
    known: dict[int, tuple[FrozenTrial, Seen | None]] = {}

    def read(trial: FrozenTrial, objectives: Directions) -> Seen | None:
        before = known.get(trial.number)
        if before is None or (before[0] is not trial and before[0].values != trial.values):
            before = known[trial.number] = trial, seen(trial, objectives)
        return before[1]

    return read


def unread(pruner: Any, curves: str, outcomes: tuple[str, ...]) -> tuple[str, ...]:
    """Of other trials' attributes those that neither a search looks at nor this pruner; a user's own may look at all.

    Args:
        curves: the beginning of the names of the epochs' points.
        outcomes: what trainings come to, but for what fronts are made of.
    """
    if isinstance(pruner, FrontPruner):
        return outcomes
    known = pruner is None or type(pruner).__module__.startswith("optuna.")  # which judge intermediate values
    return (curves, *outcomes) if known else ()


def judged(objectives: Iterable[str]) -> bool:
    """Whether the objectives are those that each epoch's point tells, and no others."""
    return set(objectives) == set(JUDGED)


def check(pruner: Any, objective: str, objectives: Directions) -> None:
    """Raise UserError if the pruner can't judge these objectives."""
    if isinstance(pruner, FrontPruner) and not judged(objectives):
        raise UserError(f"search/pruner=front needs the objectives accuracy and energy, not {', '.join(objectives)}")
    if isinstance(pruner, BasePruner) and (objective not in objectives or objective not in JUDGED):
        raise UserError(f"search.prune_on is '{objective}': use accuracy or energy, one of the objectives")


def note(pruner: Any, name: str, objective: str, objectives: Directions) -> str | None:
    """A line about objectives that the pruner doesn't look at."""
    if not isinstance(pruner, BasePruner) or len(objectives) < 2:
        return None
    said = f"search/pruner={name} judges {objective} alone: it may stop a trial that would be on the front"
    return f"{said}; search/pruner=front judges both" if judged(objectives) else said
