"""A callback that makes small trainings last, so that what shall happen in their middle can."""

from __future__ import annotations

import time

import pytorch_lightning as pl


class Slow(pl.Callback):
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_start(self, trainer: pl.Trainer, *_) -> None:
        print(f"from epoch {trainer.current_epoch}", flush=True)

    def on_train_batch_end(self, trainer: pl.Trainer, *_) -> None:
        if trainer.ckpt_path is None:  # a continued one need not
            time.sleep(self.seconds)
