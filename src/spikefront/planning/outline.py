"""What is in force in a training, as it is built and not as it is configured: steps, rates, augmentation."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from timm.data.auto_augment import RandAugment

from spikefront.data import ImageData, build_data
from spikefront.errors import UserError
from spikefront.planning.rehearsal import META
from spikefront.planning.teaching import taught
from spikefront.training.batch import scaled, share, wanted_batch
from spikefront.training.devices import count_devices
from spikefront.training.finetuning import finetuning
from spikefront.training.inert import without_effect
from spikefront.training.inheritance import begin, beginning
from spikefront.training.schedule import Cosine
from spikefront.training.setup import build_loss

COUNTED = (("warmup_epochs", "warm-up"), ("cooldown_epochs", "cooldown"))
MIXUP = ("mixup_alpha", "cutmix_alpha", "mix_prob", "switch_prob", "label_smoothing")


def outline(cfg: DictConfig) -> dict[str, str]:
    """Lines by their names; reads no data, whose ``train_samples`` the configuration says.

    Raises:
        UserError: a batch that can't be shared, a schedule that doesn't fit the training, augmentation that can't be,
            weights or a teacher that aren't there or of another network.
    """
    data = build_data(cfg.data, timesteps=cfg.model.timesteps)
    size, passes, processes = _shared(cfg, data)
    effective = size * passes * processes
    batches = _batches(cfg, data, size, processes)
    per_epoch = None if batches is None else math.ceil(batches / passes)
    normed = size * processes if cfg.trainer.get("sync_batchnorm", True) else size
    halves = ["float16"] if data.half_inputs and str(cfg.trainer.get("precision")).endswith("-mixed") else []
    lines = {
        "steps": _told_steps(cfg, data, per_epoch),
        "batch": f"{effective} samples a step: {processes} process{'es' * (processes > 1)} of {size}"
        + f", {passes} passes accumulated" * (passes > 1)
        + f", batch norm over {normed}"
        + f", each image {data.repeats} times in a row" * (data.repeats > 1),
        "rate": _rate(cfg, effective, per_epoch),
        "training": ", ".join([*map(told, data.seen(train=True)), *halves]) or "as they are",
        "evaluation": ", ".join([*map(told, data.seen(train=False)), *halves]) or "as they are",
        "mixing": _mixing(data) if data.mixup is not None else "none",
        "loss": told(build_loss(cfg)),
    }
    if cfg.get("teacher"):
        lines["teacher"] = taught(cfg)
    finetuning(cfg)
    with META:
        taken = begin(instantiate(cfg.model), cfg) if beginning(cfg)[0] else None
    if taken is not None:
        lines["init"] = "; ".join([taken.source, *(f"{what} {text}" for what, text in taken.rows())])
    return lines | {"no effect": without_effect(cfg) or "nothing of what is set"}


def workload(cfg: DictConfig) -> tuple[int, int, int] | None:
    """Processes of a training, samples of a batch, and how many such each of them works through; None if the
    configuration says no number of samples, or no end.

    Raises:
        UserError: a batch that can't be shared.
    """
    data = build_data(cfg.data, timesteps=cfg.model.timesteps)
    size, passes, processes = _shared(cfg, data)
    epochs, steps = cfg.trainer.get("max_epochs"), cfg.trainer.get("max_steps", -1)
    batches = _batches(cfg, data, size, processes)
    bounds = [] if steps in (None, -1) else [steps * passes]
    bounds += [] if epochs in (None, -1) or batches is None else [epochs * batches]
    return (processes, size, min(bounds)) if bounds else None


def told(thing: Any) -> str:
    """What an object says of itself in a line; of one that says nothing, its settings."""
    if isinstance(thing, RandAugment):
        first = thing.ops[0]
        names = " ".join(op.name for op in thing.ops)
        strength = f"p={first.prob}, m={first.magnitude}, mstd={first.magnitude_std}"
        return f"RandAugment({thing.num_layers} of {len(thing.ops)}, {strength}: {names})"
    if isinstance(thing, str):
        return thing
    if type(thing).__repr__ not in (object.__repr__, torch.nn.Module.__repr__):
        return " ".join(repr(thing).split())
    given = {k: v for k, v in vars(thing).items() if not k.startswith("_") and k != "training" and v is not None}
    return f"{type(thing).__name__}({', '.join(f'{k}={v}' for k, v in given.items())})"


def _shared(cfg: DictConfig, data: ImageData) -> tuple[int, int, int]:
    """Samples a pass, passes a step, processes; where the devices aren't here, as many as one pass each takes."""
    accumulated = int(cfg.trainer.get("accumulate_grad_batches") or 1)
    try:
        processes = count_devices(cfg.trainer) * int(cfg.trainer.get("num_nodes") or 1)
    except UserError:
        asked = cfg.trainer.get("effective_batch")
        processes = max(1, asked // data.batch_size) if isinstance(asked, int) else 1
    as_trainer: Any = SimpleNamespace(world_size=processes, accumulate_grad_batches=accumulated)
    wanted = wanted_batch(cfg, data.batch_size, as_trainer)
    if wanted is None:
        return data.batch_size, accumulated, processes
    return *share(wanted, data.batch_size, processes, data.mixup is not None), processes


def _batches(cfg: DictConfig, data: ImageData, size: int, processes: int) -> int | None:
    """How many a process trains on in an epoch."""
    samples = cfg.data.get("train_samples")
    if not samples:
        return None
    each = (samples - math.ceil(samples * data.val_fraction)) // processes
    batches = each // size if data.drop_last and each > size else math.ceil(each / size)
    limit = cfg.trainer.get("limit_train_batches")
    if limit is not None:
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    return batches


def _told_steps(cfg: DictConfig, data: ImageData, per_epoch: int | None) -> str:
    epochs, steps = cfg.trainer.get("max_epochs"), cfg.trainer.get("max_steps", -1)
    if per_epoch is None:
        return "not known without data.train_samples"
    bound = f"{steps:,}, trainer.max_steps" if steps not in (None, -1) else "without an end"
    total = bound if epochs in (None, -1) else f"{epochs * per_epoch:,}: {epochs} epochs of {per_epoch:,}"
    kept = "dropped" if data.drop_last else "kept"
    parts = [f"{cfg.schedule[key]} of them {word}" for key, word in COUNTED if cfg.schedule.get(key)]
    return ", ".join([total, *parts, f"the last batch {kept} if it isn't full"])


def _rate(cfg: DictConfig, effective: int, per_epoch: int | None) -> str:
    """Of the first step, the highest, of the last; by the schedule itself."""
    schedule = cfg.schedule
    top = scaled(cfg.optimizer.lr, schedule.get("lr_rule", "none"), schedule.get("lr_batch"), effective)
    made = _optimizer(cfg)
    epochs, steps = cfg.trainer.get("max_epochs"), cfg.trainer.get("max_steps", -1)
    if schedule.get("name", "constant") == "constant":
        return f"{top:.3g} throughout; {made}"
    if per_epoch is None or epochs in (None, -1):
        return f"{schedule.warmup_lr:.3g}, then {top:.3g}, at last {schedule.min_lr:.3g}; {made}"
    total = epochs * per_epoch if steps in (None, -1) else min(steps, epochs * per_epoch)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=top)
    cosine = Cosine(optimizer, schedule, total, per_epoch)
    rates = {}
    for step in {0, *range(0, total, per_epoch), total - 1}:
        cosine.at(step)
        rates[step] = optimizer.param_groups[0]["lr"]
    high = max(rates, key=rates.__getitem__)
    return (
        f"{rates[0]:.3g} at the start, {rates[high]:.3g} from epoch {high // per_epoch}, {rates[total - 1]:.3g} at the"
        f" end, changed each {'epoch' if cosine.by_epoch else 'step'}; {made}"
    )


def _optimizer(cfg: DictConfig) -> str:
    made = instantiate(cfg.optimizer)([torch.nn.Parameter(torch.zeros(1))])
    return f"{type(made).__name__}, weight decay {made.defaults.get('weight_decay', 0):.3g}"


def _mixing(data: ImageData) -> str:
    off = data.mixup_off_epoch
    until = "to the end" if off is None else f"until epoch {off}"
    smooth = bool(off is not None and data.smooth_after_mixup and getattr(data.mixup, "label_smoothing", 0))
    settings = {key: vars(data.mixup)[key] for key in MIXUP if key in vars(data.mixup)}
    made = ", ".join(f"{key}={value}" for key, value in settings.items())
    return f"{type(data.mixup).__name__}({made}) {until}" + ", its smoothing to the end" * smooth
