"""Where a study stands: what was asked for, what is done, what can't be, what is left. Counted here and nowhere else.

Everything follows from the trials in the storage, so that whoever looks, at whatever moment, comes to the same.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

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
    SILENT,
    STAGE,
    TRAINING,
    TUNING,
)
from spikefront.sweeping.study.storage_internals import Ended

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


class _Book:
    """What a study's finished trials come to, each looked at once, as it doesn't change any more."""

    def __init__(self, study: Study) -> None:
        self.space = space_of(study)
        self.size = self.space.size()
        self.finished: list[FrozenTrial] = []  # those that count
        self.staged: list[FrozenTrial] = []  # of an elastic study, those that are no slices
        self.vain: list[FrozenTrial] = []  # diverged, or stopped for their silence
        self.infeasible = self.known = 0
        self.done: set[Point] = set()
        self.refused: set[Point] = set()
        self._ended = Ended(study)

    def enter(self) -> None:
        for trial in self._ended.new():
            if trial.state in FINISHED:
                self._enter(trial, points(self.space, [trial]) if self.size < math.inf else set())

    def _enter(self, trial: FrozenTrial, at: set[Point]) -> None:
        if counts(trial):
            self.finished.append(trial)
            self.done |= at
        else:
            self.refused |= at
        if STAGE.on(trial):
            self.staged.append(trial)
        self.infeasible += INFEASIBLE.on(trial) and not attributes.repeats(trial)
        self.known += KNOWN.on(trial)
        if DIVERGED.on(trial) or SILENT.on(trial):
            self.vain.append(trial)


_books: WeakKeyDictionary[Study, _Book] = WeakKeyDictionary()


def _book(study: Study) -> _Book:
    if (book := _books.get(study)) is None:
        book = _books[study] = _Book(study)
    book.enter()
    return book


def account(study: Study) -> Account:
    """Count a study's trials."""
    said, book = attributes.said(study), _book(study)
    failed = _unmended(study)
    forgiven = set(FORGIVEN.get(said))
    wanted = BUDGET.get(said) or 0
    others = study.get_trials(deepcopy=False, states=BEGUN_OR_QUEUED)
    open_ = math.inf
    if book.size < math.inf:
        open_ = book.size - len(book.done | (book.refused | points(book.space, failed)) - points(book.space, others))
    return Account(
        wanted=wanted,
        size=book.size,
        finished=book.finished,
        failed=failed,
        failures=[t for t in failed if t.number not in forgiven],
        infeasible=book.infeasible,
        known=book.known,
        open=open_,
        again=sum(attributes.is_retry(t) for t in others),
        stages=_stages(said, book, failed, wanted, open_) if ELASTIC.get(said) else None,
    )


def _stages(said: Any, book: _Book, failed: list[FrozenTrial], wanted: int, open_: float) -> Stages:
    trained = any(STAGE.get(t) == TRAINING and not came_to_nothing(t) for t in book.staged)
    tuned = sum(STAGE.get(t) == TUNING and counts(t) for t in book.staged)
    hopeless = sum(STAGE.get(t) == TUNING for t in failed)
    evaluated = [t for t in book.finished if not STAGE.on(t)]
    evaluations = int(min(max(0, wanted - len(evaluated)), open_))
    tunable = sum(t.state == TrialState.COMPLETE for t in evaluated) + evaluations - hopeless
    asked = ((attributes.settings(said) or {}).get("engine") or {}).get("finetune", 0)
    return Stages(int(not trained), evaluations, max(0, min(asked, tunable) - tuned))


def finished(study: Study) -> list[FrozenTrial]:
    """The finished trials that count."""
    return _book(study).finished


def bad(study: Study) -> list[FrozenTrial]:
    """The trials that came to nothing, by their configurations' fault as far as one knows: failed and diverged ones,
    and those that were stopped for their silence."""
    return [*_unmended(study), *_book(study).vain]


class Taken:
    """The points of a study that trials other than a given one try, tried or shall try; each trial's is found once."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._known: dict[int, Point] = {}
        self._points: set[Point] = set()
        self._ended: Ended | None = None

    def __call__(self, study: Study, trial: FrozenTrial) -> set[Point]:
        if self._ended is None:
            self._ended = Ended(study)
        others = study.get_trials(deepcopy=False, states=BEGUN_OR_QUEUED)
        for other in (*self._ended.new(), *others):
            if other.number not in self._known and (at := self._space.point(attributes.asked_for(other))) is not None:
                self._known[other.number] = at
                self._points.add(at)
        if trial.number not in self._known:
            return self._points
        return {point for number, point in self._known.items() if number != trial.number}


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


def _unmended(study: Study) -> list[FrozenTrial]:
    """The failed ones that nobody has had tried again."""
    failed = study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
    again = {attributes.ORIGIN.get(t) for t in study.get_trials(deepcopy=False)} if failed else set()
    return [t for t in failed if attributes.retry_of(t) not in again]
