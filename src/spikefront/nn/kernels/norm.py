"""Batch norm over the third dimension of ``(T, B, C, ...)``: statistics, result and gradient in one pass each."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spikefront.nn.kernels.launch import Operator, call
from spikefront.nn.kernels.layout import alike, dense, distance, like
from spikefront.nn.torch_internals import watched, watched_backward


class Statistics(NamedTuple):
    """What a batch norm does to a channel: ``scale x + shift``, and what its gradient needs.

    Attributes:
        scale, shift: float32.
        mean, inverse_std: float64.
        values: how many they were taken of; 0 for running estimates, through which no gradient flows.
    """

    scale: Tensor
    shift: Tensor
    mean: Tensor
    inverse_std: Tensor
    values: int


def normalises(bn: nn.Module) -> bool:
    """Whether ``bn`` is a batch norm that the fused neuron can do in its own pass, or nothing at all."""
    if type(bn) is nn.Identity:
        return True
    hooks = watched(bn) or watched_backward(bn)
    return type(bn) is nn.BatchNorm2d and bn.affine and bn.track_running_stats and bn.momentum is not None and not hooks


def normalise(x: Tensor, norm: nn.Module, onto: Tensor | None = None) -> Tensor:
    """``norm`` over the third dimension of ``(T, B, C, ...)``, added to ``onto``."""
    if not isinstance(norm, nn.BatchNorm2d):
        return x if onto is None else onto + x
    x = dense(x)
    if onto is not None and not alike(x, onto):
        return onto + normalise(x, norm)
    return _norm(x, norm.weight, norm.bias, *statistics(x, norm), onto)


def statistics(x: Tensor, norm: nn.BatchNorm2d) -> Statistics:
    """Of the batch in training, whose running estimates are updated as ``norm`` does; else these, of 0 values."""
    assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
    weight, bias = norm.weight.detach(), norm.bias.detach()
    if not norm.training:
        mean, inverse_std = norm.running_mean.double(), (norm.running_var.double() + norm.eps).rsqrt()
        scale = weight.double() * inverse_std
        return Statistics(scale.float(), (bias.double() - mean * scale).float(), mean, inverse_std, 0)
    count = x.numel() // x.shape[2]
    if count < 2:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(x.shape)}")
    factors, exact = _moments(x.detach(), weight, bias, norm.eps)
    with torch.no_grad():
        norm.running_mean.lerp_(factors[2].to(norm.running_mean.dtype), norm.momentum)
        norm.running_var.lerp_(factors[3].to(norm.running_var.dtype), norm.momentum)
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
    return Statistics(factors[0], factors[1], exact[0], exact[1], count)


def through_norm(
    grad: Tensor, x: Tensor, out: Tensor, sums: Tensor, weight: Tensor, mean: Tensor, inverse_std: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """Gradients of a norm's weight and bias, and in ``out`` of ``x``, from its output's and that one's channel sums."""
    grad_weight, grad_bias = (torch.empty_like(weight, dtype=torch.float32) for _ in "wb")
    known = sums, weight.float(), mean, inverse_std, count
    call("norm_combine", grad, x, out, *known, grad_weight, grad_bias, *_sizes(x))
    return grad_weight.to(weight.dtype), grad_bias.to(weight.dtype)


def moments(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Float32 rows of what a norm in training is: scale, shift, mean, variance; in float64 mean and inverse deviation.

    That variance is the unbiased one, which running estimates take.
    """
    factors, exact = _rows(x)
    call("norm_moments", x, weight.float(), bias.float(), ctypes.c_double(eps), factors, exact, *_sizes(x))
    return factors, exact


def _rows(x: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return x.new_empty((4, x.shape[2]), dtype=torch.float32), x.new_empty((2, x.shape[2]), dtype=torch.float64)


def _sizes(x: Tensor) -> tuple[int, int, int, int]:
    """Frames, elements of one, channels, how far apart these lie."""
    return len(x), x[0].numel(), x.shape[2], distance(x)


def norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    scale: Tensor,
    shift: Tensor,
    mean: Tensor,
    inverse_std: Tensor,
    count: int,
    other: Tensor | None,
) -> Tensor:
    """``scale x + shift + other``; what else is given is for the gradient."""
    y = torch.empty_like(x)
    call("norm_apply", x, other, y, scale, shift, *_sizes(x))
    return y


def norm_backward(
    x: Tensor, grad: Tensor, weight: Tensor, mean: Tensor, inverse_std: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``x``, weight and bias, from that of the output, which lies in memory as ``x`` does."""
    sums, out = torch.zeros(2, x.shape[2], dtype=torch.float64), torch.empty_like(x)
    call("norm_sums", x, grad, sums, *_sizes(x))
    grad_weight, grad_bias = through_norm(grad, x, out, sums, weight, mean, inverse_std, count)
    return out, grad_weight, grad_bias


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, _, _, mean, inverse_std, ctx.count, _ = inputs
    ctx.save_for_backward(x, weight, mean, inverse_std)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, mean, inverse_std = ctx.saved_tensors
    grads = _norm_backward(x, like(grad, x.stride()), weight, mean, inverse_std, ctx.count)
    return *grads, *[None] * 5, grad if ctx.needs_input_grad[8] else None


_moments = Operator(moments, "(Tensor x, Tensor weight, Tensor bias, float eps) -> (Tensor, Tensor)", _rows)
_norm = Operator(
    norm,
    "(Tensor x, Tensor weight, Tensor bias, Tensor scale, Tensor shift, Tensor mean, Tensor inverse_std, SymInt count,"
    " Tensor? other) -> Tensor",
    lambda x, *_: torch.empty_like(x),
)
_norm_backward = Operator(
    norm_backward,
    "(Tensor x, Tensor grad, Tensor weight, Tensor mean, Tensor inverse_std, SymInt count) -> (Tensor, Tensor, Tensor)",
    lambda x, grad, weight, *_: (torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)),
)
_norm.differentiate(_backward, _keep)
