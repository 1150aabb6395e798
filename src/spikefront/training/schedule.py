"""The learning rate over a training: timm's cosine between warm-up and cooldown, by step or by epoch, and by layer."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from torch import nn

from spikefront.errors import UserError

INTERVALS = ("step", "epoch")
logging.getLogger("timm.scheduler.cosine_lr").setLevel(logging.ERROR)  # of trainings of one step


class Cosine(CosineLRScheduler):
    """timm's cosine in optimizer steps, of a ``conf/schedule``.

    Warm-up rises linearly from ``warmup_lr``; the cosine falls to ``min_lr``, where it stays for ``cooldown_epochs``.
    It counts from the beginning of the training and is joined where warm-up ends, or begins there
    (``warmup_prefix``). ``interval: epoch`` keeps an epoch's first rate to its end, as timm's own script does.

    Args:
        steps: of the whole training, warm-up and cooldown among them.
        per_epoch: steps of an epoch.

    Raises:
        UserError: warm-up and cooldown leave nothing of the training.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, schedule: Mapping[str, Any], steps: int, per_epoch: int
    ) -> None:
        self.steps, self.per_epoch = steps, per_epoch
        self.by_epoch = schedule.get("interval", "step") == "epoch"
        prefix = bool(schedule.get("warmup_prefix", False))
        warmup = math.ceil(schedule["warmup_epochs"] * per_epoch)
        cooldown = math.ceil(schedule.get("cooldown_epochs", 0) * per_epoch)
        if cooldown and (left := steps - cooldown) < max(1, warmup * prefix):
            raise UserError(
                f"schedule.cooldown_epochs={schedule['cooldown_epochs']} leaves {max(left, 0)} of {steps} steps:"
                " they are the last of trainer.max_epochs; lower it, or train for more epochs"
            )
        super().__init__(
            optimizer,
            t_initial=max(1, steps - cooldown - warmup * prefix),
            lr_min=schedule["min_lr"],
            warmup_t=warmup,
            warmup_lr_init=schedule["warmup_lr"],
            warmup_prefix=prefix,
            t_in_epochs=False,
        )
        self.at(0)

    def at(self, step: int) -> None:
        """Set the rate of step ``step``, counted from 0."""
        self.step_update(num_updates=step - step % self.per_epoch if self.by_epoch else step)


def parameter_groups(model: nn.Module, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """timm's groups: biases and norms don't decay; with ``layer_decay`` below 1 each block learns that much slower
    than the one above it, the embedding slowest (arXiv 2106.08254, and so MAE's fine-tuning).

    Raises:
        UserError: the network doesn't say which of its parameters are of which layer.
    """
    if layer_decay == 1:
        return param_groups_weight_decay(model, weight_decay)
    if not hasattr(model, "group_matcher"):
        raise UserError(
            f"schedule.layer_decay={layer_decay}: {type(model).__name__} has no group_matcher, which says what its"
            " layers are; use 1"
        )
    return param_groups_layer_decay(model, weight_decay, layer_decay=layer_decay)
