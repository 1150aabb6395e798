"""Batch normalisation, and means, over the batch of all processes, on any device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.plugins import TorchSyncBatchNorm
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def of_several() -> bool:
    """Whether this process trains together with others."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class GlobalBatchNorm(_BatchNorm):
    """BN whose training statistics are those of all processes' batches together, for backends without CUDA.

    ``torch.nn.SyncBatchNorm`` computes the same and takes CUDA tensors only. Means first, then squares of what is left,
    so nothing cancels; gradients flow through both sums. Parameters and buffers keep BatchNorm's names.
    """

    def _check_input_dim(self, input: Tensor) -> None: ...

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and of_several()):
            return super().forward(x)
        dims = [d for d in range(x.dim()) if d != 1]
        shape = [-1 if d == 1 else 1 for d in range(x.dim())]
        local = torch.cat([x.sum(dims), x.new_full((1,), x.numel() / x.shape[1])])
        total = _Sum.apply(local)
        count = total[-1].detach()
        mean = total[:-1] / count
        centred = x - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(dims)) / count
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            rate = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate)
                unbiased = variance * (count / (count - 1).clamp_min(1))
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), rate)
        y = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y


class _Sum(torch.autograd.Function):
    """The sum over all processes, forward and backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].clone()
        dist.all_reduce(grad)
        return grad


def mean_of_all(x: Tensor) -> Tensor:
    """The mean over all processes; gradients, averaged as DDP does, are those of one process with the whole batch."""
    if not of_several():
        return x
    return _Sum.apply(x) / dist.get_world_size()


class SynchronisedBatchNorm(TorchSyncBatchNorm):
    """Lightning's switch ``sync_batchnorm``: torch's SyncBatchNorm on CUDA, ``GlobalBatchNorm`` elsewhere.

    ``trainer.plugins`` takes one; it has no effect on a single process.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        if torch.cuda.is_available():
            return super().apply(model)
        for module in model.modules():
            if isinstance(module, _BatchNorm) and type(module).forward is _BatchNorm.forward:
                module.__dict__.setdefault("before", type(module))
                module.__class__ = GlobalBatchNorm
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        if torch.cuda.is_available():
            return super().revert(model)
        for module in model.modules():
            if isinstance(module, GlobalBatchNorm):
                module.__class__ = module.__dict__.pop("before")
        return model


class StaticDDP(DDPStrategy):
    """DDP of a graph that stays the same, in which parameters may take no part, as published networks have some.

    Gradients are averaged after each accumulated pass, which comes to the same: PyTorch can't leave it out in a static
    graph (its issue 143580), where the first pass raises and later ones would not be averaged at all. Norms have equal
    buffers where they are synchronised, else ``FirstNorms`` makes them, as evaluation shares may differ by a batch.
    """

    def __init__(self) -> None:
        super().__init__(broadcast_buffers=False, static_graph=True)

    @contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        yield


class FirstNorms(pl.Callback):
    """Has evaluation take the first process's buffers, where norms aren't synchronised.

    In training only a batch's own statistics act, so this is what DDP's broadcast before each forward pass comes to;
    that one would wait for ever where shares of an evaluation differ by a batch.
    """

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        for buffer in pl_module.model.buffers():
            dist.broadcast(buffer, 0)

    on_test_epoch_start = on_validation_epoch_start
