"""Activation checkpointing: keep a block's input alone, and run the block again in the backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def recomputed(block: nn.Module, x: Tensor, random: bool) -> Tensor:
    """``block(x)``; ``random``: whether the block draws numbers, which then must be the same again."""
    contexts: Any = lambda: (nullcontext(), still(block))
    return checkpoint(partial(block), x, use_reentrant=False, preserve_rng_state=random, context_fn=contexts)


@contextmanager
def still(block: nn.Module) -> Iterator[None]:
    """Batch norms of ``block`` leave their running estimates alone: they have seen this batch already."""
    norms = [m for m in block.modules() if isinstance(m, NORMS)]
    kept = [(m.momentum, m.num_batches_tracked) for m in norms]
    try:
        for norm in norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None
        yield
    finally:
        for norm, (momentum, tracked) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, tracked
