"""Stopping each sample by itself, once the running mean of the head is sure enough of a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from spikefront.energy import CostModel, LayerCount
from spikefront.errors import UserError


class EarlyExit(pl.Callback):
    """Collects, in a test pass, how sure and how right the running mean of the logits is after every timestep.

    A sample stops at the first timestep at which the softmax of that mean gives a class at least ``confidence``, at T
    if none does; it pays for the timesteps it ran, with its own spikes. An attention over several timesteps (STAtten)
    has run all of them before the first gives anything.
    """

    def __init__(self, confidences: Sequence[float]) -> None:
        for confidence in confidences:
            if not (isinstance(confidence, int | float) and 0 < confidence <= 1):
                raise UserError(f"confidence={confidence}: stop at a probability above 0 and at most 1, such as 0.9")
        self.confidences = sorted(confidences)
        self._sure: list[np.ndarray] = []
        self._right: list[np.ndarray] = []

    @classmethod
    def of(cls, confidence: float | Sequence[float] | None) -> EarlyExit | None:
        if confidence is None:
            return None
        return cls(
            list(confidence) if isinstance(confidence, Sequence) and not isinstance(confidence, str) else [confidence]
        )

    def on_test_epoch_start(self, *_: Any) -> None:
        self._sure, self._right = [], []

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        steps, target = outputs["steps"].float(), outputs["target"]
        count = torch.arange(1, len(steps) + 1, device=steps.device).view(-1, 1, 1)
        sure, chosen = (steps.cumsum(0) / count).softmax(-1).max(-1)
        self._sure.append(sure.cpu().numpy())
        self._right.append((chosen == target).cpu().numpy())

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put together what all processes saw, in the order in which the meter gathers its counts."""
        if trainer.world_size > 1:
            parts: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(parts, (self._sure, self._right))
            self._sure = [batch for sure, _ in parts for batch in sure]
            self._right = [batch for _, right in parts for batch in right]

    def curve(self, counts: Sequence[LayerCount], cost: CostModel) -> list[dict[str, float]]:
        """For every confidence: accuracy, mean joules a sample, mean timesteps.

        Args:
            counts: of every sample, in the same order, as ``EnergyMeter(per_sample=True).sample_counts()`` gives them.
        """
        sure, right = np.concatenate(self._sure, 1), np.concatenate(self._right, 1)
        joules = np.sum([cost.joules(layer) for layer in counts], axis=0)
        steps, chunk = np.arange(1, len(sure) + 1)[:, None], max(layer.chunk for layer in counts)
        points = []
        for confidence in self.confidences:
            enough = sure >= confidence
            enough[-1] = True
            last = enough.argmax(0)
            ran = np.minimum(last + chunk - last % chunk, len(sure))
            points.append(
                {
                    "confidence": float(confidence),
                    "accuracy": float(right[last, np.arange(right.shape[1])].mean()),
                    "energy_joules": float((joules * (steps <= ran)).sum(0).mean()),
                    "timesteps": float(ran.mean()),
                }
            )
        return points
