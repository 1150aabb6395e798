"""Lightning callbacks: energy in the evaluation passes, and the progress bar."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar

from spikefront.energy import CostModel, EnergyMeter, EnergyReport, LayerCount
from spikefront.errors import UserError
from spikefront.units import duration, joules


class EnergyCallback(pl.Callback):
    """Counts spikes in the passes that run anyway and logs what they cost.

    Every validation and test pass, and one of ``every`` training passes (0: none). Logs, for each split,
    ``<split>/energy_joules`` a sample under ``cost``'s convention, ``<split>/energy/<group>``, ``<split>/firing_rate``
    and ``<split>/firing_rate/<group>``, ``<split>/dead`` and ``<split>/saturated`` (shares of channels). Counts are
    summed over all processes.

    ``report`` and ``layers``, its counts, are the last finished evaluation's; with ``per_sample``, ``counts`` are those
    of each of its samples.
    """

    def __init__(self, cost: CostModel | None = None, every: int = 10, per_sample: bool = False) -> None:
        if every < 0:
            raise UserError(f"callbacks.energy.every is {every}: count one of so many training passes, 0 for none")
        self.cost, self.every, self.per_sample = cost, every, per_sample
        self.meters: dict[str, EnergyMeter] = {}
        self.report: EnergyReport | None = None
        self.layers: list[LayerCount] = []
        self.counts: list[LayerCount] = []
        self._said: set[str] = set()

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        if not self.meters:
            self.meters = {
                "train": EnergyMeter(pl_module.model),
                "evaluation": EnergyMeter(pl_module.model, per_sample=self.per_sample),
            }

    def teardown(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        for meter in self.meters.values():
            meter.stop()
            meter.remove()
        self.meters = {}

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, "exception")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.meters["train"].reset()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self.every and batch_idx % self.every == 0:
            self.meters["train"].start()

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        self.meters["train"].stop()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.every:
            self._log(self.meters["train"], pl_module, "train")

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start()

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start()

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end(pl_module, "val")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end(pl_module, "test")

    def _start(self) -> None:
        self.meters["evaluation"].reset()
        self.meters["evaluation"].start()

    def _end(self, pl_module: pl.LightningModule, split: str) -> None:
        meter = self.meters["evaluation"]
        meter.stop()
        report = self._log(meter, pl_module, split)
        if report is not None:
            self.report, self.layers = report, meter.counts()
            self.counts = meter.sample_counts() if self.per_sample else []

    def _log(self, meter: EnergyMeter, pl_module: pl.LightningModule, split: str) -> EnergyReport | None:
        meter.gather()
        if not meter.samples:
            return None
        report = meter.report(self.cost)
        figures = {"energy_joules": report.total_joules, "firing_rate": report.firing_rate}
        figures |= {"dead": report.dead, "saturated": report.saturated}
        figures |= {f"energy/{group.replace(' ', '_')}": joules for group, joules in report.groups.items()}
        figures |= {f"firing_rate/{group.replace(' ', '_')}": rate for group, rate in report.firing_rates.items()}
        pl_module.log_dict({f"{split}/{name}": value for name, value in figures.items()})
        for note in set(report.notes) - self._said:
            self._said.add(note)
            if pl_module.trainer.is_global_zero:
                print(f"energy: {note}", file=sys.stderr, flush=True)
        return report


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
    """A bar while an epoch runs, where there is a terminal; a line of each that is over, with the time left."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=1 if sys.stderr.isatty() else 0)
        self._plain = not sys.stderr.isatty()
        self._narrow = shutil.get_terminal_size().columns < 110
        if self._narrow:  # what is learned matters more than a picture of the progress and batches a second
            self.BAR_FORMAT = "{l_bar}{n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
        self._begun = (0.0, 0)

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        shown = dict(_figures(trainer))
        if self._narrow:
            shown.pop("firing rate", None)
        return shown

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._begun = (time.monotonic(), trainer.current_epoch)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._plain:
            super().on_train_epoch_end(trainer, pl_module)
        if trainer.is_global_zero:
            figures = "  ".join(f"{k} {v}" for k, v in _figures(trainer).items())
            of = f"/{trainer.max_epochs}" if trainer.max_epochs not in (None, -1) else ""
            self.tell(f"epoch {trainer.current_epoch + 1}{of}  {figures}{self._left(trainer)}")

    def tell(self, line: str) -> None:
        """A line that stays, above the bar where there is one."""
        if self._plain:
            print(line, flush=True)
        else:
            self.print(line)

    def _left(self, trainer: pl.Trainer) -> str:
        """The time that the epochs to go will take, at the pace of those that were."""
        begun, first = self._begun
        done, last = trainer.current_epoch + 1, trainer.max_epochs
        if last is None or last <= done or done <= first:
            return ""
        return f"  about {duration((time.monotonic() - begun) / (done - first) * (last - done))} left"


class SameBatches(pl.Callback):
    """Every epoch is given as the first was, its order and its augmentation: what a network can learn by heart.

    Lightning's own ``overfit_batches`` puts another sampler in the place of ours, which it can't.
    """

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert trainer.train_dataloader is not None
        trainer.train_dataloader.sampler.set_epoch(0)
