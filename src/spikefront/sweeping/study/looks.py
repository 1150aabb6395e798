"""What a worker knows of a study's trials, and when it looks at them again.

Optuna's own storages read everything of each trial that isn't finished, whenever anyone asks for trials: with 1,000
workers a second of two cores, a dozen times a turn. Here new trials are read soon, those that others run now and then,
and what must be known at once is asked for by itself.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import math
import threading
import time
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Collection, Container, Iterator, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from spikefront.start import settle
from spikefront.sweeping.search.optuna_internals import id_of

Choose = Callable[[FrozenTrial], bool]
Fetch = Callable[[Collection[int], int], list[FrozenTrial]]
"""Trials by their ids, and all that came after another id, as the storage has them now."""
Drawn = tuple[int, str, float, BaseDistribution]
"""A trial by its id, and a parameter's name, the number that stands for its value, and distribution."""


def is_unread(key: str, unread: tuple[str, ...]) -> bool:
    """Whether a user attribute is of those that aren't read: by its name, or by its beginning up to a colon."""
    return key in unread or (":" in key and key.startswith(tuple(name for name in unread if name.endswith(":"))))


_number = attrgetter("number")
MANY = 1000  # trials that are read at once


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Context in which Python doesn't look for what could be forgotten, again and again among all that is read: 40 % of
    the time in which a worker reads 10,000 trials."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


class Looks:
    """What is known of a study's trials, and when those that others run are looked at again.

    A trial that was seen running may have finished since: what is said of it is as old as ``at``. Others' new trials
    are looked for as seldom, and as that is less work, more often; ids are given in the order in which trials are made.
    What was written from here, and what ``choose`` is given for, is never old.
    """

    def __init__(self) -> None:
        self.at = -math.inf  # of the last look at all, by the monotonic clock
        self.touched: set[int] = set()  # ids of what was written from here since it was read
        self.ended: list[FrozenTrial] = []  # as they were seen to have
        self._trials: dict[int, FrozenTrial] = {}  # by id, in the order of their numbers
        self._in_order: dict[frozenset[TrialState], list[FrozenTrial]] = {}  # those of some states, by number
        self._open: set[int] = set()
        self._due = self._new_due = -math.inf
        self._newest = -1
        self._lock = threading.Lock()

    def __reduce__(self) -> Any:
        return Looks, ()  # another process begins anew

    def read(
        self, fetch: Fetch, share: float, states: Container[TrialState] | None = None, choose: Choose | None = None
    ) -> list[FrozenTrial]:
        """The trials of these states by number; of the unfinished those that ``choose`` picks as they are now.

        Args:
            share: of the time, what looks at all may take.
        """
        wanted_states = frozenset(s for s in TrialState if states is None or s in states)
        with self._lock:
            began = time.monotonic()
            whole = began >= self._due
            touched = set(self.touched)
            self.touched -= touched  # before they are read: what is written meanwhile is read again
            wanted = self._open if whole else touched & self._open
            if choose is not None and not whole:
                wanted = wanted | {i for i in self._open if choose(self._trials[i])}
            if wanted or touched - self._trials.keys() or choose is not None or began >= self._new_due:
                try:
                    with _uncollected():
                        found = fetch(wanted, self._newest)
                except BaseException:
                    self.touched |= touched
                    raise
                now = time.monotonic()
                self._new_due = now + (now - began) * (1 / share - 1)
                if whole:
                    self.at, self._due = began, self._new_due
                for trial in sorted(found, key=_number):
                    self._take(trial)
                if len(found) > MANY:
                    settle("read")
            if wanted_states not in self._in_order:
                self._in_order[wanted_states] = [t for t in self._trials.values() if t.state in wanted_states]
            return list(self._in_order[wanted_states])

    def _take(self, trial: FrozenTrial) -> None:
        own = id_of(trial)
        before = self._trials.get(own)
        for states, known in self._in_order.items():
            if before is not None and before.state in states:
                del known[bisect_left(known, trial.number, key=_number)]
            if trial.state in states:
                insort(known, trial, key=_number)
        self._trials[own], self._newest = trial, max(self._newest, own)
        if not trial.state.is_finished():
            self._open.add(own)
        elif before is None or not before.state.is_finished():
            self._open.discard(own)
            self.ended.append(trial)


def _touching(name: str, always: bool = True) -> Any:
    def method(self: Looking, trial_id: int, *arguments: Any, **more: Any) -> Any:
        try:
            return getattr(super(Looking, self), name)(trial_id, *arguments, **more)
        finally:
            if always or self.thorough:
                self.touch(trial_id)

    return method


class Looking(BaseStorage):
    """What the storages below have in common: they read trials by ``Looks``."""

    share = 1.0  # of the time, what looks at all may take; 1: every look is one
    unread: tuple[str, ...] = ()  # user attributes that nobody asks finished trials for; "epoch:" is all that begin so
    thorough = False  # whether a trial is read again after anything of it was written from here, not just its state
    _looks: defaultdict[int, Looks]

    def _fetch(self, study_id: int, ids: Collection[int], after: int) -> list[FrozenTrial]:
        raise NotImplementedError

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        found = self.look(study_id, states)
        return copy.deepcopy(found) if deepcopy else found

    def look(
        self, study_id: int, states: Container[TrialState] | None = None, choose: Choose | None = None
    ) -> list[FrozenTrial]:
        """A study's trials; of the unfinished those that ``choose`` picks as they are now."""
        return self._looks[study_id].read(partial(self._fetch, study_id), self.share, states, choose)

    def ended(self, study_id: int) -> list[FrozenTrial]:
        """All finished trials, in the order in which they were seen to be."""
        self.look(study_id, ())
        return self._looks[study_id].ended

    def looked(self, study_id: int) -> float:
        """When all trials were looked at last, by the monotonic clock."""
        return self._looks[study_id].at

    def touch(self, trial_id: int) -> None:
        """Note that a trial was written from here."""
        for looks in self._looks.values():
            looks.touched.add(trial_id)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        trial_id: int = super().create_new_trial(study_id, template_trial)  # type: ignore[safe-super]
        self.touch(trial_id)
        return trial_id

    def delete_study(self, study_id: int) -> None:
        super().delete_study(study_id)  # type: ignore[safe-super]
        self._looks.pop(study_id, None)

    set_trial_state_values = _touching("set_trial_state_values")  # where that comes too late too
    set_trial_param = _touching("set_trial_param", always=False)
    set_trial_intermediate_value = _touching("set_trial_intermediate_value", always=False)


class Drawing(Looking):
    """A storage that writes the parameters of a trial in one transaction."""

    _later: list[Drawn] | None = None  # what is to be written at once; None: each as it comes

    def set_trial_param(self, *given: Any, **more: Any) -> None:
        if self._later is None:
            super().set_trial_param(*given, **more)
        else:
            self._later.append(given)

    @contextlib.contextmanager
    def together(self, study_id: int) -> Iterator[None]:
        """Write the parameters of a trial that are drawn here in one transaction.

        Raises:
            UpdateFinishedTrialError: it is finished, or another draws them too.
        """
        self._later = []
        try:
            yield
        finally:
            drawn, self._later = self._later, None
        if drawn:
            self.draw(study_id, drawn)

    def draw(self, study_id: int, drawn: Sequence[Drawn]) -> None:
        """The parameters of a trial, all at once.

        Raises:
            UpdateFinishedTrialError: see ``together``.
        """
        raise NotImplementedError
