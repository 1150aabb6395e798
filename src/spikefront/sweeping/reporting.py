"""The Lightning callback between a training run and its trial: every epoch's point, and whether the trial is ours."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch

from spikefront.training import EnergyCallback, Result


class TrialCallback(pl.Callback):
    """Hands each epoch's validation point to ``report`` and calls ``check`` after each batch.

    ``metrics`` is everything Lightning logged last, with ``latency`` (seconds a sample of the last evaluation).

    Args:
        report: gets ``{"epoch", "accuracy", "energy_joules", "firing_rate", "anytime"}`` after each training epoch's
            validation, and may raise to end the run.
        check: raises to end the run, nothing saved.
        judge: what the sweep knows about a result, such as whether it is on the front.
    """

    def __init__(
        self,
        report: Callable[[dict[str, Any]], None],
        check: Callable[[], None],
        judge: Callable[[Result], dict[str, Any]] = lambda _: {},
    ) -> None:
        self._report, self._check, self._judge = report, check, judge
        self.metrics: dict[str, float] = {}
        self.groups: dict[str, float] = {}
        self.layers: list[dict[str, Any]] = []
        self.said: dict[str, Any] = {}
        self._started = 0.0

    def conclude(self, result: Result) -> dict[str, Any]:
        """What is logged beside the result: what only this run measured, and what the sweep says about it."""
        self.said = self._judge(result)
        measured: dict[str, Any] = {k: self.metrics[k] for k in ("latency", "memory") if k in self.metrics}
        return {**measured, "energy_groups": self.groups, **self.said}

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._check()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seconds = time.perf_counter() - self._started
        energy = next(c for c in trainer.callbacks if isinstance(c, EnergyCallback)).report  # type: ignore[attr-defined]
        self.metrics.update({k: float(v) for k, v in trainer.callback_metrics.items()})
        if energy is None:
            return
        self.metrics["latency"] = seconds / max(1, energy.samples)
        self.groups = energy.groups
        self.layers = [{k: row[k] for k in ("name", "group", "joules", "firing_rate")} for row in energy.rows()]
        if torch.cuda.is_available():
            self.metrics["memory"] = torch.cuda.max_memory_allocated()
        loss = self.metrics.get("train/loss", self.metrics.get("val/loss", 0.0))
        if trainer.state.fn == "fit" and not trainer.sanity_checking and math.isfinite(loss):
            accuracies: list[float] = pl_module.anytime_accuracy  # type: ignore[assignment]
            self._report(
                {
                    "epoch": trainer.current_epoch + 1,
                    "accuracy": accuracies[-1],
                    "energy_joules": energy.total_joules,
                    "firing_rate": energy.firing_rate,
                    "anytime": list(zip(accuracies, energy.anytime_joules, strict=True)),
                }
            )
