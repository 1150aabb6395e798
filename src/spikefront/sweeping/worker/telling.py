"""How a worker tells the study of its trials: each as it ends, or several at once, where one takes a moment."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from optuna import Trial
from optuna.study import Study

from spikefront.sweeping.study.ledger import Ledger
from spikefront.sweeping.study.several_internals import Ending, begun

SECONDS = 5.0  # that a batch of trials takes: what a killed worker does in vain, and how late others learn of them
MOST = 64  # trials in one
SHARE = 8  # of what is left, into so many parts: at the end no worker has many while others have none


def tell(ledger: Ledger, *endings: Ending) -> None:
    """Tell the study how trials of ours ended, and the log."""
    for ending, ours in zip(endings, ledger.tell(*endings), strict=True):
        number, state, reason = ending.trial.number, ending.state.name.lower(), ending.kept.get("reason")
        if ours:
            say(f"trial {number} {state}{f': {reason}' if reason else ''}")
        else:
            say(f"trial {number} went to another worker meanwhile")


def say(line: str) -> None:
    """Write a line into the worker's log."""
    print(f"[{time.strftime('%H:%M:%S')}] {line}", flush=True)


class Batch:
    """Trials that are taken at once and told at once, as many as take a few seconds.

    All of them run under their leases from the beginning, and so are counted. Who is killed has told of none of them:
    they are put back, and whoever takes them then takes one at a time, so that none dies of what another did.
    """

    def __init__(self, study: Study, ledger: Ledger) -> None:
        self._study, self._ledger = study, ledger
        self._ahead: deque[int] = deque()
        self._untold: list[Ending] = []
        self._seconds = min(SECONDS, ledger.interval / 2)
        self._pace = self._seconds  # that a trial takes
        self._until = 0.0

    def next(self) -> Trial | None:
        """The next trial of the batch; None if that was the last, and all are told."""
        if time.monotonic() > self._until:  # it takes longer than the others did, and leases end
            self.close()
        if self._ahead:
            return begun(self._study, self._ahead.popleft())
        self.settle()
        return None

    def take(self, budget: float, left: int) -> Trial | None:
        """A trial to run; None when finished and running ones exhaust ``budget``.

        Args:
            left: trials that are still to be run, by whomever.
        """
        count = min(MOST, left // SHARE, int(self._seconds / self._pace))
        self._ahead.extend(self._ledger.take_some(budget, count))
        self._until = time.monotonic() + self._ledger.interval
        return self.next() or self._ledger.take(budget)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Context in which one of them is run."""
        began = time.monotonic()
        yield
        self._pace = max((self._pace + time.monotonic() - began) / 2, self._seconds / MOST)

    def tell(self, ending: Ending) -> None:
        """Tell how one ended, with the others."""
        self._untold.append(ending)
        if not self._ahead:
            self.settle()

    def settle(self) -> None:
        """Tell of all that have ended."""
        if self._untold:
            tell(self._ledger, *self._untold)
            self._untold = []

    def close(self) -> None:
        """The same, and put back those that were not begun."""
        self.settle()
        while self._ahead:
            self._ledger.release(self._ahead.popleft())
