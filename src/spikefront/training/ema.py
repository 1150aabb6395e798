"""An exponential moving average of the weights, evaluated and kept in place of the last ones."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from spikefront.errors import UserError


class EMA(WeightAveraging):
    """Lightning's moving average of parameters and buffers, ``average += (1 - decay) * (weights - average)`` each step.

    The decay warms up as timm's ``ModelEmaV3`` does, ``1 - (1 + step) ** -warmup`` until it reaches ``decay``: a short
    run's average is of its last weights, not of its first ones. With timm's own 2/3 that would take 350,000 steps to
    0.9998, with its 3/4 for shorter trainings 85,000; 0 is no warm-up.

    Validation sees the average, and a checkpoint's ``state_dict`` holds it; the weights that training goes on with are
    its ``current_model_state``. Beyond Lightning's: the average lies on the device of the training, checkpoints written
    in the middle of a validation are right, and evaluation after training leaves loaded weights alone. timm's class
    does as Lightning's underneath, ``torch.optim.swa_utils.AveragedModel``, but knows nothing of checkpoints.

    Raises:
        UserError: a decay that is not between 0 and 1, a negative ``warmup``.
    """

    def __init__(self, decay: float = 0.9998, warmup: float = 0.75) -> None:
        if not 0 <= decay <= 1:
            raise UserError(f"callbacks.ema.decay is {decay}: it must lie between 0 and 1")
        if not warmup >= 0:
            raise UserError(f"callbacks.ema.warmup is {warmup}: it is a power, 0 (none) or above")
        super().__init__(multi_avg_fn=self._average)
        self.decay, self.warmup = decay, warmup
        self._averaged_in_place = False

    def decay_after(self, steps: int) -> float:
        """The decay of the next step when ``steps`` are averaged already."""
        return min(self.decay, 1 - (1 + steps) ** -self.warmup) if self.warmup else self.decay

    def _average(self, averages: Any, weights: Any, steps: Tensor | int) -> None:
        get_ema_multi_avg_fn(self.decay_after(int(steps)))(averages, weights, steps)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._device = trainer.strategy.root_device  # the module itself gets there only later
        super().setup(trainer, pl_module, stage)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit":
            super().on_validation_epoch_start(trainer, pl_module)
            self._averaged_in_place = True

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit":
            super().on_validation_epoch_end(trainer, pl_module)
            self._averaged_in_place = False

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._averaged_in_place:
            average, current = checkpoint["current_model_state"], checkpoint["state_dict"]
            checkpoint["state_dict"], checkpoint["current_model_state"] = average, current
