"""Where a study stands: what was asked for, what is done, what can't be, what is left. Counted here and nowhere else.

Everything follows from the trials in the storage, so that whoever looks, at whatever moment, comes to the same.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from spikefront.errors import UserError
from spikefront.sweeping.search.space import Point, Space
from spikefront.sweeping.study import attributes
from spikefront.sweeping.study.attributes import (
    BUDGET,
    DIVERGED,
    ELASTIC,
    FORGIVEN,
    INFEASIBLE,
    INHERITED,
    KNOWN,
    RECORD,
    STAGE,
    TRAINING,
    TUNING,
)

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
BEGUN_OR_QUEUED = (TrialState.RUNNING, TrialState.WAITING)


@dataclass(frozen=True)
class Stages:
    """What is left of an elastic study: the training of all networks, evaluations of some, fine-tunings of fewer."""

    training: int
    evaluations: int
    tunings: int

    @property
    def left(self) -> int:
        return self.training + self.evaluations + self.tunings


@dataclass(frozen=True)
class Account:
    """A study's trials, counted.

    Attributes:
        wanted: finished trials that the last command asked for.
        size: points of the search space, infinite with a continuous parameter.
        finished: trials that count: trained here, to their end or until a pruner stopped them.
        failed: those that ended with an error and that nobody has had tried again.
        failures: those of them that ended since the last command began.
        infeasible: proposals that broke a constraint.
        known: points that a warm start brought.
        open: points of the space that can still be trained; a failed one again only if it is retried.
        again: failed ones that somebody has had tried again, and that are not through with it.
        stages: of an elastic study what is left of each of its stages; None of any other.
    """

    wanted: int
    size: float
    finished: list[FrozenTrial]
    failed: list[FrozenTrial]
    failures: list[FrozenTrial]
    infeasible: int
    known: int
    open: float
    again: int
    stages: Stages | None = None

    @property
    def budget(self) -> int:
        """Finished trials that the study shall have: as many as asked for, or as its space has points for; in any case
        those that are tried again."""
        if self.stages is not None:
            return len(self.finished) + int(max(self.stages.left, self.again))
        return int(max(min(self.wanted, len(self.finished) + self.open), len(self.finished) + self.again))

    @property
    def whole(self) -> bool:
        """Whether the study has them all."""
        return len(self.finished) >= self.budget

    @property
    def exhausted(self) -> bool:
        """Whether it has fewer than asked for, as every point of the space is done with."""
        return self.whole and self.size < math.inf and self.open == 0 and len(self.finished) < self.wanted

    def check_failures(self, most: int) -> None:
        """Raise UserError if more trials have failed since the last command began."""
        if len(self.failures) > most:
            why = attributes.REASON.get(self.failures[-1]) or "unknown"
            raise UserError(
                f"{len(self.failures)} trials failed, more than search.max_failures={most}; the last: {why}"
            )


def account(study: Study) -> Account:
    """Count a study's trials."""
    trials = study.get_trials(deepcopy=False)
    ended = [t for t in trials if t.state in FINISHED]
    finished = [t for t in ended if counts(t)]
    failed = _unmended(trials)
    forgiven = set(FORGIVEN.get(study))
    space = space_of(study)
    size = space.size()
    wanted = BUDGET.get(study) or 0
    open_ = size - _shut(space, trials, finished, failed) if size < math.inf else math.inf
    return Account(
        wanted=wanted,
        size=size,
        finished=finished,
        failed=failed,
        failures=[t for t in failed if t.number not in forgiven],
        infeasible=sum(INFEASIBLE.on(t) and not attributes.repeats(t) for t in ended),
        known=sum(KNOWN.on(t) for t in ended),
        open=open_,
        again=sum(attributes.is_retry(t) for t in trials if t.state in BEGUN_OR_QUEUED),
        stages=_stages(study, trials, wanted, open_) if ELASTIC.get(study) else None,
    )


def _stages(study: Study, trials: list[FrozenTrial], wanted: int, open_: float) -> Stages:
    ended = [t for t in trials if t.state in FINISHED]
    evaluated = [t for t in ended if not STAGE.on(t) and counts(t)]
    trained = any(STAGE.get(t) == TRAINING and not came_to_nothing(t) for t in ended)
    tuned = sum(STAGE.get(t) == TUNING and counts(t) for t in ended)
    hopeless = sum(STAGE.get(t) == TUNING for t in _unmended(trials))
    evaluations = int(min(max(0, wanted - len(evaluated)), open_))
    tunable = sum(t.state == TrialState.COMPLETE for t in evaluated) + evaluations - hopeless
    asked = ((attributes.settings(study) or {}).get("engine") or {}).get("finetune", 0)
    return Stages(int(not trained), evaluations, max(0, min(asked, tunable) - tuned))


def bad(study: Study) -> list[FrozenTrial]:
    """The trials that came to nothing, by their configurations' fault as far as one knows: failed and diverged ones."""
    trials = study.get_trials(deepcopy=False)
    return [*_unmended(trials), *(t for t in trials if DIVERGED.on(t))]


def taken(space: Space, study: Study, trial: FrozenTrial) -> set[Point]:
    """The points of a study that trials other than this one try, tried or shall try."""
    return points(space, (t for t in study.get_trials(deepcopy=False) if t.number != trial.number))


def came_to_nothing(trial: FrozenTrial) -> bool:
    """Whether a trial failed or diverged."""
    return trial.state == TrialState.FAIL or DIVERGED.on(trial)


def counts(trial: FrozenTrial) -> bool:
    """Whether a finished trial is one of the study's own trainings."""
    return not INFEASIBLE.on(trial) and not KNOWN.on(trial)


def points(space: Space, trials: Iterable[FrozenTrial]) -> set[Point]:
    """What trials try, or shall when their turn comes, as far as that is known."""
    found = (space.point(attributes.asked_for(t)) for t in trials)
    return {p for p in found if p is not None}


def pairs(trials: Sequence[FrozenTrial]) -> list[tuple[float, float]]:
    """Validation accuracies of networks of an elastic study, as they were inherited and after fine-tuning."""
    complete = {t.number: t for t in trials if t.state == TrialState.COMPLETE}
    tuned = [(complete.get(INHERITED.get(t) or -1), t) for t in complete.values() if INHERITED.on(t)]
    metrics = [(attributes.outcome(b)["metrics"], attributes.outcome(a)["metrics"]) for b, a in tuned if b is not None]
    return [(before["accuracy"], after["accuracy"]) for before, after in metrics]


def space_of(study: Study) -> Space:
    """What the study searches."""
    made = RECORD.get(study)
    return _space(json.dumps(made["space"])) if made else Space([])


@functools.lru_cache(maxsize=16)
def _space(plain: str) -> Space:
    return Space.stored(json.loads(plain))


def _shut(space: Space, trials: list[FrozenTrial], finished: list[FrozenTrial], failed: list[FrozenTrial]) -> int:
    """How many points are trained, or can't be."""
    done = points(space, finished)
    again = points(space, (t for t in trials if t.state in BEGUN_OR_QUEUED))
    refused = points(space, [*failed, *(t for t in trials if t.state in FINISHED and not counts(t))])
    return len(done | (refused - again))


def _unmended(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """The failed ones that nobody has had tried again."""
    failed = [t for t in trials if t.state == TrialState.FAIL]
    again = {attributes.ORIGIN.get(t) for t in trials} if failed else set()
    return [t for t in failed if attributes.retry_of(t) not in again]
