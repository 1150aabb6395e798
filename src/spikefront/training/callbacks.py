"""Lightning callbacks: energy in the evaluation passes, and the progress bar."""

from __future__ import annotations

import sys
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar

from spikefront.energy import CostModel, EnergyMeter, EnergyReport, joules


class EnergyCallback(pl.Callback):
    """Counts spikes in validation and test passes and logs ``<split>/energy_joules`` and ``<split>/firing_rate``.

    ``report`` is the last finished evaluation's; figures are joules a sample under ``cost``'s convention.
    """

    def __init__(self, cost: CostModel | None = None) -> None:
        self.cost = cost
        self.meter: EnergyMeter | None = None
        self.report: EnergyReport | None = None

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        if self.meter is None:
            self.meter = EnergyMeter(pl_module.model)

    def teardown(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        if self.meter is not None:
            self.meter.remove()
            self.meter = None

    def _start(self, *_: Any) -> None:
        assert self.meter is not None
        self.meter.reset()
        self.meter.start()

    def _end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, split: str) -> None:
        assert self.meter is not None
        self.meter.stop()
        if not self.meter.samples:
            return
        self.report = self.meter.report(self.cost)
        pl_module.log(f"{split}/energy_joules", self.report.total_joules)
        pl_module.log(f"{split}/firing_rate", self.report.firing_rate)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start()

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start()

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end(trainer, pl_module, "test")


def _figures(trainer: pl.Trainer) -> dict[str, str]:
    """What the bar shows: loss, accuracy, firing rate and energy, under short names."""
    metrics = trainer.callback_metrics
    shown = {}
    for label, keys, form in (
        ("loss", ("train/loss_step", "train/loss"), "{:.3f}"),
        ("accuracy", ("val/accuracy", "train/accuracy"), "{:.3f}"),
        ("firing rate", ("val/firing_rate",), "{:.3f}"),
    ):
        for key in keys:
            if key in metrics:
                shown[label] = form.format(float(metrics[key]))
                break
    if "val/energy_joules" in metrics:
        shown["energy"] = joules(float(metrics["val/energy_joules"]))
    return shown


class Progress(TQDMProgressBar):
    """A bar with loss, accuracy, firing rate and energy; a plain line an epoch where there is no terminal."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=1 if sys.stderr.isatty() else 0)
        self._plain = not sys.stderr.isatty()

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        return dict(_figures(trainer))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._plain and trainer.is_global_zero:
            figures = "  ".join(f"{k} {v}" for k, v in _figures(trainer).items())
            print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {figures}", flush=True)
        else:
            super().on_train_epoch_end(trainer, pl_module)
