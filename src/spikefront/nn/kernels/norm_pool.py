"""Batch norm in training and 3x3 max-pooling of what it gives, in one pass each way: that itself is never written."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spikefront.nn.kernels.launch import Operator, call, usable
from spikefront.nn.kernels.layout import empty_frames, inner, like
from spikefront.nn.kernels.norm import normalises, statistics
from spikefront.nn.kernels.pool import MaxPool
from spikefront.nn.torch_internals import watched


def normalise_pooled(x: Tensor, norm: nn.Module, pool: nn.Module) -> Tensor | None:
    """``pool(norm(x))`` of ``(T, B, C, H, W)`` in one pass, for training; None where that can't be.

    It can't but in channels-last memory, and where someone looks at what is pooled.
    """
    if (
        not (isinstance(pool, MaxPool) and isinstance(norm, nn.BatchNorm2d) and norm.training and pool.stride in (1, 2))
        or watched(pool)
        or not (usable(x) and normalises(norm) and x.dim() == 5 and inner(x) == 1)
    ):
        return None
    remember = torch.is_grad_enabled() and (x.requires_grad or norm.weight.requires_grad)
    known = norm.weight, norm.bias, *statistics(x, norm)
    pooled: Tensor = _norm_pool(x, *known, pool.stride, remember)[0]
    return pooled


def norm_pool(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    scale: Tensor,
    shift: Tensor,
    mean: Tensor,
    inverse_std: Tensor,
    count: int,
    stride: int,
    remember: bool,
) -> tuple[Tensor, Tensor]:
    """Max-pooled ``scale x + shift``, and for the gradient which of its window each value is, else nothing there."""
    out, which = _results(x, stride, remember)
    call("pool_forward", x, out, which if remember else None, *_frames(x), stride, scale, shift)
    return out, which


def norm_pool_backward(
    x: Tensor,
    grad: Tensor,
    which: Tensor,
    weight: Tensor,
    mean: Tensor,
    inverse_std: Tensor,
    count: int,
    stride: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``x``, weight and bias, from that of what was pooled, which lies in memory as ``which`` does."""
    out = torch.empty_like(x)
    grad_weight, grad_bias = (torch.empty_like(weight, dtype=torch.float32) for _ in "wb")
    known = weight.float(), mean, inverse_std, count, grad_weight, grad_bias
    call("norm_pool_backward", grad, which, x, out, *known, *_frames(x), stride)
    return out, grad_weight.to(weight.dtype), grad_bias.to(weight.dtype)


def _frames(x: Tensor) -> tuple[int, ...]:
    return x.shape[0] * x.shape[1], *x.shape[2:]


def _results(x: Tensor, stride: int, remember: bool) -> tuple[Tensor, Tensor]:
    n, c, h, w = _frames(x)
    size = n, c, (h - 1) // stride + 1, (w - 1) // stride + 1
    which = empty_frames(x, size, torch.uint8) if remember else x.new_empty(0, dtype=torch.uint8)
    return empty_frames(x, size, x.dtype).unflatten(0, x.shape[:2]), which


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, _, _, _, mean, inverse_std, ctx.count, ctx.stride, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(x, output[1], weight, mean, inverse_std)


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    x, which, *known = ctx.saved_tensors
    grad = like(grad.flatten(0, 1), which.stride())
    return *_norm_pool_backward(x, grad, which, *known, ctx.count, ctx.stride), *[None] * 7


_norm_pool = Operator(
    norm_pool,
    "(Tensor x, Tensor weight, Tensor bias, Tensor scale, Tensor shift, Tensor mean, Tensor inverse_std, SymInt count,"
    " int stride, bool remember) -> (Tensor, Tensor)",
    lambda x, *more: _results(x, *more[-2:]),
)
_norm_pool_backward = Operator(
    norm_pool_backward,
    "(Tensor x, Tensor grad, Tensor which, Tensor weight, Tensor mean, Tensor inverse_std, SymInt count, int stride)"
    " -> (Tensor, Tensor, Tensor)",
    lambda x, grad, which, weight, *_: (torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)),
)
_norm_pool.differentiate(_backward, _keep)
