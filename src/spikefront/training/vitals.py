"""What people look at while a network trains: rate, gradients, pace, memory, and how long it will still take."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from spikefront.training.callbacks import Progress
from spikefront.units import duration

WARM = 5  # steps that show no pace yet: memory is allocated, kernels are chosen
SHOWN = 20  # steps after them that do


class Vitals(pl.Callback):
    """Logs, as often as the trainer does, ``train/lr``, the largest group's, and ``train/gradient_norm``, over all
    processes and before it is clipped; after each epoch ``train/samples_per_second``, of all processes and without
    evaluations, and ``train/memory_bytes``, at the peak: of the GPU, or what this process holds.

    After the first 25 steps it says that pace, and how long the training will take at it, where progress is shown.
    """

    def __init__(self) -> None:
        self._began = self._warm = self._last = 0.0
        self._steps = self._samples = self._first = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._steps, self._first = 0, trainer.current_epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began, self._samples = time.perf_counter(), 0

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        if trainer.global_step % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        pl_module.log("train/gradient_norm", torch.nn.utils.get_total_norm(gradients))
        pl_module.log("train/lr", max(group["lr"] for group in optimizer.param_groups))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._steps += 1
        self._samples += len(batch[0]) * trainer.world_size
        if self._steps in (WARM, WARM + SHOWN):
            wait_for(pl_module.device)
        self._last = time.perf_counter()
        if self._steps == WARM:
            self._warm = self._last
        elif self._steps == WARM + SHOWN and trainer.is_global_zero:
            self._say((self._last - self._warm) / SHOWN, trainer, pl_module, len(batch[0]) * trainer.world_size)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._samples:  # the epoch's training was over before this run went on
            return
        pl_module.log("train/samples_per_second", self._samples / (self._last - self._began))
        if (memory := peak(pl_module.device)) is not None:
            pl_module.log("train/memory_bytes", float(memory))

    def _say(self, seconds: float, trainer: pl.Trainer, pl_module: pl.LightningModule, samples: int) -> None:
        memory = peak(pl_module.device)
        line = f"{samples / seconds:,.0f} samples a second" + ("" if memory is None else f", {memory / 1e9:.2f} GB")
        batches, epochs = trainer.num_training_batches, trainer.max_epochs
        if epochs not in (None, -1) and batches != float("inf"):
            left = ((epochs - self._first) * batches - self._steps) * seconds  # type: ignore[operator]
            line += f": about {duration(left)} of training to go, beside evaluations" if left >= 60 else ""
        if isinstance(bar := trainer.progress_bar_callback, Progress):
            bar.tell(line)


def wait_for(device: torch.device) -> None:
    """Until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak(device: torch.device) -> int | None:
    """Bytes at the peak, of the GPU or of this process; None where the system doesn't tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform != "linux":
        return None
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next((int(x.split()[1]) * 1024 for x in lines if x.startswith("VmHWM:")), None)
