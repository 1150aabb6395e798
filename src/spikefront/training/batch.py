"""The effective batch: samples an optimiser step sees, over all processes and accumulated passes."""

from __future__ import annotations

import math

import pytorch_lightning as pl
from omegaconf import DictConfig

from spikefront.errors import UserError, near_matches

RULES = {"none": lambda ratio: 1.0, "linear": lambda ratio: ratio, "sqrt": math.sqrt}


def share(effective: int, batch: int, processes: int, even: bool = False) -> tuple[int, int]:
    """Samples a pass, at most ``batch``, and passes a step, with which ``processes`` make ``effective`` samples a step.

    Args:
        even: mixup mixes pairs.

    Raises:
        UserError: they can't.
    """
    whole, rest = divmod(effective, processes)
    sizes = [] if rest else [n for n in range(min(batch, whole), 0, -1) if whole % n == 0 and not (even and n % 2)]
    if not sizes:
        raise UserError(
            f"trainer.effective_batch={effective} can't be shared by {processes} process{'es' * (processes > 1)}"
            f"{' in even batches (data.mixup mixes pairs)' if even else ''}: choose a multiple of"
            f" {processes * (1 + even)}, or null for data.batch_size={batch} each"
        )
    return sizes[0], whole // sizes[0]


def wanted_batch(cfg: DictConfig, batch: int, trainer: pl.Trainer) -> int | None:
    """The effective batch that ``cfg.trainer.effective_batch`` asks for; None: ``batch`` for each process.

    ``auto``: what one process takes, on several that of the data set's recipe if it has one, shared out.
    """
    asked = cfg.trainer.get("effective_batch")
    if asked != "auto":
        return asked
    if trainer.world_size == 1:
        return None
    return cfg.data.get("effective_batch") or batch * trainer.accumulate_grad_batches


def effective_batch(trainer: pl.Trainer) -> int:
    """Samples of one optimiser step."""
    batch: int = trainer.datamodule.batch_size  # type: ignore[attr-defined]
    return batch * trainer.world_size * trainer.accumulate_grad_batches


def scaled(lr: float, rule: str, published: int | None, effective: int) -> float:
    """The learning rate for ``effective`` samples a step, of one that is right for ``published`` ones.

    ``linear`` (arXiv 1706.02677) suits SGD, ``sqrt`` (arXiv 1904.00962) LAMB and Adam.
    """
    if rule not in RULES:
        raise UserError(f"schedule.lr_rule is {rule!r}; {near_matches(rule, RULES)}")
    if rule != "none" and not published:
        raise UserError(
            f"schedule.lr_rule={rule} needs schedule.lr_batch, the effective batch that optimizer.lr is for"
        )
    return lr * RULES[rule](effective / (published or effective))
