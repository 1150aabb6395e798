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
import functools
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from optuna import Trial
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from spikefront.start import RAY_NODE
from spikefront.sweeping.search.optuna_internals import as_asked, id_of
from spikefront.sweeping.study import attributes, deaths
from spikefront.sweeping.study.accounts import counts, finished
from spikefront.sweeping.study.attributes import REASON, Deaths, Holder
from spikefront.sweeping.study.storage_internals import looked

SETTLE = 1.0  # seconds until a returned trial is its new worker's: no storage lets one compare and set in one step
SAME_START = 2.0  # seconds: two processes of one number that started within so few are one, its clock set meanwhile


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
        self._me: Holder = {"id": uuid.uuid4().hex, **_identity(os.getpid())}
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

    def hold(self, trial: Trial) -> Lease:
        """Renews the trial's lease while its context lasts."""
        return Lease(self, id_of(trial))

    def put_back(self, trial: Trial) -> None:
        """Return a trial of ours unfinished: whoever asks next continues it."""
        if self.is_mine(id_of(trial)):
            self._set_waiting(id_of(trial), self._before.get(id_of(trial), {}))

    def died(self, trial: Trial) -> None:
        """The same where it ended a process of ours: a few times it is returned, then it has failed."""
        frozen = self.storage.get_trial(id_of(trial))
        if self.is_mine(id_of(trial)):
            self._bury(frozen, attributes.lease(frozen) or {})

    def is_mine(self, trial_id: int) -> bool:
        """Whether the trial still runs under this worker's lease."""
        state, lease = attributes.lease_now(self.storage, trial_id)
        return state == TrialState.RUNNING and (lease or {}).get("id") == self._me["id"]

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
            if lease and lease.get("id") == self._me["id"]:
                continue
            seen, since = self._seen.get(id_of(trial), (object(), now))
            if seen != lease:
                self._seen[id_of(trial)] = (lease, now)
                since = now
            if gone(lease) or now - since > self._patience:
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
        lease: Holder = {**self._me, "beat": beat, "begun": begun, "deaths": self._before.get(trial_id, {})}
        if (kills := self._oom_kills()) is not None:
            lease["oom_kills"] = kills
        attributes.set_lease(self.storage, trial_id, lease)

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


def _identity(pid: int) -> Holder:
    return {"host": _host(), "pid": pid, "since_boot": _since_boot(pid)}


@functools.cache
def _host() -> str:
    """The machine, its boot and its process namespace: where a process number means something. On Ray also the node.

    The last two are read here, as psutil has no name for them: containers share host names, and each counts processes
    for itself.
    """
    parts = [platform.node()]
    for read in (
        lambda: Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip(),
        lambda: os.readlink("/proc/self/ns/pid"),
    ):
        parts.append(_try(read))
    node = os.environ.get(RAY_NODE)
    return "|".join([*parts, node] if node else parts)


def _try(read: Callable[[], str]) -> str:
    try:
        return read()
    except OSError:
        return ""


def _since_boot(pid: int) -> float | None:
    """Seconds from the machine's start to the process's, which no clock changes; None if there is no such process.

    Raises:
        psutil.AccessDenied: the system doesn't tell.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        boot = psutil.boot_time()  # first: both follow the wall clock, and older psutil adds the one read last
        return process.create_time() - boot
    except psutil.NoSuchProcess:
        return None


def gone(lease: Holder | None) -> bool:
    """Whether the lease's process is known to be gone: only its own machine can tell.

    Workers of versions that wrote ``started`` instead are judged by their silence alone, as are ours by them.
    """
    told = lease.get("since_boot") if lease else None
    if not lease or told is None or lease.get("host") != _host():
        return False
    try:
        since_boot = _since_boot(lease["pid"])
    except psutil.AccessDenied:
        return False
    return since_boot is None or abs(since_boot - told) > SAME_START
