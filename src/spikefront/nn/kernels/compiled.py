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
    """``pool(neuron(norm(x)))``, of which each part may be missing."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, gain: Tensor | None, factors: Tensor | None,
        numbers: list[float], keep: bool,
    ) -> Tensor:  # fmt: skip
        out, winners = launches.forward(x, factors, gain, numbers, keep)
        ctx.save_for_backward(x, winners, factors, weight, gain)
        ctx.numbers = numbers
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, winners, factors, weight, gain = ctx.saved_tensors
        found = launches.backward(grads[0], x, winners, factors, weight, gain, ctx.numbers)
        norm = found[1:3] if factors is not None else (None, None)
        return found[0], *norm, found[3] if gain is not None else None, None, None, None


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
) -> Tensor:
    """See ``launches.statistics``."""
    return launches.statistics(x, weight, bias, mean, variance, tracked, train, momentum, eps)


@norm_statistics.register_fake
def _(x: Tensor, *_: Any) -> Tensor:
    return torch.empty(4, x.shape[2], device=x.device, dtype=torch.float32)


@custom_op("spikefront::fused_forward", mutates_args=())
def fused_forward(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    gain: Tensor | None,
    factors: Tensor | None,
    numbers: Sequence[float],
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """See ``launches.forward``."""
    return launches.forward(x, factors, gain, list(numbers), keep)


@fused_forward.register_fake
def _(
    x: Tensor, weight: Any, bias: Any, gain: Any, factors: Any, numbers: Sequence[float], keep: bool
) -> tuple[Tensor, Tensor]:
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
    norm = [torch.empty_like(weight) if factors is not None else x.new_empty(0) for _ in range(2)]
    return torch.empty_like(x), *norm, torch.empty_like(gain) if gain is not None else x.new_empty(0)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, _, gain, factors, numbers, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(x, output[1], factors, weight, gain)
    ctx.numbers = numbers


def _through(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    x, winners, factors, weight, gain = ctx.saved_tensors
    found = fused_backward(grad, x, winners, factors, weight, gain, ctx.numbers)
    norm = found[1:3] if factors is not None else (None, None)
    return found[0], *norm, found[3] if gain is not None else None, None, None, None


fused_forward.register_autograd(_through, setup_context=_keep)
