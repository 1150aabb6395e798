"""The GPU's fused kernels as operations that autograd, ``torch.compile`` and CUDA graphs know.

Eager networks call the same functions through ``Fused``, which costs less a call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.library import custom_op

from spikefront.nn.kernels import launches
from spikefront.nn.kernels.launches import Settings


class Fused(torch.autograd.Function):
    """``pool(neuron(norm(x)))``, of which each part may be missing, or ``norm(x) + other``.

    ``before`` is the bias of the convolution that gave ``x`` without it; ``factors`` know it already.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, gain: Tensor | None, before: Tensor | None,
        other: Tensor | None, factors: Tensor | None, numbers: list[float], keep: bool,
    ) -> Tensor:  # fmt: skip
        out, winners = launches.forward(x, factors, gain, other, numbers, keep)
        ctx.save_for_backward(x, winners, factors, weight, gain, before)
        ctx.numbers = numbers
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *saved, gain, before = ctx.saved_tensors
        x, winners, factors, weight = saved
        found = launches.backward(grads[0], x, winners, factors, weight, gain, ctx.numbers)
        return _gradients(ctx, grads[0], found, saved[2], before)


def _gradients(
    ctx: Any, grad: Tensor, found: tuple[Tensor, ...], factors: Tensor | None, before: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Of ``x, weight, bias, gain, before, other`` and of what has none."""
    need, of_before = ctx.needs_input_grad, None
    if before is not None and need[4] and factors is not None:  # batch statistics take any bias off again
        of_before = torch.zeros_like(before) if Settings.read(ctx.numbers).count else (found[2] * factors[2]).to(before)
    each = (*found[:4], of_before, grad)
    return *(g if needed else None for g, needed in zip(each, need[:6], strict=True)), None, None, None


@custom_op("spikefront::norm_statistics", mutates_args=("mean", "variance", "tracked"))
def norm_statistics(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    tracked: Tensor | None,
    train: bool,
    momentum: float,
    eps: float,
    before: Tensor | None,
) -> Tensor:
    """See ``launches.statistics``."""
    return launches.statistics(x, weight, bias, mean, variance, tracked, train, momentum, eps, before)


@norm_statistics.register_fake
def _(x: Tensor, *_: Any) -> Tensor:
    return torch.empty(4, x.shape[2], device=x.device, dtype=torch.float32)


@custom_op("spikefront::fused_forward", mutates_args=())
def fused_forward(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    gain: Tensor | None,
    before: Tensor | None,
    other: Tensor | None,
    factors: Tensor | None,
    numbers: Sequence[float],
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """See ``launches.forward``."""
    return launches.forward(x, factors, gain, other, list(numbers), keep)


@fused_forward.register_fake
def _(
    x: Tensor, weight: Any, bias: Any, gain: Any, before: Any, other: Any, factors: Any, numbers: Sequence[float],
    keep: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    n = Settings.read(list(numbers))
    if not n.pool:
        out = x.new_empty_strided((n.steps, *x.shape[1:]), (x[0].numel(), *x.stride()[1:]))
        return out, x.new_empty(0, dtype=torch.uint8)
    out = launches.empty_frames((n.steps, *launches.pooled_shape(x)), x)
    return out, x.new_empty(out[0].numel() if keep else 0, dtype=launches.winner(n.steps) if keep else torch.uint8)


@custom_op("spikefront::fused_backward", mutates_args=())
def fused_backward(
    grad: Tensor,
    x: Tensor,
    winners: Tensor,
    factors: Tensor | None,
    weight: Tensor | None,
    gain: Tensor | None,
    numbers: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See ``launches.backward``."""
    return launches.backward(grad, x, winners, factors, weight, gain, list(numbers))


@fused_backward.register_fake
def _(
    grad: Tensor, x: Tensor, winners: Any, factors: Any, weight: Any, gain: Any, numbers: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    of_weight, of_bias = (torch.empty_like(weight) if weight is not None else x.new_empty(0) for _ in range(2))
    return torch.empty_like(x), of_weight, of_bias, torch.empty_like(gain) if gain is not None else x.new_empty(0)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, _, gain, before, _, factors, numbers, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(x, output[1], factors, weight, gain, before)
    ctx.numbers = numbers


def _through(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    *saved, gain, before = ctx.saved_tensors
    found = fused_backward(grad, *saved, gain, ctx.numbers)
    return _gradients(ctx, grad, found, saved[2], before)


fused_forward.register_autograd(_through, setup_context=_keep)
