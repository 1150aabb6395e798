"""Settings that a library would stumble over late, or not at all: checked together, before anything is made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.accelerators import AcceleratorRegistry

from spikefront.errors import UserError, near_matches
from spikefront.training.devices import check_devices
from spikefront.training.latency import WAYS
from spikefront.training.schedule import INTERVALS

SCHEDULES = ("constant", "cosine")
# key: its type, the least it may be, and what else it may be
WHOLE: dict[str, tuple[int, tuple[Any, ...]]] = {
    "seed": (0, ()),
    "threads": (1, (None,)),
    "data.batch_size": (1, ()),
    "data.num_workers": (0, ()),
    "data.seed": (0, ()),
    "data.frames": (1, (None,)),
    "finetune.head_epochs": (0, ()),
    "trainer.max_epochs": (-1, (None,)),
    "trainer.max_steps": (-1, (None,)),
    "trainer.num_nodes": (1, (None,)),
    "trainer.accumulate_grad_batches": (1, ()),
    "trainer.effective_batch": (1, (None, "auto")),
    "callbacks.energy.every": (0, ()),
}
NUMBER: dict[str, tuple[float, tuple[Any, ...]]] = {
    "data.val_fraction": (0, ()),
    "optimizer.lr": (0, ()),
    "optimizer.weight_decay": (0, ()),
    "schedule.warmup_epochs": (0, ()),
    "schedule.warmup_lr": (0, ()),
    "schedule.min_lr": (0, ()),
    "schedule.cooldown_epochs": (0, ()),
    "schedule.layer_decay": (0, ()),
    "finetune.layer_decay": (0, (None,)),
    "loss.energy_weight": (0, (None,)),
    "loss.energy_budget": (0, (None,)),
    "trainer.gradient_clip_val": (0, (None,)),
}


def check(cfg: DictConfig) -> None:
    """Raise UserError for a setting of ``conf/train.yaml`` that is no number, out of bounds or no such option."""
    for keys, kind, word in ((WHOLE, int, "a whole number"), (NUMBER, int | float, "a number")):
        _numbers(cfg, keys, kind, word)
    for key, options in (("schedule.name", SCHEDULES), ("schedule.interval", INTERVALS), ("latency", WAYS)):
        value = OmegaConf.select(cfg, key)
        if value is not None and value not in options:
            raise UserError(f"{key}={value}: use null, {', '.join(options)}")
    accelerator, known = cfg.trainer.get("accelerator"), {"auto", "gpu", *AcceleratorRegistry.available_accelerators()}
    if isinstance(accelerator, str) and accelerator not in known:
        raise UserError(f"trainer.accelerator={accelerator}: {near_matches(accelerator, known)}")
    check_devices(cfg.trainer)


def _numbers(cfg: DictConfig, keys: Mapping[str, tuple[float, tuple[Any, ...]]], kind: Any, word: str) -> None:
    for key, (least, others) in keys.items():
        value = OmegaConf.select(cfg, key, default=least)
        if value in others:
            continue
        if isinstance(value, bool) or not isinstance(value, kind) or not least <= value < math.inf:
            more = "".join(f", or {'null' if other is None else other}" for other in others)
            raise UserError(f"{key} is {value}: give {word} of at least {least}{more}")
