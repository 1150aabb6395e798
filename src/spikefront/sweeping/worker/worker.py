"""A worker: ask, compose, train, tell, until the study is whole. Workers share the study and nothing else."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence

from hydra.utils import instantiate
from omegaconf import DictConfig
from optuna import Trial

from spikefront.cluster.jobs import job_of
from spikefront.cluster.nodes import lost
from spikefront.config import Composer, merge
from spikefront.planning import predict_cost
from spikefront.sweeping.search import engines, pruning
from spikefront.sweeping.search.constraints import Constraints
from spikefront.sweeping.search.space import Space
from spikefront.sweeping.study import accounts, attributes, hosts, servers
from spikefront.sweeping.study import storage as storages
from spikefront.sweeping.study import study as studies
from spikefront.sweeping.study.ledger import Ledger
from spikefront.sweeping.study.request import shared
from spikefront.sweeping.study.storage_internals import pace
from spikefront.sweeping.worker.attempt import Attempts
from spikefront.sweeping.worker.budgets import Limits
from spikefront.sweeping.worker.feasibility import Feasibility
from spikefront.sweeping.worker.observed import ObservedTraining
from spikefront.sweeping.worker.proposal import sampler
from spikefront.sweeping.worker.stages import engine_of
from spikefront.sweeping.worker.starved import oom_kills, starved
from spikefront.sweeping.worker.stored import check_address, check_study
from spikefront.sweeping.worker.telling import say
from spikefront.training import Result, check_data, train
from spikefront.training.devices import count_devices
from spikefront.training.preemption import Signals
from spikefront.training.team import Broken
from spikefront.training.together import break_up, leading, served

IDLE = 0.5  # seconds between looks when all that is left runs elsewhere


class Worker:
    """Runs trials of ``cfg.search.study`` in this process.

    Args:
        cfg: ``conf/sweep.yaml`` composed.
        overrides: this worker's own Hydra overrides, over the study's.
        train: what trains a configuration, with these Lightning callbacks.

    Raises:
        UserError: no such study, or its storage can't be used.
    """

    def __init__(self, cfg: DictConfig, overrides: Sequence[str] = (), train: Callable[..., Result] = train) -> None:
        self.study, self.storage = studies.load(cfg.search)
        self.made = studies.record(self.study)
        if not cfg.search.get("trust"):
            check_study(self.study, cfg, shared(overrides))
            check_address(self.study, cfg)
        self.search = studies.settings(self.study, cfg.search, overrides)
        self.signals = Signals(signal.SIGINT)
        space, objectives = Space.stored(self.made["space"]), self.made["objectives"]
        self.pruner = instantiate(self.search.pruner) if self.search.pruner else None
        pruning.check(self.pruner, self.search.prune_on, objectives)
        pace(self.storage, pruning.unread(self.pruner, attributes.EPOCHS, attributes.UNSEARCHED))
        self.limits = Limits(self.search, attributes.BEGAN.get(self.study))
        self.limits.check_counters()
        base = merge(self.made["overrides"], shared(overrides))
        self.compose = Composer(base)
        untrained = self.compose if engines.of(self.search) == engines.TRIALS else None
        self.study.sampler = sampler(self.search, objectives, space, untrained)
        self.ledger = Ledger(
            self.study,
            self.storage,
            self.search.heartbeat,
            job=job_of(os.environ),
            lives=self.search.max_lives,
            oom_kills=oom_kills,
            starved=starved,
            lost=lost,
        )
        self.engine = engine_of(self.study, self.ledger, base, self.search, objectives)
        feasibility = Feasibility(
            Constraints(self.search.constraints, predict_cost),
            self.study,
            space,
            self.compose,
            self.ledger.is_mine,
            say,
            self.made["exhaustive"],
        )
        observed = ObservedTraining(
            train, self.study, self.ledger, space, self.search, self.pruner, self.limits, self.signals
        )
        self.attempts = Attempts(
            self.study, self.ledger, space, self.compose, feasibility, self.engine, observed, self.signals
        )
        if "data" not in space.parameters:  # missing data is not a trial's failure
            check_data(self.compose([]))
        if not any(key.startswith("trainer.") for key in space.parameters):
            count_devices(self.compose([]).trainer)
        self._current: Trial | None = None

    def run(self) -> None:
        """Run trials until the study has as many finished ones as it shall, or a signal says to stop.

        A signal lets the running trial write its checkpoint and go back to the queue; then whoever had the signal
        before gets it (submitit requeues its job).

        Raises:
            UserError: more than ``search.max_failures`` failed trials, an objective never logged, the storage gone.
        """
        with self.signals, storages.storage_errors(self.made["storage"]):
            if not served(self.signals):
                with leading(self._give_up):
                    try:
                        servers.outlast(self._lead, self._leave)
                    finally:
                        self.engine.close()
        self.signals.hand_over()

    def _lead(self) -> None:
        while self.signals.received is None and not self.limits.reached(self.study):
            trial = self.engine.next() or self._take()
            if trial is not None:
                self._current = trial
                self.attempts.run(trial)
                self._current = None
                break_up()
            elif accounts.account(self.study).whole:
                return
            else:
                time.sleep(IDLE)  # someone else's trial may yet come back
        if self.signals.received is None:
            self.engine.close()
            accounts.account(self.study).check_failures(self.search.max_failures)

    def _take(self) -> Trial | None:
        self.ledger.put_back_the_dead()  # first: it may fail one
        account = accounts.account(self.study)
        account.check_failures(self.search.max_failures)
        if self.search.get("bench_hosts", True):
            hosts.check(self.study, account)
        return self.engine.take(account)

    def _leave(self) -> None:
        """Return the trial in whose middle the storage's server ended a connection."""
        if self._current is not None:
            self.attempts.put_back(self._current, ": the study's storage had ended a connection")
        self._current = None
        break_up()

    def _give_up(self, error: BaseException) -> None:
        """This process hangs, as another of its trial's processes is gone, and ends: the trial shall not."""
        if (trial := self._current) is None:
            return
        if self.signals.received is not None:
            self.ledger.put_back(trial)
        elif isinstance(error, Broken):
            self.ledger.died(trial)
        else:
            self.attempts.fail(trial, error)
        break_up()
        os.kill(os.getpid(), signal.SIGKILL)  # as if it had been killed: the sweep starts another worker
