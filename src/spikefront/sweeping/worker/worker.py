"""A worker: ask, compose, train, tell, until the study is whole. Workers share the study and nothing else."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from optuna import Trial, TrialPruned
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from spikefront.analysis.schema import EpochPoint
from spikefront.cluster.jobs import job_of
from spikefront.cluster.nodes import lost
from spikefront.config import Composer, merge
from spikefront.errors import UserError, mendable
from spikefront.planning import predict_cost
from spikefront.sweeping.search import objectives as objectives_
from spikefront.sweeping.search import pruning
from spikefront.sweeping.search.anytime import Front
from spikefront.sweeping.search.constraints import Constraints, Measured
from spikefront.sweeping.search.objectives import NeverLogged
from spikefront.sweeping.search.optuna_internals import id_of
from spikefront.sweeping.search.space import Space
from spikefront.sweeping.study import accounts, attributes, brought, hosts, servers
from spikefront.sweeping.study import storage as storages
from spikefront.sweeping.study import study as studies
from spikefront.sweeping.study.attributes import DIVERGED, INFEASIBLE, Outcome
from spikefront.sweeping.study.ledger import Lease, LeaseLost, Ledger
from spikefront.sweeping.study.request import shared
from spikefront.sweeping.study.storage_internals import pace
from spikefront.sweeping.worker import trial as trials
from spikefront.sweeping.worker.budgets import Account, Limits
from spikefront.sweeping.worker.callback import TrialCallback
from spikefront.sweeping.worker.feasibility import Feasibility, Infeasible
from spikefront.sweeping.worker.kept import kept, unkept
from spikefront.sweeping.worker.proposal import NoProposal, Repeated, propose, sampler
from spikefront.sweeping.worker.stages import engine_of
from spikefront.sweeping.worker.starved import oom_kills, starved
from spikefront.sweeping.worker.stored import check_address, check_study
from spikefront.training import Diverged, Result, check_data, train
from spikefront.training.devices import count_devices
from spikefront.training.preemption import Interrupted, Signals, StopBetweenBatches
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
        self.train = train
        self.study, self.storage = studies.load(cfg.search)
        self.made = studies.record(self.study)
        if not cfg.search.get("trust"):
            check_study(self.study, cfg, shared(overrides))
            check_address(self.study, cfg)
        self.search = studies.settings(self.study, cfg.search, overrides)
        self.space = Space.stored(self.made["space"])
        self.objectives = self.made["objectives"]
        self.study.sampler = sampler(self.search, self.objectives, self.space)
        self.pruner = instantiate(self.search.pruner) if self.search.pruner else None
        pruning.check(self.pruner, self.search.prune_on, self.objectives)
        pace(self.storage, () if self.pruner else attributes.BULKY)
        self.limits = Limits(self.search, attributes.BEGAN.get(self.study))
        self.limits.check_counters()
        base = merge(self.made["overrides"], shared(overrides))
        self.compose = Composer(base)
        ledger = partial(Ledger, self.study, self.storage, self.search.heartbeat, job=job_of(os.environ))
        self.ledger = ledger(lives=self.search.max_lives, oom_kills=oom_kills, starved=starved, lost=lost)
        self.feasibility = Feasibility(
            Constraints(self.search.constraints, predict_cost),
            self.study,
            self.space,
            self.compose,
            self.ledger.is_mine,
            self._say,
            self.made["exhaustive"],
        )
        self.engine = engine_of(self.study, self.ledger, base, self.search, self.objectives)
        self.signals = Signals(signal.SIGINT)
        if "data" not in self.space.parameters:  # missing data is not a trial's failure
            check_data(self.compose([]))
        if not any(key.startswith("trainer.") for key in self.space.parameters):
            count_devices(self.compose([]).trainer)
        self.devices = 1
        self.bounds = Measured(self.search.constraints)
        self.front = Front(self.objectives, partial(brought.candidate, bounds=self.bounds))
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
                    servers.outlast(self._lead, self._leave)
        self.signals.hand_over()

    def _lead(self) -> None:
        while self.signals.received is None and not self.limits.reached(self.study):
            self.ledger.put_back_the_dead()  # first: it may fail one
            account = accounts.account(self.study)
            account.check_failures(self.search.max_failures)
            if self.search.get("bench_hosts", True):
                hosts.check(self.study, account)
            trial = self.engine.take(account)
            if trial is not None:
                self._current = trial
                self._run(trial)
                self._current = None
                break_up()
            elif account.whole:
                return
            else:
                time.sleep(IDLE)  # someone else's trial may yet come back
        if self.signals.received is None:
            accounts.account(self.study).check_failures(self.search.max_failures)

    def _leave(self) -> None:
        """Return the trial in whose middle the storage's server ended a connection."""
        if self._current is not None:
            self.ledger.put_back(self._current)
            self._say(f"trial {self._current.number} put back: the study's storage had ended a connection")
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
            self._tell(trial, TrialState.FAIL, reason=trials.reason(error))
        break_up()
        os.kill(os.getpid(), signal.SIGKILL)  # as if it had been killed: the sweep starts another worker

    def _run(self, trial: Trial) -> None:
        account = Account(trial)
        with self.ledger.hold(trial) as lease:
            try:
                values = propose(trial, self.study, self.space)
                overrides = self.space.overrides(values)
                self._say(f"trial {trial.number}: " + " ".join(overrides))
                cfg = self.compose(overrides)
                check = partial(self.feasibility.check, trial, cfg)
                metrics = self.engine.run(trial, cfg, partial(self._train, lease, account), check)
                told = objectives_.values(self.objectives, metrics)
            except (Interrupted, LeaseLost, UpdateFinishedTrialError):
                self._spend(trial, account)
                self.ledger.put_back(trial)
                self._say(f"trial {trial.number} put back")
                return
            except Broken as stop:
                self._spend(trial, account)
                self.ledger.died(trial)
                self._say(f"trial {trial.number} put back: {stop}")
                return
            except Repeated as reason:
                INFEASIBLE.set(trial, str(reason))
                self._tell(trial, TrialState.PRUNED, reason=str(reason))
                return
            except Infeasible as reason:
                self._tell(trial, TrialState.PRUNED, reason=str(reason))
                self.feasibility.after_rejection()
                return
            except Diverged as reason:
                self._spend(trial, account)
                DIVERGED.set(trial, str(reason))
                self._tell(trial, TrialState.PRUNED, reason=str(reason))
            except TrialPruned as reason:
                self._spend(trial, account)
                self._tell(trial, TrialState.PRUNED, reason=str(reason))
            except (NeverLogged, NoProposal):
                self.ledger.put_back(trial)
                raise
            except storages.BROKEN:  # the storage failed, not the trial: its lease runs out, another worker goes on
                raise
            except Exception as error:
                if mendable(error) is None:
                    traceback.print_exc()
                self._spend(trial, account)
                if self.signals.received is not None:  # sent to W&B's service as well, for instance, whose end this is
                    self.ledger.put_back(trial)
                    self._say(f"trial {trial.number} put back")
                    return
                if (why := unkept(error, self.made["path"])) is not None:
                    self.ledger.put_back(trial)
                    raise UserError(f"{why}; trial {trial.number} is back in the queue") from error
                self._tell(trial, TrialState.FAIL, reason=trials.reason(error))
                gc.collect()
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
            else:
                self._spend(trial, account)
                self._tell(trial, TrialState.COMPLETE, told)
        self.feasibility.accepted()

    def _train(self, lease: Lease, account: Account, trial: Trial, cfg: DictConfig) -> dict[str, float]:
        """Train the trial's configuration, from its checkpoint if it has one; its metrics."""

        def report(callback: TrialCallback, epoch: int, point: EpochPoint) -> None:
            self.devices = callback.devices
            self._report(trial, epoch, point, last=0 < (cfg.trainer.max_epochs or -1) <= epoch)
            if self.limits.on_trials:
                account.enter(self.devices)
            if epoch > 1:  # by now all that is logged at an epoch's end has been
                objectives_.check_logged(self.objectives, callback.metrics)

        def judge(came: Outcome) -> bool:
            self.front.look(self.study)
            return self.front.takes(brought.would_be(trial.number, came, self.bounds))

        def label(run: DictConfig, part: str) -> None:
            if run.logger and "project" in run.logger:
                own = {"number": trial.number, "params": dict(trial.params), "objectives": dict(self.objectives)}
                again = studies.retraining(self.made, self.space, trial.params, run.threads)
                number = f"{trial.number:05d}{part}"
                run.logger.update(
                    group=self.study.study_name,
                    name=f"{self.study.study_name}-{number}",
                    id=studies.wandb_id(self.study, f"{trial.number}{part}"),
                    job_type="trial",
                    extra={"trial": own, "overrides": again},
                )

        stop = partial(StopBetweenBatches, signals=self.signals, wanted=self.limits.out_of_time)
        output = studies.trial_directory(self.made, trial.number)
        mirror = studies.mirror(self.study, trial.number, partial(self.ledger.is_mine, id_of(trial)))
        with kept(mirror, self.train) as train:
            came = trials.run(train, cfg, output, self.made["seeds"], label, report, lease.check, judge, stop)
        lease.check()
        trials.check_defined(came, self.objectives)
        attributes.set_outcome(trial, came, account.close(self.devices))
        return came["metrics"]

    def _spend(self, trial: Trial, account: Account) -> None:
        if not account.closed and self.ledger.is_mine(id_of(trial)):
            with contextlib.suppress(UpdateFinishedTrialError):
                account.enter(self.devices)

    def _report(self, trial: Trial, epoch: int, point: EpochPoint, last: bool) -> None:
        attributes.set_point(trial, epoch, point)
        if self.pruner is None or last:  # what is trained to its end may as well be told
            return
        where, seen = (self.study, self.storage, id_of(trial)), partial(brought.seen, bounds=self.bounds)
        judged = (self.search.prune_on, self.objectives)
        stop = pruning.decide(self.pruner, *where, attributes.curve, seen, *judged, breaks=self.bounds.broken_by)
        if stop is not None:
            if stop.outlook:
                attributes.OUTLOOK.set(trial, stop.outlook)
            raise TrialPruned(stop.reason)

    def _tell(
        self, trial: Trial, state: TrialState, values: list[float] | None = None, reason: str | None = None
    ) -> None:
        if not self.ledger.is_mine(id_of(trial)):
            self._say(f"trial {trial.number} went to another worker meanwhile")
            return
        with contextlib.suppress(ValueError, UpdateFinishedTrialError):  # told by another between the look and now
            if reason:
                attributes.REASON.set(trial, reason)
            self.study.tell(trial, values, state=state)
        self._say(f"trial {trial.number} {state.name.lower()}{': ' + reason if reason else ''}")

    def _say(self, line: str) -> None:
        print(f"[{time.strftime('%H:%M:%S')}] {line}", flush=True)
