"""A trial's training under its study's eyes: each epoch is reported, and may be the last."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from omegaconf import DictConfig, OmegaConf
from optuna import Trial, TrialPruned
from optuna.study import Study

from spikefront.analysis.schema import EpochPoint
from spikefront.sweeping.search import objectives, pruning
from spikefront.sweeping.search.anytime import Front
from spikefront.sweeping.search.constraints import Measured
from spikefront.sweeping.search.hopeless import hopeless
from spikefront.sweeping.search.optuna_internals import id_of
from spikefront.sweeping.search.space import Space
from spikefront.sweeping.study import attributes, brought
from spikefront.sweeping.study import study as studies
from spikefront.sweeping.study.attributes import Outcome
from spikefront.sweeping.study.ledger import Lease, Ledger
from spikefront.sweeping.worker import trial as trials
from spikefront.sweeping.worker.budgets import Account, Limits
from spikefront.sweeping.worker.callback import TrialCallback
from spikefront.sweeping.worker.kept import kept
from spikefront.training import Result
from spikefront.training.preemption import Signals, StopBetweenBatches


class ObservedTraining:
    """Trains trials' configurations, from their checkpoints if they have some.

    Attributes:
        devices: that the last training had.

    Args:
        train: what trains a configuration, with these Lightning callbacks.
        search: the study's search settings.
        pruner: what may stop a trial after an epoch; None lets all train to their end.
    """

    def __init__(
        self,
        train: Callable[..., Result],
        study: Study,
        ledger: Ledger,
        space: Space,
        search: DictConfig,
        pruner: Any,
        limits: Limits,
        signals: Signals,
    ) -> None:
        self._train, self._study, self._ledger, self._space = train, study, ledger, space
        self._search, self._pruner, self._limits, self._signals = search, pruner, limits, signals
        self._made = studies.record(study)
        self._objectives = self._made["objectives"]
        self._bounds = Measured(search.constraints)
        self._front = Front(self._objectives, partial(brought.candidate, bounds=self._bounds))
        self._seen = pruning.remembered(partial(brought.seen, bounds=self._bounds))
        self.devices = 1

    def __call__(self, lease: Lease, account: Account, trial: Trial, cfg: DictConfig) -> Outcome:
        """Train the trial's configuration; what came of it.

        Raises:
            LeaseLost: the trial is another worker's by now.
            Diverged: an objective came to no number.
            TrialPruned, NeverLogged: see ``_report``.
        """

        def report(callback: TrialCallback, epoch: int, point: EpochPoint) -> None:
            self.devices = callback.devices
            self._report(trial, epoch, point, cfg)
            if self._limits.on_trials:
                account.enter(self.devices)
            if epoch > 1:  # by now all that is logged at an epoch's end has been
                objectives.check_logged(self._objectives, callback.metrics)

        stop = partial(StopBetweenBatches, signals=self._signals, wanted=self._limits.out_of_time)
        output = studies.trial_directory(self._made, trial.number)
        mirror = studies.mirror(self._study, trial.number, partial(self._ledger.is_mine, id_of(trial)))
        label, judge, seeds = partial(self._label, trial), partial(self._judge, trial), self._made["seeds"]
        with kept(mirror, self._train) as train:
            came = trials.run(train, cfg, output, seeds, label, report, lease.check, judge, stop)
        lease.check()
        trials.check_defined(came, self._objectives)
        return came

    def _judge(self, trial: Trial, came: Outcome) -> bool:
        """Whether what a whole trial came to is on the front as it ends."""
        self._front.look(self._study)
        return self._front.takes(brought.would_be(trial.number, came, self._bounds))

    def _label(self, trial: Trial, run: DictConfig, part: str) -> None:
        """Have a run's logger know it as this trial's, or as the given part of it."""
        if not run.logger or "project" not in run.logger:
            return
        own = {"number": trial.number, "params": dict(trial.params), "objectives": dict(self._objectives)}
        again = studies.retraining(self._made, self._space, trial.params, run.threads)
        run.logger.update(
            group=self._study.study_name,
            name=f"{self._study.study_name}-{trial.number:05d}{part}",
            id=studies.wandb_id(self._study, f"{trial.number}{part}"),
            job_type="trial",
            extra={"trial": own, "overrides": again},
        )

    def _report(self, trial: Trial, epoch: int, point: EpochPoint, cfg: DictConfig) -> None:
        """Keep an epoch's point.

        Raises:
            TrialPruned: the trial is stopped here, by the pruner or for its silence.
        """
        attributes.set_point(trial, epoch, point)
        epochs, classes = cfg.trainer.max_epochs or -1, OmegaConf.select(cfg, "data.num_classes")
        if classes and self._search.get("stop_silent") and (why := hopeless(epoch, epochs, point, classes)) is not None:
            attributes.SILENT.set(trial, why)
            attributes.OUTLOOK.set(trial, list(point["anytime"]))
            raise TrialPruned(why)
        if self._pruner is None or 0 < epochs <= epoch:  # what is trained to its end may as well be told
            return
        where, read = (self._study, trial.storage, id_of(trial)), (attributes.curve, self._seen)
        judged = (self._search.prune_on, self._objectives)
        stop = pruning.decide(self._pruner, *where, *read, *judged, breaks=self._bounds.broken_by)
        if stop is not None:
            if stop.outlook:
                attributes.OUTLOOK.set(trial, stop.outlook)
            raise TrialPruned(stop.reason)
