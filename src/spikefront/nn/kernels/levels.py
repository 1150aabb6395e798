"""Batch norm and a neuron of several spikes at once, without memory, in one pass each way."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor, nn

from spikefront.nn.kernels.launch import Operator, call, followed
from spikefront.nn.kernels.layout import dense, distance, like
from spikefront.nn.kernels.norm import statistics

MOST = 2**20  # spikes at once that the kernel rounds to


class Settings(ctypes.Structure):
    """``Levels`` in neuron.cpp."""

    _fields_ = [
        *((name, ctypes.c_float) for name in ("threshold", "levels", "per")),
        *((name, ctypes.c_int32) for name in ("up", "closed")),
    ]


def fire_levels(
    x: Tensor,
    norm: nn.Module | None,
    threshold: float,
    most: int,
    per: float,
    up: bool,
    closed: bool,
    over: bool = False,
) -> Tensor:
    """``clip(round(norm(x) / threshold), 0, most) / per`` of ``(T, ...)``; halves to even, or ``up``.

    The gradient is 1 where that is in its range, with or without (``closed`` False) the ends. ``norm`` acts on the
    third dimension; backward then recomputes from ``x``, all that is saved, and without one reads a byte a value.
    ``over`` as ``fire`` takes it.
    """
    x = dense(x)
    affine: tuple[Any, ...] = (None,) * 6 + (0,)
    if isinstance(norm, nn.BatchNorm2d):
        affine = norm.weight, norm.bias, *statistics(x, norm)
    if over and not (torch.is_grad_enabled() or followed(x)):
        sizes, settings = _sizes(x, affine[2]), _settings(threshold, most, per, up, closed)
        call("levels_forward", x, x, None, *sizes, *affine[2:4], settings)
        return x
    remember = affine[0] is None and torch.is_grad_enabled() and x.requires_grad
    spikes: Tensor = _levels(x, *affine, threshold, most, per, up, closed, remember)[0]
    return spikes


def levels(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    mean: Tensor | None,
    inverse_std: Tensor | None,
    count: int,
    threshold: float,
    most: int,
    per: float,
    up: bool,
    closed: bool,
    remember: bool,
) -> tuple[Tensor, Tensor]:
    """Spikes of ``scale x + shift``, and with ``remember`` where they pass a gradient, else nothing there."""
    spikes, inside = _results(x, remember)
    sizes, settings = _sizes(x, scale), _settings(threshold, most, per, up, closed)
    call("levels_forward", x, spikes, inside if remember else None, *sizes, scale, shift, settings)
    return spikes, inside


def levels_backward(grad: Tensor, inside: Tensor, threshold: float, per: float) -> Tensor:
    """The gradient of what was read without a norm; all lie in memory alike."""
    out = torch.empty_like(grad)
    call("levels_backward", grad, inside, out, grad.numel(), _settings(threshold, 1, per, False, True))
    return out


def levels_norm_backward(
    x: Tensor,
    grad: Tensor,
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    mean: Tensor,
    inverse_std: Tensor,
    count: int,
    threshold: float,
    most: int,
    per: float,
    closed: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``x``, weight and bias, from that of the spikes, which lies in memory as ``x`` does."""
    out = torch.empty_like(x)
    grad_weight, grad_bias = (torch.empty_like(weight, dtype=torch.float32) for _ in "wb")
    known = scale, shift, weight.float(), mean, inverse_std, count, grad_weight, grad_bias
    settings = _settings(threshold, most, per, False, closed)
    call("levels_norm_backward", grad, x, out, *known, *_sizes(x, scale), settings)
    return out, grad_weight.to(weight.dtype), grad_bias.to(weight.dtype)


def _sizes(x: Tensor, scale: Tensor | None) -> tuple[int, int, int, int]:
    """Frames, elements of one, channels if these are told apart, how far apart they lie."""
    return len(x), x[0].numel(), x.shape[2] if scale is not None else 0, distance(x)


def _settings(threshold: float, most: int, per: float, up: bool, closed: bool) -> Any:
    return ctypes.byref(Settings(threshold, most, per, up, closed))


def _results(x: Tensor, remember: bool) -> tuple[Tensor, Tensor]:
    inside = torch.empty_like(x, dtype=torch.uint8) if remember else x.new_empty(0, dtype=torch.uint8)
    return torch.empty_like(x), inside


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, _, *affine, ctx.count, threshold, most, per, _up, closed, _ = inputs
    ctx.constants = threshold, most, per, closed
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*((output[1],) if weight is None else (x, weight, *affine)))


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    first, *affine = ctx.saved_tensors
    threshold, most, per, closed = ctx.constants
    grad = like(grad, first.stride())
    if affine:
        return *_levels_norm_backward(first, grad, *affine, ctx.count, threshold, most, per, closed), *[None] * 11
    return _levels_backward(grad, first, threshold, per), *[None] * 13


_levels = Operator(
    levels,
    "(Tensor x, Tensor? weight, Tensor? bias, Tensor? scale, Tensor? shift, Tensor? mean, Tensor? inverse_std,"
    " SymInt count, float threshold, int most, float per, bool up, bool closed, bool remember) -> (Tensor, Tensor)",
    lambda x, *more: _results(x, more[-1]),
)
_levels_backward = Operator(
    levels_backward,
    "(Tensor grad, Tensor inside, float threshold, float per) -> Tensor",
    lambda grad, *_: torch.empty_like(grad),
)
_levels_norm_backward = Operator(
    levels_norm_backward,
    "(Tensor x, Tensor grad, Tensor weight, Tensor scale, Tensor shift, Tensor mean, Tensor inverse_std, SymInt count,"
    " float threshold, int most, float per, bool closed) -> (Tensor, Tensor, Tensor)",
    lambda x, grad, weight, *_: (torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)),
)
_levels.differentiate(_backward, _keep)
