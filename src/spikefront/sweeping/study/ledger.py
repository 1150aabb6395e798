"""Who runs which trial: exact counts and recovery from any crash, over any Optuna storage.

A trial is *running* under a lease, a system attribute that its worker renews. Whoever is free looks for leases nobody
renews, and puts those trials back to *waiting*: same number, same parameters, and the next to ask gets it, by the
storage's own atomic waiting-to-running step. Nothing counts that isn't in the storage, so a crash loses nothing.

A trial whose workers die on it one after the other, none of them getting further, goes back only so often: then it has
failed, and the others get their turn.

Staleness is told by a counter that stopped changing over the observer's own monotonic clock, so no clock of any
machine, jumping or skewed, can end a trial; on the same machine a process that is gone is seen at once.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from optuna import Trial
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from spikefront.sweeping.search.optuna_internals import as_asked, id_of
from spikefront.sweeping.study import attributes, deaths, presence, several_internals
from spikefront.sweeping.study.accounts import counts, finished
from spikefront.sweeping.study.attributes import REASON, Deaths, Holder
from spikefront.sweeping.study.several_internals import Ending
from spikefront.sweeping.study.storage_internals import looked

SETTLE = 1.0  # seconds until a returned trial is its new worker's: no storage lets one compare and set in one step


class LeaseLost(Exception):
    """The trial was put back because this worker seemed dead, and belongs to another now."""


class Ledger:
    """One worker's view of the study.

    Args:
        interval: seconds between renewals of a lease; ``grace`` intervals without one make a worker dead.
        job: the cluster's job that this worker is, for those who look.
        lives: workers that may die on a trial in a row, without another epoch between; None for no end of them.
        oom_kills: how often the kernel's out-of-memory killer has struck where this worker runs, if that is told.
        starved: whether it has struck where a dead worker ran.
        lost: whether a dead worker's machine is gone, by its job.
    """

    def __init__(
        self,
        study: Study,
        storage: BaseStorage,
        interval: float = 10.0,
        grace: int = 3,
        job: str | None = None,
        lives: int | None = None,
        oom_kills: Callable[[], int | None] = lambda: None,
        starved: Callable[[Holder], bool] = lambda holder: False,
        lost: Callable[[str], bool] = lambda job: False,
    ) -> None:
        self.study, self.storage, self.interval = study, storage, interval
        self._patience = grace * interval
        self._lives, self._oom_kills, self._starved, self._lost = lives, oom_kills, starved, lost
        self._me: Holder = {"id": uuid.uuid4().hex, **presence.identity(os.getpid())}
        if job:
            self._me["job"] = job
        self._judged = 0.0  # as of when the running trials were looked through, by the monotonic clock
        self._before: dict[int, Deaths] = {}  # of trials that were returned to us, what their leases said
        self._begun: set[int] = set()  # trials of ours whose leases say so
        self._seen: dict[int, tuple[Any, float]] = {}

    def take(self, budget: float) -> Trial | None:
        """A trial to run, a returned one first; ``None`` when finished and running ones exhaust ``budget``."""
        if len(finished(self.study)) + len(self._trials(TrialState.RUNNING)) >= budget:
            return None
        try:
            trial = self.study.ask()
        except UpdateFinishedTrialError:  # a returned one, whose worker was not dead after all
            return None
        last = attributes.lease(as_asked(trial))
        self._before[id_of(trial)] = last["deaths"] if last and "deaths" in last else {}
        if trial.number >= budget and self._before_it(trial.number) >= budget:
            # another worker asked at the same moment: the lower number goes on
            self._set_waiting(id_of(trial), self._before[id_of(trial)])
            return None
        try:
            self._renew(id_of(trial), 0, begun=last is None)
        except UpdateFinishedTrialError:
            return None
        if last is None:  # it was made here
            self._begun.add(id_of(trial))
            return trial
        self._begun.discard(id_of(trial))
        time.sleep(SETTLE)  # who saw its worker dead at the same moment may return it once more
        return trial if self.is_mine(id_of(trial)) else None

    def take_some(self, budget: float, count: int) -> list[int]:
        """So many new trials, begun at once, by their ids; fewer where ``budget`` has no room, none where one waits."""
        count = min(count, int(budget) - len(finished(self.study)) - len(self._trials(TrialState.RUNNING)))
        if count < 2 or self._trials(TrialState.WAITING):
            return []
        held = attributes.held_by(self._lease(0, begun=True, deaths={}))
        made = several_internals.begin(self.study, count, held)
        kept = {n: i for n, i in made.items() if n < budget or self._before_it(n) < budget}  # as in ``take``
        for trial_id in set(made.values()) - set(kept.values()):
            self._set_waiting(trial_id, {})
        self._begun.update(kept.values())
        return list(kept.values())

    def tell(self, *endings: Ending) -> list[bool]:
        """Tell how trials ended; of each whether it was still ours."""
        return several_internals.tell(self.study, endings, attributes.LEASE, self._me["id"])

    def hold(self, trial: Trial) -> Lease:
        """Renews the trial's lease while its context lasts."""
        return Lease(self, id_of(trial))

    def put_back(self, trial: Trial) -> None:
        """Return a trial of ours unfinished: whoever asks next continues it."""
        self.release(id_of(trial))

    def release(self, trial_id: int) -> None:
        """The same by its id in the storage."""
        if self.is_mine(trial_id):
            self._set_waiting(trial_id, self._before.get(trial_id, {}))

    def died(self, trial: Trial) -> None:
        """The same where it ended a process of ours: a few times it is returned, then it has failed."""
        frozen = self.storage.get_trial(id_of(trial))
        if self.is_mine(id_of(trial)):
            self._bury(frozen, attributes.lease(frozen) or {})

    def is_mine(self, trial_id: int) -> bool:
        """Whether the trial still runs under this worker's lease."""
        state, lease = attributes.lease_now(self.storage, trial_id)
        return state == TrialState.RUNNING and self._is_ours(lease)

    def _is_ours(self, lease: Holder | None) -> bool:
        return (lease or {}).get("id") == self._me["id"]

    def put_back_the_dead(self) -> list[int]:
        """Return the running trials whose workers are gone; their numbers."""
        back: list[int] = []
        running = self._trials(TrialState.RUNNING)
        now = looked(self.study)
        if now == self._judged:  # nothing new is known of them
            return []
        self._judged = now
        for trial in running:
            lease = attributes.lease(trial)
            if self._is_ours(lease):
                continue
            seen, since = self._seen.get(id_of(trial), (object(), now))
            if seen != lease:
                self._seen[id_of(trial)] = (lease, now)
                since = now
            if presence.gone(lease) or now - since > self._patience:
                again = self.storage.get_trial(id_of(trial))
                if again.state == TrialState.RUNNING and attributes.lease(again) == lease:
                    self._bury(again, lease or {})
                    back.append(trial.number)
        return back

    def _bury(self, trial: FrozenTrial, lease: Holder) -> None:
        """Return the trial of a worker that died on it, or fail it if it has been the end of too many."""
        before = lease.get("deaths", {})
        if not lease.get("begun"):  # it died before it trained: not on this trial
            self._set_waiting(id_of(trial), before)
            return
        now = deaths.one_more(before, lease, max(attributes.curve(trial), default=0), self._starved(lease))
        if self._lives is not None and now["times"] >= self._lives:
            now = deaths.forgiven(now, self._lost)
            if attributes.lease_now(self.storage, id_of(trial)) != (TrialState.RUNNING, lease):
                return  # to ask took its time, and another was faster
        if self._lives is None or now["times"] < self._lives:
            self._set_waiting(id_of(trial), now)
            return
        with contextlib.suppress(UpdateFinishedTrialError):  # another has seen it too
            REASON.store(self.storage, id_of(trial), deaths.epitaph(now))
            self.storage.set_trial_state_values(id_of(trial), TrialState.FAIL)

    def _set_waiting(self, trial_id: int, deaths: Deaths) -> None:
        """Return a trial, and end its lease: the next to run it must not be taken for the one that held it."""
        ended: Holder = {"id": uuid.uuid4().hex, "returned_by": self._me["id"], "deaths": deaths}
        with contextlib.suppress(UpdateFinishedTrialError):  # it finished after all
            attributes.set_lease(self.storage, trial_id, ended)
            self.storage.set_trial_state_values(trial_id, TrialState.WAITING)

    def _renew(self, trial_id: int, beat: int, begun: bool = False) -> None:
        attributes.set_lease(self.storage, trial_id, self._lease(beat, begun, self._before.get(trial_id, {})))

    def _lease(self, beat: int, begun: bool, deaths: Deaths) -> Holder:
        lease: Holder = {**self._me, "beat": beat, "begun": begun, "deaths": deaths}
        if (kills := self._oom_kills()) is not None:
            lease["oom_kills"] = kills
        return lease

    def _before_it(self, number: int) -> int:
        """How many trials that count have lower numbers."""
        # in this order, so that none is missed that finishes meanwhile
        numbers = {t.number for t in self._trials(TrialState.RUNNING, TrialState.WAITING) if counts(t)}
        numbers.update(t.number for t in finished(self.study))
        return sum(n < number for n in numbers)

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states)


class Lease:
    """Context that renews one trial's lease from a thread and notices when it is lost."""

    def __init__(self, ledger: Ledger, trial_id: int) -> None:
        self._ledger, self._id = ledger, trial_id
        self._end, self.lost = threading.Event(), False
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Lease:
        try:
            if self._id not in self._ledger._begun:
                self._ledger._renew(self._id, 0, begun=True)
        except UpdateFinishedTrialError:
            self.lost = True
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def check(self) -> None:
        """Raise LeaseLost if the trial belongs to another worker by now."""
        if self.lost:
            raise LeaseLost

    def _beat(self) -> None:
        beat = 0
        while not self._end.wait(self._ledger.interval):
            beat += 1
            try:
                if not self._ledger.is_mine(self._id):
                    self.lost = True
                    return
                self._ledger._renew(self._id, beat, begun=True)
            except UpdateFinishedTrialError:
                self.lost = True
                return
            except Exception:  # the storage is away for a moment; the next beat tries again
                continue
