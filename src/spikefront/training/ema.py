"""An exponential moving average of the weights, evaluated and kept in place of the last ones."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EMAWeightAveraging


class EMA(EMAWeightAveraging):
    """Lightning's moving average of parameters and buffers, ``average += (1 - decay) * (weights - average)`` each step.

    Validation sees the average, and a checkpoint's ``state_dict`` holds it; the weights that training goes on with are
    its ``current_model_state``. Beyond Lightning's: the average lies on the device of the training, checkpoints written
    in the middle of a validation are right, and evaluation after training leaves loaded weights alone.
    """

    def __init__(self, decay: float = 0.9998) -> None:
        super().__init__(decay=decay)
        self._averaged_in_place = False

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
