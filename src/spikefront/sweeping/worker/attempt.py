"""A worker's attempt at one trial: propose, compose, train; however that ends, the study is told once."""

from __future__ import annotations

import contextlib
import gc
import traceback
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from optuna import Trial, TrialPruned
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import TrialState

from spikefront.config import Composer
from spikefront.errors import UserError, mendable
from spikefront.sweeping.search import objectives
from spikefront.sweeping.search.objectives import NeverLogged
from spikefront.sweeping.search.optuna_internals import id_of
from spikefront.sweeping.search.space import Space
from spikefront.sweeping.study import study as studies
from spikefront.sweeping.study.attributes import DIVERGED, INFEASIBLE, REASON, SPENT
from spikefront.sweeping.study.ledger import LeaseLost, Ledger
from spikefront.sweeping.study.several_internals import Ending
from spikefront.sweeping.study.storage import BROKEN
from spikefront.sweeping.worker import trial as trials
from spikefront.sweeping.worker.budgets import Account
from spikefront.sweeping.worker.feasibility import Feasibility, Infeasible
from spikefront.sweeping.worker.kept import unkept
from spikefront.sweeping.worker.observed import ObservedTraining
from spikefront.sweeping.worker.proposal import NoProposal, Repeated, propose
from spikefront.sweeping.worker.stages import Engine
from spikefront.sweeping.worker.telling import say
from spikefront.training import Diverged
from spikefront.training.preemption import Interrupted, Signals
from spikefront.training.team import Broken


class Attempts:
    """What one worker does with the trials that it takes.

    Args:
        compose: a trial's configuration from its overrides.
        signals: that ask this process to stop.
    """

    def __init__(
        self,
        study: Study,
        ledger: Ledger,
        space: Space,
        compose: Composer,
        feasibility: Feasibility,
        engine: Engine,
        training: ObservedTraining,
        signals: Signals,
    ) -> None:
        self._study, self._ledger, self._space, self._compose = study, ledger, space, compose
        self._feasibility, self._engine, self._training, self._signals = feasibility, engine, training, signals
        made = studies.record(study)
        self._objectives, self._place = made["objectives"], made["path"]

    def run(self, trial: Trial) -> None:
        """Try a trial, and tell the study what came of it, or give it back.

        Raises:
            UserError: what is no trial's fault, and would be every other's too; the trial is back in the queue.
        """
        account = Account(trial)
        with self._ledger.hold(trial) as lease:
            try:
                values = propose(trial, self._study, self._space)
                overrides = self._space.overrides(values)
                say(f"trial {trial.number}: " + " ".join(overrides))
                cfg = self._compose(overrides)
                check = partial(self._feasibility.check, trial, cfg)
                came = self._engine.run(trial, cfg, partial(self._training, lease, account), check)
                told = objectives.values(self._objectives, came["metrics"])
            except (Interrupted, LeaseLost, UpdateFinishedTrialError):
                self._spend(trial, account)
                self.put_back(trial)
                return
            except Broken as stop:
                self._spend(trial, account)
                self._ledger.died(trial)
                say(f"trial {trial.number} put back: {stop}")
                return
            except Repeated as reason:
                self._tell(trial, TrialState.PRUNED, reason, {INFEASIBLE.name: str(reason)})
                return
            except Infeasible as reason:
                self._tell(trial, TrialState.PRUNED, reason)
                self._feasibility.after_rejection()
                return
            except Diverged as reason:
                self._tell(trial, TrialState.PRUNED, reason, {**self._spent(account), DIVERGED.name: str(reason)})
            except TrialPruned as reason:
                self._tell(trial, TrialState.PRUNED, reason, self._spent(account))
            except (NeverLogged, NoProposal):
                self._ledger.put_back(trial)
                raise
            except BROKEN:  # the storage failed, not the trial: its lease runs out, another worker goes on
                raise
            except Exception as error:
                if not self._failed(trial, account, error):
                    return
            else:
                self._tell(trial, TrialState.COMPLETE, None, {**came, **self._spent(account)}, told)
        self._feasibility.accepted()

    def put_back(self, trial: Trial, why: str = "") -> None:
        """Return a trial unfinished."""
        self._ledger.put_back(trial)
        say(f"trial {trial.number} put back{why}")

    def fail(self, trial: Trial, error: BaseException) -> None:
        """Tell that a trial failed."""
        self._tell(trial, TrialState.FAIL, trials.reason(error))

    def _failed(self, trial: Trial, account: Account, error: Exception) -> bool:
        """Say what ended a trial that nobody foresaw; whether the trial is told to have failed.

        Raises:
            UserError: there is no room to train in.
        """
        if mendable(error) is None:
            traceback.print_exception(error)
        self._spend(trial, account)
        if self._signals.received is not None:  # sent to W&B's service as well, for instance, whose end this is
            self.put_back(trial)
            return False
        if (why := unkept(error, self._place)) is not None:
            self._ledger.put_back(trial)
            raise UserError(f"{why}; trial {trial.number} is back in the queue") from error
        self.fail(trial, error)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return True

    def _spend(self, trial: Trial, account: Account) -> None:
        if self._ledger.is_mine(id_of(trial)):
            with contextlib.suppress(UpdateFinishedTrialError):
                account.enter(self._training.devices)

    def _spent(self, account: Account) -> dict[str, Any]:
        """What the trial took, to be told with its end."""
        return {SPENT.name: account.total(self._training.devices)}

    def _tell(
        self,
        trial: Trial,
        state: TrialState,
        reason: Any = None,
        kept: Mapping[str, Any] | None = None,
        values: list[float] | None = None,
    ) -> None:
        why = {} if reason is None else {REASON.name: str(reason)}
        self._engine.tell(Ending(trial, state, values, {**(kept or {}), **why}))
