"""Batch norm and the T steps of a neuron in one pass over memory, each way; at inference its max-pooling too."""

from __future__ import annotations

import ctypes
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from spikefront.nn.kernels import masked
from spikefront.nn.kernels.launch import Constants, Operator, call, followed, usable
from spikefront.nn.kernels.layout import alike, dense, distance, empty_frames, inner, like
from spikefront.nn.kernels.norm import normalises, statistics, through_norm
from spikefront.nn.kernels.pool import MaxPool
from spikefront.nn.torch_internals import watched

NOTHING, BEFORE, AFTER = range(3)  # what is added where: ``Other`` in neuron.cpp


def fire(
    x: Tensor,
    gain: Tensor | float,
    leak: float | None,
    threshold: float,
    soft: bool,
    detach: bool,
    surrogate: Any,
    norm: nn.Module | None = None,
    timesteps: int | None = None,
    before: Tensor | None = None,
    after: Tensor | None = None,
    over: bool = False,
) -> Tensor:
    """``neuron(norm(x) + before) + after`` in one pass: spikes ``(T, ...)`` of ``(T, ...)``, or of ``(1, ...)``.

    The latter is shown ``timesteps`` times. ``norm`` acts on the third dimension. Backward recomputes the potentials
    from ``x`` and ``before``, all that is saved. Of ``before`` and ``after`` there may be one, which lies in memory as
    the spikes do (``joins``). ``over``: ``x`` is nobody else's, so that without gradients spikes may take its place.
    """
    x = dense(x)
    other, where = (after, AFTER) if after is not None else (before, BEFORE if before is not None else NOTHING)
    learned, fixed = (gain, 0.0) if isinstance(gain, Tensor) else (None, gain)
    affine: tuple[Any, ...] = (None,) * 6 + (0,)
    if isinstance(norm, nn.BatchNorm2d):
        affine = norm.weight, norm.bias, *statistics(x, norm)
    constants = timesteps or x.shape[0], fixed, leak, threshold, soft, detach, *surrogate.kernel
    if over and constants[0] == len(x) and not (torch.is_grad_enabled() or followed(x)):
        known = _constants(learned, fixed, leak, threshold, soft)
        call("neuron_forward", x, other, where, x, *_shape(x, len(x), affine[2]), *affine[2:4], known)
        return x
    spikes = _neuron(x, other, where, learned, *affine, *constants)
    if (
        other is None
        and spikes.requires_grad
        and hasattr(surrogate, "reach")
        and not followed(x)
        and _rows(x)
        and masked.runs()
    ):
        scale, shift = affine[2:4]
        known = x.detach(), scale, shift, constants[0], _constants(learned, fixed, leak, threshold, soft)
        masked.mark(spikes, lambda: _near(*known, surrogate.reach))
    return spikes


def joins(x: Tensor, other: Tensor | None, timesteps: int | None) -> bool:
    """Whether the kernel can add ``other`` on its way."""
    return other is not None and timesteps in (None, len(x)) and inner(x) is not None and alike(x, other)


def _rows(x: Tensor) -> bool:
    """Whether the kernels on bits can read it: frames in float32, channels last."""
    return x.dim() == 5 and x.dtype == torch.float32 and inner(x) == 1


def _near(x: Tensor, scale: Tensor | None, shift: Tensor | None, steps: int, constants: Any, reach: float) -> Tensor:
    """Bits of where potentials are nearer to the threshold than ``reach``, ``(pixels, words)``."""
    frame, channels = x[0].numel(), x.shape[2]
    bits = torch.empty(steps * frame // channels, -(-channels // 64), dtype=torch.int64)
    step = frame if x.shape[0] > 1 else 0
    call("neuron_near", x, bits, steps, step, frame, channels, scale, shift, constants, ctypes.c_double(reach))
    return bits


def fire_pooled(x: Tensor, neuron: Any, norm: nn.Module, pool: MaxPool, timesteps: int | None = None) -> Tensor | None:
    """``pool(neuron(norm(x)))`` in one pass, for inference; None where that can't be.

    It can't where gradients, single spikes or bits are wanted, and but in channels-last memory.
    """
    if (
        torch.is_grad_enabled()
        or neuron.readers
        or any(map(watched, (neuron, norm, pool)))
        or not (usable(x) and normalises(norm) and x.dim() == 5 and inner(x) == 1)
    ):
        return None
    scale = shift = None
    if isinstance(norm, nn.BatchNorm2d):
        scale, shift, *_ = statistics(x, norm)
    gain, leak = neuron.gain_and_leak()
    learned, fixed = (gain.to(x.dtype), 0.0) if isinstance(gain, Tensor) else (None, gain)
    steps, soft = timesteps or x.shape[0], neuron.reset == "soft"
    return _neuron_pooled(x, learned, scale, shift, steps, pool.stride, fixed, leak, neuron.threshold, soft)


def neuron(
    x: Tensor,
    other: Tensor | None,
    where: int,
    gain: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    mean: Tensor | None,
    inverse_std: Tensor | None,
    count: int,
    steps: int,
    fixed_gain: float,
    leak: float | None,
    threshold: float,
    soft: bool,
    detach: bool,
    kind: int,
    a: float,
    b: float,
) -> Tensor:
    """Spikes of ``scale x + shift``, ``other`` added to that or to them; what else is given is for the gradient."""
    spikes = _spikes(x, steps)
    constants = _constants(gain, fixed_gain, leak, threshold, soft)
    call("neuron_forward", x, other, where, spikes, *_shape(x, steps, scale), scale, shift, constants)
    return spikes


def neuron_backward(
    x: Tensor,
    other: Tensor | None,
    grad: Tensor,
    gain: Tensor | None,
    weight: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    mean: Tensor | None,
    inverse_std: Tensor | None,
    count: int,
    steps: int,
    fixed_gain: float,
    leak: float | None,
    threshold: float,
    soft: bool,
    detach: bool,
    kind: int,
    a: float,
    b: float,
) -> list[Tensor]:
    """Gradients of ``x``, of a learned gain if there is one, of a norm's weight and bias if there are, of the currents.

    The last where ``other`` was added to these, and a norm is. ``grad`` is that of the spikes and lies in memory as
    ``x`` does.
    """
    shape = _shape(x, steps, scale)
    grad_x = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype)
    learns = gain is not None and leak is None
    grad_gain = torch.zeros((), dtype=torch.float64) if learns else None
    sums = torch.zeros(2, x.shape[2], dtype=torch.float64) if scale is not None else None
    constants = _constants(gain, fixed_gain, leak, threshold, soft, detach, a, b)
    call("neuron_backward", x, other, grad, grad_x, grad_gain, sums, *shape, scale, shift, constants, kind)
    of_norm: tuple[Tensor, ...] = ()
    if sums is not None:
        assert weight is not None and mean is not None and inverse_std is not None
        currents, grad_x = grad_x, grad_x if other is None else torch.empty_like(grad_x)
        of_norm = through_norm(currents, x, grad_x, sums, weight, mean, inverse_std, count)
        of_norm += (currents,) if other is not None else ()
    return [grad_x, *([grad_gain.to(x.dtype)] if grad_gain is not None else []), *of_norm]


def neuron_pooled(
    x: Tensor,
    gain: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    steps: int,
    stride: int,
    fixed_gain: float,
    leak: float | None,
    threshold: float,
    soft: bool,
) -> Tensor:
    """Spikes of ``scale x + shift``, max-pooled."""
    b, c, h, w = x.shape[1:]
    out = _pooled(x, steps, stride)
    step = x[0].numel() if x.shape[0] > 1 else 0
    constants = _constants(gain, fixed_gain, leak, threshold, soft)
    call("fire_pool", x, out, steps, step, b, c, h, w, stride, scale, shift, constants)
    return out


def _spikes(x: Tensor, steps: int, *_: Any) -> Tensor:
    return x.new_empty_strided((steps, *x.shape[1:]), (prod(x.shape[1:]), *x.stride()[1:]))


def _pooled(x: Tensor, steps: int, stride: int) -> Tensor:
    b, c, h, w = x.shape[1:]
    out = empty_frames(x, (steps * b, c, (h - 1) // stride + 1, (w - 1) // stride + 1), x.dtype)
    return out.unflatten(0, (steps, b))


def _shape(x: Tensor, steps: int, scale: Tensor | None) -> tuple[int, ...]:
    """What the kernels are told: steps, how far apart they lie, elements of one, channels, how far apart those lie."""
    frame = x.numel() // x.shape[0]
    return steps, frame if x.shape[0] > 1 else 0, frame, x.shape[2] if scale is not None else 0, distance(x)


def _constants(
    gain: Tensor | None,
    fixed: float,
    leak: float | None,
    threshold: float,
    soft: bool,
    detach: bool = True,
    a: float = 0,
    b: float = 0,
) -> Any:
    """What a kernel must know of a neuron; how resets pass gradients and the surrogate only for the backward pass."""
    g = fixed if gain is None else float(gain)
    return ctypes.byref(Constants(g, 1 - g if leak is None else leak, threshold, soft, detach, a, b))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, other, ctx.where, gain, weight, _, scale, shift, mean, inverse_std, *ctx.constants = inputs
    ctx.learns = gain is not None and ctx.constants[3] is None
    other = other if ctx.where == BEFORE else None
    ctx.save_for_backward(x, other, gain, weight, scale, shift, mean, inverse_std)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, other, gain, weight, *affine = ctx.saved_tensors
    grad = like(grad, (prod(x.shape[1:]), *x.stride()[1:]))
    grad_x, *others = _neuron_backward(x, other, grad, gain, weight, *affine, *ctx.constants)
    grad_gain = others.pop(0) if ctx.learns else None
    *of_norm, of_other = [*others, grad_x] if weight is None or other is None else others
    of_other = {NOTHING: None, BEFORE: of_other, AFTER: grad}[ctx.where]
    return grad_x, of_other, None, grad_gain, *(of_norm or (None, None)), *[None] * 14


def _fake_backward(
    x: Tensor, other: Tensor | None, grad: Tensor, gain: Tensor | None, weight: Tensor | None, *more: Any
) -> list[Tensor]:
    *_, leak, _threshold, _soft, _detach, _kind, _a, _b = more
    found = [torch.empty_like(x), *([x.new_empty(())] if gain is not None and leak is None else [])]
    if weight is not None:
        found += [*(torch.empty_like(weight) for _ in "wb"), *([torch.empty_like(x)] if other is not None else [])]
    return found


_CONSTANTS = "SymInt steps, float fixed_gain, float? leak, float threshold, bool soft"
_BACK = "SymInt count, " + _CONSTANTS + ", bool detach, int kind, float a, float b"
_AFFINE = "Tensor? scale, Tensor? shift, Tensor? mean, Tensor? inverse_std, "
_neuron = Operator(
    neuron,
    f"(Tensor x, Tensor? other, int where, Tensor? gain, Tensor? weight, Tensor? bias, {_AFFINE}{_BACK}) -> Tensor",
    lambda x, *more: _spikes(x, more[10]),
)
_neuron_backward = Operator(
    neuron_backward,
    f"(Tensor x, Tensor? other, Tensor grad, Tensor? gain, Tensor? weight, {_AFFINE}{_BACK}) -> Tensor[]",
    _fake_backward,
)
_neuron_pooled = Operator(
    neuron_pooled,
    "(Tensor x, Tensor? gain, Tensor? scale, Tensor? shift, SymInt steps, int stride, float fixed_gain, float? leak,"
    " float threshold, bool soft) -> Tensor",
    lambda x, gain, scale, shift, steps, stride, *_: _pooled(x, steps, stride),
)
_neuron.differentiate(_backward, _keep)
