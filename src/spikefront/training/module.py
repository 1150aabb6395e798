"""The LightningModule: one network, one loss, accuracy after every timestep."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics import Metric

from spikefront.errors import UserError
from spikefront.training.batch import effective_batch, scaled
from spikefront.training.distillation import Teacher
from spikefront.training.finetuning import scaled_rates
from spikefront.training.lightning_internals import batches_of
from spikefront.training.penalty import EnergyPenalty
from spikefront.training.schedule import Cosine, parameter_groups

PLACE = "schedule"  # of a checkpoint: how many steps of it are over, and how many an epoch has


class AnytimeAccuracy(Metric):
    """Top-1 accuracy of the running mean of the logits after t = 1 … T timesteps; ``compute`` gives ``(T,)``."""

    correct: Tensor
    total: Tensor

    def __init__(self, timesteps: int) -> None:
        super().__init__()
        self.add_state("correct", torch.zeros(timesteps, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, steps: Tensor, target: Tensor) -> None:
        self.correct += (steps.cumsum(0).argmax(-1) == target).sum(1)
        self.total += target.shape[0]

    def compute(self) -> Tensor:
        return self.correct.double() / self.total.clamp_min(1)


class SpikingClassifier(pl.LightningModule):
    """Trains ``model`` with ``loss`` on ``(images, target)`` batches.

    Args:
        optimizer: ``params -> Optimizer`` (a Hydra partial); biases and norms don't decay, as timm has it.
        schedule: ``{name: cosine, …}`` of ``schedule.Cosine`` or ``{name: constant}``, and how the learning rate
            follows the effective batch and the layer, ``{lr_rule, lr_batch, layer_decay}``.
        config: the run's whole configuration, stored in every checkpoint.
        penalty: what energy adds to the loss in training.
        teacher: whose answers are learned beside the targets, of a ``SpikingNetwork``.
    """

    faster = 1.0

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Mapping[str, Any],
        config: dict[str, Any],
        penalty: EnergyPenalty | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__()
        self.model, self.loss, self.penalty, self.teacher = model, loss, penalty, teacher
        self._optimizer, self._schedule = optimizer, schedule
        self._per_epoch, self._ahead = 0, 0  # a schedule's steps, and how far it is beyond them: epochs had fewer once
        self._place: tuple[int, int] | None = None
        self.save_hyperparameters({"config": config})
        timesteps: int = model.timesteps  # type: ignore[assignment]
        self.accuracy = nn.ModuleDict({split: AnytimeAccuracy(timesteps) for split in ("val", "test")})

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        images, target = batch
        if self.teacher is None:
            steps = self.model(images, per_step=True)
            loss = self.loss(steps, target)
        else:
            with self.teacher.watching(self.model):
                heads = self.model(images, per_step=True, per_head=True)
            steps = heads.mean(0)
            loss, parts = self.teacher.beside(self.loss, heads, images, target)
            found = {f"train/{name}": value for name, value in parts.items()}
            self.log_dict(found, on_step=False, on_epoch=True, batch_size=len(images))
        if self.penalty is not None:
            penalty = self.penalty()
            self.log("train/energy_penalty", penalty, on_step=False, on_epoch=True, batch_size=len(images))
            loss = loss + penalty
        self._log_training(loss, steps, target)
        return loss

    def _log_training(self, loss: Tensor, steps: Tensor, target: Tensor) -> None:
        self.log("train/loss", loss, on_step=True, on_epoch=True, batch_size=len(target))
        if target.dim() == 1:
            accuracy = (steps.mean(0).argmax(-1) == target).float().mean()
            self.log("train/accuracy", accuracy, on_step=False, on_epoch=True, batch_size=len(target))

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> dict[str, Tensor]:
        return self._evaluate(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], index: int) -> dict[str, Tensor]:
        return self._evaluate(batch, "test")

    def _evaluate(self, batch: tuple[Tensor, Tensor], split: str) -> dict[str, Tensor]:
        images, target = batch
        steps = self.model(images, per_step=True)
        self.accuracy[split].update(steps, target)  # type: ignore[operator]
        self.log(f"{split}/loss", self.loss(steps, target), batch_size=len(images), sync_dist=True)
        return {"steps": steps, "target": target}

    def on_validation_epoch_end(self) -> None:
        self._log_accuracy("val")

    def on_test_epoch_end(self) -> None:
        self._log_accuracy("test")

    def _log_accuracy(self, split: str) -> None:
        metric = self.accuracy[split]
        self.anytime_accuracy: list[float] = metric.compute().reshape(-1).tolist()  # type: ignore[operator]
        metric.reset()  # type: ignore[operator]
        self.log(f"{split}/accuracy", self.anytime_accuracy[-1])

    def beside(self) -> list[nn.Parameter]:
        """What is trained beside the network, ``faster`` than it."""
        return []

    def configure_optimizers(self) -> Any:
        settings, given = self._schedule, getattr(self._optimizer, "keywords", {})
        tuning = self.hparams["config"].get("finetune") or {}
        own = tuning.get("layer_decay")
        layer_decay = settings.get("layer_decay", 1) if own is None else own
        groups = parameter_groups(self.model, given.get("weight_decay", 0.0), layer_decay)
        groups = scaled_rates(groups, self.model, tuning.get("rates") or {})
        if beside := self.beside():
            groups.append({"params": beside, "weight_decay": 0.0, "lr_scale": self.faster})
        rule, rate = settings.get("lr_rule", "none"), {}
        if rule != "none":
            rate["lr"] = scaled(given["lr"], rule, settings.get("lr_batch"), effective_batch(self.trainer))
        try:
            optimizer = self._optimizer(groups, **rate)
        except (TypeError, ValueError) as error:
            raise UserError(f"{error} (building 'optimizer' of the configuration)") from error
        made: Any = optimizer
        if settings.get("name", "constant") != "constant":
            made = {"optimizer": optimizer, "lr_scheduler": {"scheduler": self._cosine(optimizer), "interval": "step"}}
        else:
            for group in optimizer.param_groups:
                group["lr"] *= group.get("lr_scale", 1)
        self._asked = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
        return made

    def _cosine(self, optimizer: torch.optim.Optimizer) -> Cosine:
        batches, steps = batches_of(self.trainer), self.trainer.estimated_stepping_batches
        if math.inf in (batches, steps):
            raise UserError(
                "schedule=cosine ends with the training and counts its epochs: give trainer.max_epochs or"
                " trainer.max_steps, of data without a length trainer.limit_train_batches too; or schedule=constant"
            )
        self._per_epoch = math.ceil(batches / self.trainer.accumulate_grad_batches)
        return Cosine(optimizer, self._schedule, int(steps), self._per_epoch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._per_epoch:
            checkpoint[PLACE] = (self.global_step + self._ahead, self._per_epoch)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # what is asked for now holds: a schedule follows from that and from how much of it is over
        checkpoint["lr_schedulers"] = []
        self._place = checkpoint.get(PLACE)

    def on_train_start(self) -> None:
        if self.teacher is not None:
            self.teacher.remember(self.trainer)
        if not self.global_step:
            return
        for group, asked in zip(self.trainer.optimizers[0].param_groups, self._asked, strict=True):
            group.update(asked)
        schedulers: list[Any] = [config.scheduler for config in self.trainer.lr_scheduler_configs]
        for scheduler in schedulers:
            if self._place and self.trainer.max_steps != scheduler.steps:  # ends with epochs, not steps
                place, per_epoch = self._place
                self._ahead = round(place * self._per_epoch / per_epoch) - self.global_step
            self.lr_scheduler_step(scheduler, None)

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        scheduler.at(self.global_step + self._ahead)
