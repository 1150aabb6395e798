"""A worker: ask, compose, train, tell, until the study is whole. Workers share the study and nothing else."""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict
from optuna import Trial, TrialPruned
from optuna.trial import FrozenTrial, TrialState

from spikefront.errors import UserError
from spikefront.sweeping import objectives as objectives_
from spikefront.sweeping import pruning
from spikefront.sweeping import study as studies
from spikefront.sweeping.configuration import Composer, merge
from spikefront.sweeping.ledger import Lease, LeaseLost, Ledger
from spikefront.sweeping.records import front_of, records
from spikefront.sweeping.reporting import TrialCallback
from spikefront.sweeping.space import Space
from spikefront.training import Result, train
from spikefront.training.preemption import LAST, Interrupted, Signals, StopBetweenBatches

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
        self.search = cfg.search
        self.study, self.storage = studies.load(self.search)
        self.made = studies.record(self.study)
        self.space = Space.parse(self.made["space"])
        self.objectives: dict[str, str] = self.made["objectives"]
        self.study.sampler = instantiate(self.search.sampler)
        self.pruner = instantiate(cfg.search.pruner) if cfg.search.pruner else None
        if self.pruner is not None:
            pruning.check(self.pruner, self.search.prune_on, self.objectives)
        own = [o for o in overrides if not o.startswith(("search.", "hydra."))]
        self.compose = Composer(merge(self.made["overrides"], own))
        self.ledger = Ledger(self.study, self.storage, self.search.heartbeat)
        self.signals = Signals(signal.SIGINT)

    def run(self) -> None:
        """Run trials until the study has as many finished ones as it shall, or a signal says to stop.

        A signal lets the running trial write its checkpoint and go back to the queue; then whoever had the signal
        before gets it (submitit requeues its job).

        Raises:
            UserError: more than ``search.max_failures`` failed trials, an objective never logged, the storage gone.
        """
        with self.signals, studies.storage_errors(self.made["storage"]):
            while self.signals.received is None:
                budget = self._budget()
                trial = self.ledger.take(budget)
                if trial is not None:
                    self._run(trial)
                elif self.ledger.finished() >= budget:
                    return
                else:
                    time.sleep(IDLE)  # someone else's trial may yet come back
                self._check_failures()
        self.signals.hand_over()

    def _budget(self) -> int:
        """How many finished trials the study shall have; an exhaustive search doesn't try again what failed."""
        budget = self.study.user_attrs[studies.BUDGET]
        return budget - len(self._failed()) if self.made["exhaustive"] else budget

    def _run(self, trial: Trial) -> None:
        with self.ledger.hold(trial) as lease:
            try:
                values = self.space.suggest(trial)
                self._say(f"trial {trial.number}: " + " ".join(self.space.overrides(values)))
                metrics = self._train(trial, values, lease)
                told = objectives_.values(self.objectives, metrics)
                if not all(map(math.isfinite, told)):
                    raise FloatingPointError(f"not finite: {dict(zip(self.objectives, told, strict=True))}")
            except (Interrupted, LeaseLost):
                self.ledger.put_back(trial)
                self._say(f"trial {trial.number} put back")
                return
            except TrialPruned as reason:
                self._tell(trial, TrialState.PRUNED, reason=str(reason))
            except UserError as error:
                if str(error).startswith("the objective"):
                    self.ledger.put_back(trial)
                    raise
                self._tell(trial, TrialState.FAIL, reason=str(error))
            except Exception as error:
                traceback.print_exc()
                self._tell(trial, TrialState.FAIL, reason=_reason(error))
                gc.collect()
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
            else:
                self._tell(trial, TrialState.COMPLETE, told)

    def _train(self, trial: Trial, values: dict[str, Any], lease: Lease) -> dict[str, float]:
        """Train the trial's configuration, from its checkpoint if it has one; its metrics."""
        output = Path(self.made["path"]) / "trials" / f"{trial.number:05d}"
        overrides = self.space.overrides(values)
        cfg = self.compose(overrides)
        with open_dict(cfg):
            cfg.output_dir = str(output)
            if (output / LAST).is_file():
                cfg.resume = str(output / LAST)
            if cfg.logger and "project" in cfg.logger:
                own = {"number": trial.number, "params": dict(trial.params), "objectives": dict(self.objectives)}
                cfg.logger.update(
                    group=self.study.study_name,
                    name=f"{self.study.study_name}-{trial.number:05d}",
                    id=studies.wandb_id(self.study, trial.number),
                    job_type="trial",
                    extra={"trial": own, "overrides": [*self.made["command"], *overrides]},
                )
        done = output / "trial.json"
        if not done.is_file():  # else a worker died between training and telling
            callback = TrialCallback(
                lambda point: self._report(trial, point),
                lease.check,
                lambda result: {"on_front": self._on_front(_attributes(cfg, callback, result))},
            )
            result = self.train(cfg, [callback, StopBetweenBatches(output / LAST, self.signals)])
            attributes = _attributes(cfg, callback, result) | {"front_then": callback.said.get("on_front")}
            scratch = done.with_suffix(f".{os.getpid()}.tmp")
            scratch.write_text(json.dumps(attributes))
            scratch.replace(done)
        attributes = json.loads(done.read_text())
        lease.check()
        for key, value in attributes.items():
            trial.set_user_attr(key, value)
        return attributes["metrics"]

    def _on_front(self, attributes: dict[str, Any]) -> bool:
        """Whether no trial finished by now dominates all points of the one that has these attributes."""
        own = {"number": -1, "params": {}, "values": dict(attributes["metrics"]), **attributes}
        others = [t for t in records(self.study)["trials"] if t["state"] == "complete"]
        return any(p["number"] == -1 for p in front_of([*others, own], self.objectives))

    def _report(self, trial: Trial, point: dict[str, Any]) -> None:
        trial.set_user_attr(f"epoch:{point['epoch']}", {k: v for k, v in point.items() if k != "epoch"})
        if self.pruner is not None:
            on = self.search.prune_on
            reason = pruning.decide(self.pruner, self.study, self.storage, trial._trial_id, on, self.objectives)
            if reason:
                raise TrialPruned(reason)

    def _tell(
        self, trial: Trial, state: TrialState, values: list[float] | None = None, reason: str | None = None
    ) -> None:
        if not self.ledger.is_mine(trial._trial_id):
            self._say(f"trial {trial.number} went to another worker meanwhile")
            return
        if reason:
            trial.set_user_attr("reason", reason)
        with contextlib.suppress(ValueError):  # told by another worker between the look and now
            self.study.tell(trial, values, state=state)
        self._say(f"trial {trial.number} {state.name.lower()}{': ' + reason if reason else ''}")

    def _failed(self) -> list[FrozenTrial]:
        failed = self.study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
        return [t for t in failed if "infeasible" not in t.user_attrs]

    def _check_failures(self) -> None:
        failed = self._failed()
        if len(failed) > self.search.max_failures:
            raise UserError(
                f"{len(failed)} trials failed, more than search.max_failures={self.search.max_failures}; the last:"
                f" {failed[-1].user_attrs.get('reason', 'unknown')}"
            )

    def _say(self, line: str) -> None:
        print(f"[{time.strftime('%H:%M:%S')}] {line}", flush=True)


def _attributes(cfg: DictConfig, callback: TrialCallback, result: Result) -> dict[str, Any]:
    """What the study keeps of a finished run."""
    assert result.validation is not None
    validation = result.validation
    metrics = {
        **callback.metrics,
        "accuracy": validation.accuracy,
        "energy": validation.energy_joules,
        "firing_rate": validation.firing_rate,
        "parameters": result.parameters,
        "seconds": result.seconds,
    }
    return {
        "metrics": {k: v for k, v in metrics.items() if math.isfinite(v)},
        "anytime": validation.anytime,
        "test": {k: getattr(result, k) for k in ("accuracy", "energy_joules", "anytime")},
        "firing_rate": validation.firing_rate,
        "parameters": result.parameters,
        "seconds": result.seconds,
        "epochs": result.epochs,
        "convention": result.convention,
        "energy_groups": callback.groups,
        "energy_layers": callback.layers,
        "seed": cfg.seed,
    }


def _reason(error: BaseException) -> str:
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "out of memory" in str(error):
        return "out of memory"
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
