"""The effective batch: samples an optimiser step sees, over all processes and accumulated passes."""

from __future__ import annotations

import math

import pytorch_lightning as pl

from spikefront.errors import UserError, near_matches

RULES = {"none": lambda ratio: 1.0, "linear": lambda ratio: ratio, "sqrt": math.sqrt}


def accumulation(effective: int, batch: int, processes: int) -> int:
    """Passes to accumulate for ``effective`` samples a step when each of ``processes`` takes ``batch`` a pass."""
    passes, rest = divmod(effective, batch * processes)
    if rest or not passes:
        raise UserError(
            f"trainer.effective_batch is {effective}, no multiple of data.batch_size={batch} on {processes}"
            f" process{'es' * (processes > 1)}: choose a batch size that divides {effective / processes:g}"
        )
    return passes


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
