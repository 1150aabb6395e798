"""How a study comes by its trials' weights: each trains its own, or one elastic training has them all."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import psutil
from omegaconf import DictConfig, open_dict
from optuna import Trial
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from spikefront.analysis import pareto
from spikefront.analysis.front import front_of, minimised, reference_point
from spikefront.analysis.schema import Directions
from spikefront.cluster.stores import local
from spikefront.errors import UserError
from spikefront.sweeping.search.constraints import Measured
from spikefront.sweeping.study import attributes, brought
from spikefront.sweeping.study import study as studies
from spikefront.sweeping.study.accounts import Account, came_to_nothing, counts, pairs
from spikefront.sweeping.study.attributes import INHERITED, STAGE, TRAINING, TUNING, Outcome
from spikefront.sweeping.study.ledger import Ledger
from spikefront.sweeping.study.several_internals import Ending
from spikefront.sweeping.worker import trial as trials
from spikefront.sweeping.worker.callback import TrialCallback
from spikefront.sweeping.worker.feasibility import Infeasible
from spikefront.sweeping.worker.proposal import Repeated
from spikefront.sweeping.worker.telling import Batch, tell
from spikefront.training import Heirs
from spikefront.training.devices import all_threads, pin

Train = Callable[[Trial, DictConfig], Outcome]
Check = Callable[[], None]
KEPT = {  # of an elastic training, whatever conf/callbacks keeps
    "_target_": "pytorch_lightning.callbacks.ModelCheckpoint",
    "filename": "last",
    "save_on_train_epoch_end": True,
    "enable_version_counter": False,
}
BETTER = 0.3  # of its errors, what fine-tuning is expected to mend as long as none was fine-tuned


class Engine(Protocol):
    """What differs between the ways to come by weights."""

    def next(self) -> Trial | None:
        """A trial to run that was taken before, with others."""

    def take(self, account: Account) -> Trial | None:
        """A trial to run, if there is one for this worker now."""

    def run(self, trial: Trial, cfg: DictConfig, train: Train, check: Check) -> Outcome:
        """What a trial comes to; ``train`` trains a configuration in its place, ``check`` refuses what breaks a
        constraint."""

    def tell(self, ending: Ending) -> None:
        """Tell the study how a trial ended, at the latest when ``next`` has none or by ``close``."""

    def close(self) -> None:
        """Have nothing left that was taken or is to be told."""


class Independent:
    """Every trial trains its own network."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def next(self) -> Trial | None:
        return None

    def take(self, account: Account) -> Trial | None:
        return self._ledger.take(account.budget)

    def run(self, trial: Trial, cfg: DictConfig, train: Train, check: Check) -> Outcome:
        check()
        return train(trial, cfg)

    def tell(self, ending: Ending) -> None:
        tell(self._ledger, ending)

    def close(self) -> None: ...


class FromOne:
    """One trial trains the largest network and all its slices; the others evaluate slices; some are trained on.

    Args:
        base: overrides that all trials have.
        search: the study's search settings.
    """

    def __init__(
        self, study: Study, ledger: Ledger, base: list[str], search: Mapping[str, Any], objectives: Directions
    ) -> None:
        self._study, self._ledger, self._base, self._objectives = study, ledger, base, objectives
        self._search, self._engine = search, search["engine"]
        self._batch = Batch(study, ledger)
        self._heirs: Heirs | None = None
        self._came: dict[str, Outcome] = {}  # of each network that was evaluated here, as samplers propose some again

    def next(self) -> Trial | None:
        return self._batch.next()

    def tell(self, ending: Ending) -> None:
        if STAGE.get(ending.trial) is None:
            self._batch.tell(ending)
        else:
            tell(self._ledger, ending)

    def close(self) -> None:
        self._batch.close()

    def take(self, account: Account) -> Trial | None:
        left = account.stages
        assert left is not None
        finished = len(account.finished)
        if left.training:  # it waits in the queue, before all others
            self._check_training()
            return self._ledger.take(finished + 1)
        if left.evaluations:
            return self._batch.take(finished + left.evaluations, left.evaluations)
        if left.tunings and not self._queue_the_best():
            return None
        return self._ledger.take(finished + left.tunings)

    def run(self, trial: Trial, cfg: DictConfig, train: Train, check: Check) -> Outcome:
        stage = STAGE.get(trial)
        if stage == TRAINING:
            broken = None
            try:
                check()
            except Infeasible as reason:  # the others need it all the same
                broken = reason
            came = self._train(trial, cfg, train)
            if broken is not None:
                attributes.set_outcome(trial, came)
                raise broken
            return came
        check()
        if stage is None:
            with self._batch.timed():
                return self._evaluate(trial, cfg)
        self._alone(trial)
        with open_dict(cfg):
            cfg.init = {"checkpoint": str(self._checkpoint()), "slice": False}
            cfg.trainer.max_epochs = self._search["finetune_epochs"] or math.ceil(_epochs(cfg) / 2)
        return train(trial, cfg)

    def _train(self, trial: Trial, cfg: DictConfig, train: Train) -> Outcome:
        elastic = attributes.ELASTIC.get(self._study)
        assert elastic is not None
        own = {key: elastic[key] for key in ("largest", "smallest", "pool", "scalars", "ranges") if key in elastic}
        how = {
            key: self._engine[key] for key in ("random", "distillation", "rate_weight", "warmup_epochs", "norm_batches")
        }
        with open_dict(cfg):
            cfg.elastic = {"base": self._base, **own, **how}
            cfg.trainer.max_epochs = self._engine["epochs"] or 2 * _epochs(cfg)
            cfg.callbacks.best = None  # for the largest network: the last is the best for all
            cfg.callbacks.last = {**KEPT, "dirpath": "${output_dir}/checkpoints"}
        mine = pin(_of_all_workers())  # the others wait
        try:
            with open_dict(cfg):
                cfg.threads = cfg.get("threads") or all_threads(cfg.trainer)
            came = train(trial, cfg)
        finally:
            pin(mine)
        begun = any(not STAGE.on(t) for t in self._study.get_trials(deepcopy=False))
        if elastic["first"] and not begun:
            attributes.enqueue(self._study, elastic["first"], elastic["first_origin"])
        return came

    def _check_training(self) -> None:
        """Raise UserError if the elastic training has failed, as nothing can follow it."""
        stages = [t for t in self._study.get_trials(deepcopy=False) if STAGE.get(t) == TRAINING]
        if all(came_to_nothing(t) for t in stages):
            why = attributes.REASON.get(stages[-1]) if stages else None
            raise UserError(f"the elastic training failed ({why or 'unknown'}): the same command begins it again")

    def _checkpoint(self) -> Path:
        found = studies.elastic_checkpoint(self._study, fetch=True)
        if found is None:  # what was queued by a warm start before a training that failed
            raise UserError("the elastic training is not done yet: action=retry of study.py, once it is")
        return found

    def _evaluate(self, trial: Trial, cfg: DictConfig) -> Outcome:
        if self._heirs is None:
            self._heirs = Heirs(self._checkpoint())
        began, which = time.perf_counter(), json.dumps(trial.params, sort_keys=True)
        if (before := self._came.get(which)) is not None:
            seconds = time.perf_counter() - began
            return {**before, "seconds": seconds, "metrics": {**before["metrics"], "seconds": seconds}}
        callback = TrialCallback(lambda *_: None, lambda: None)
        with open_dict(cfg):
            cfg.output_dir = str(local(studies.record(self._study)["path"]))
        model, validation = self._heirs.evaluate(cfg, [callback])
        callback.metrics.pop("memory", None)  # a training's
        parameters = sum(p.numel() for p in model.parameters())
        seconds = time.perf_counter() - began
        came = trials.outcome(validation, callback, parameters, seconds, cfg.seed)
        trials.check_defined(came, self._objectives)
        self._came[which] = came
        return came

    def _queue_the_best(self) -> bool:
        """Queue the fine-tuning of the network that may add most to the front, if none waits; whether one does now."""
        every = self._study.get_trials(deepcopy=False)
        tunings = [t for t in every if STAGE.get(t) == TUNING]
        if any(t.state == TrialState.WAITING for t in tunings):
            return True
        if sum(counts(t) and t.state != TrialState.FAIL for t in tunings) >= self._engine["finetune"]:
            return False  # the last ones run
        best = promising(every, self._objectives, Measured(self._search["constraints"]))
        if best is None:
            return False
        more = {STAGE.name: TUNING, INHERITED.name: best.number}
        attributes.enqueue(self._study, best.params, f"trial {best.number}, fine-tuned", **more)
        return True

    def _alone(self, trial: Trial) -> None:
        """Raise Repeated if an earlier trial fine-tunes the same network: two workers chose it at one moment."""
        for other in self._study.get_trials(deepcopy=False):
            same = other.number < trial.number and INHERITED.on(other) and other.state != TrialState.FAIL
            if same and INHERITED.get(other) == INHERITED.get(trial) and counts(other):
                raise Repeated(f"{attributes.REPEATS}{other.number}")


def engine_of(
    study: Study, ledger: Ledger, base: list[str], search: Mapping[str, Any], objectives: Directions
) -> Engine:
    """A worker's way to come by its trials' weights."""
    if attributes.ELASTIC.get(study) is None:
        return Independent(ledger)
    return FromOne(study, ledger, base, search, objectives)


def _epochs(cfg: DictConfig) -> int:
    return int(cfg.trainer.max_epochs or 1)


def _of_all_workers() -> list[int] | None:
    """The cores that the process has which started this worker on its share of them; None where none are known."""
    return psutil.Process(os.getppid()).cpu_affinity() if hasattr(psutil.Process, "cpu_affinity") else None


def promising(
    every: list[FrozenTrial], objectives: Directions, bounds: Measured = brought.UNBOUND
) -> FrozenTrial | None:
    """The evaluated network whose fine-tuning may add the most hypervolume to the front; None if all were fine-tuned.

    It is expected to mend as large a share of its errors as those that were fine-tuned did; it spends what it did.
    """
    complete = [t for t in every if t.state == TrialState.COMPLETE]
    begun = {INHERITED.get(t) for t in every if INHERITED.on(t)}
    left = [t for t in complete if not STAGE.on(t) and t.number not in begun]
    if not left:
        return None
    mended = [BETTER] + [_mended(before, after) for before, after in pairs(every)]
    share = float(np.mean(mended))
    known = [brought.candidate(t, objectives, bounds) for t in complete]
    reference = reference_point(known, objectives)
    front = np.array([minimised(p["values"], objectives) for p in front_of(known, objectives)])
    now = pareto.hypervolume(front, reference)

    def gain(trial: FrozenTrial) -> float:
        values = brought.candidate(trial, objectives)["values"]
        if "accuracy" in values:
            values["accuracy"] += share * (1 - values["accuracy"])
        if bounds.broken({**attributes.outcome(trial).get("metrics", {}), **values}):
            return 0.0
        return pareto.hypervolume([*front, minimised(values, objectives)], reference) - now

    return max(left, key=lambda t: (gain(t), -t.number))


def _mended(before: float, after: float) -> float:
    return (after - before) / (1 - before) if before < 1 else 0.0
