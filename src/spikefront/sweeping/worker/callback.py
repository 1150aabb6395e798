"""The Lightning callback between a training run and its trial: every epoch's point, and whether the trial is ours."""

from __future__ import annotations

import ctypes
import gc
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytorch_lightning as pl
import torch
from optuna import TrialPruned

from spikefront.analysis.schema import EpochPoint, Layer
from spikefront.training import EnergyCallback, Result
from spikefront.training.vitals import peak, wait_for


class TrialCallback(pl.Callback):
    """Hands each epoch's validation point to ``report`` and calls ``check`` after each batch.

    ``metrics`` is everything Lightning logged last, with ``latency``, the median over the last evaluation's batches of
    seconds a sample, and ``memory``, the bytes at the peak: of the GPU, or of this process beyond what it held before.

    Args:
        report: gets this callback, the epoch (from 1) and its point after each training epoch's validation, and may
            raise to end the run.
        check: raises to end the run, nothing saved.
        judge: whether a result is on the front as it ends; None where nobody can say.
    """

    def __init__(
        self,
        report: Callable[[TrialCallback, int, EpochPoint], None],
        check: Callable[[], None],
        judge: Callable[[Result], bool | None] = lambda _: None,
    ) -> None:
        self._report, self._check, self._judge = report, check, judge
        self.metrics: dict[str, float] = {}
        self.twin_joules = 0.0
        self.convention = ""
        self.groups: dict[str, float] = {}
        self.layers: list[Layer] = []
        self.on_front: bool | None = None
        self.devices = 1
        self._started, self._latencies = 0.0, [0.0]
        self._held = 0

    def elsewhere(self) -> Callable[[Any], pl.Callback]:
        """What the other processes of the training have in its place: the first reports."""
        return _beside

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.devices = trainer.num_devices * trainer.num_nodes
        self._held = _forget_peak(pl_module.device)

    def conclude(self, result: Result) -> dict[str, Any]:
        """What is logged beside the result: what only this run measured, and what the sweep says about it."""
        self.on_front = self._judge(result)
        told: dict[str, Any] = {k: self.metrics[k] for k in ("latency", "memory") if k in self.metrics}
        told |= {"energy_groups": self.groups, "twin_joules": self.twin_joules}
        return told if self.on_front is None else {**told, "on_front": self.on_front}

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._check()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._latencies = []

    def on_validation_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        wait_for(pl_module.device)
        self._started = time.perf_counter()

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        wait_for(pl_module.device)
        self._latencies.append((time.perf_counter() - self._started) / len(batch[0]))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        energy = next(c for c in trainer.callbacks if isinstance(c, EnergyCallback)).report  # type: ignore[attr-defined]
        self.metrics.update({k: float(v) for k, v in trainer.callback_metrics.items()})
        if energy is None:
            return
        self.metrics["latency"] = statistics.median(self._latencies)
        if (memory := peak(pl_module.device)) is not None:
            self.metrics["memory"] = float(memory - self._held)
        self.convention = energy.convention
        self.groups, self.twin_joules = energy.groups, energy.baseline()["total_joules"]
        self.layers = [
            {"name": r["name"], "group": r["group"], "joules": r["joules"], "firing_rate": r["firing_rate"]}
            for r in energy.rows()
        ]
        loss = self.metrics.get("train/loss", self.metrics.get("val/loss", 0.0))
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._tell(trainer, pl_module, energy, math.isfinite(loss))

    def _tell(self, trainer: pl.Trainer, pl_module: pl.LightningModule, energy: Any, finite: bool) -> None:
        """Of several processes the first reports, and all of them end the run if that says so."""
        reason = None
        if trainer.is_global_zero and finite:
            accuracies: list[float] = pl_module.anytime_accuracy  # type: ignore[assignment]
            point: EpochPoint = {
                "accuracy": accuracies[-1],
                "energy_joules": energy.total_joules,
                "firing_rate": energy.firing_rate,
                "anytime": list(zip(accuracies, energy.anytime_joules, strict=True)),
            }
            try:
                self._report(self, trainer.current_epoch + 1, point)
            except TrialPruned as pruned:
                reason = str(pruned)
        reason = trainer.strategy.broadcast(reason)
        if reason is not None:
            raise TrialPruned(reason)


def _beside(_: Any) -> TrialCallback:
    return TrialCallback(lambda *_: None, lambda: None)


def _forget_peak(device: torch.device) -> int:
    """Begin a new peak of memory; the bytes to be taken off it.

    Linux starts the peak of a process anew when 5 is written to ``clear_refs`` and shows it as ``VmHWM``, proc(5);
    psutil knows neither.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return 0
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        except OSError:
            return 0
    return psutil.Process().memory_info().rss
