"""Activation checkpointing: keep a block's input alone, and run the block again in the backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from spikefront.nn.torch_internals import function_mode

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def recomputed(block: nn.Module, x: Tensor, random: bool) -> Tensor:
    """``block(x)``; ``random``: whether the block draws numbers, which then must be the same again."""
    contexts: Any = lambda: (nullcontext(), _again(block, function_mode()))
    return checkpoint(partial(block), x, use_reentrant=False, preserve_rng_state=random, context_fn=contexts)


@contextmanager
def _again(block: nn.Module, mode: AbstractContextManager[Any]) -> Iterator[None]:
    with still(block), mode:  # autocast's own state PyTorch keeps, not that of what plays its part
        yield


@contextmanager
def still(block: nn.Module) -> Iterator[None]:
    """What runs along in ``block``, batch norms' estimates and firing rates, stays: it has seen this batch already."""
    norms = [m for m in block.modules() if isinstance(m, NORMS)]
    rates: list[Any] = [m for m in block.modules() if hasattr(m, "still")]
    kept = [(m.momentum, m.num_batches_tracked) for m in norms]
    try:
        for norm in norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None
        for rate in rates:
            rate.still = True
        yield
    finally:
        for norm, (momentum, tracked) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, tracked
        for rate in rates:
            rate.still = False
