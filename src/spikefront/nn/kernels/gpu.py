"""The neuron's T steps as one Triton kernel each way on a CUDA device, in the place of ``IntegrateAndFire``.

Every program takes a block of elements through time, so a sequence is read and written once. As on the CPU, potentials
are float32 inside whatever the dtype, and the backward pass recomputes them from the currents, all that is saved.
Without contraction into fused multiply-adds, so that in float32 spikes equal PyTorch's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spikefront.nn.kernels import compiled, launches, normalises
from spikefront.nn.kernels.launches import like
from spikefront.nn.torch_internals import version_of, watched

try:
    import triton
    import triton.language as tl
except ImportError:  # PyTorch for CPUs comes without
    triton = None

BLOCK = 1024  # elements a program
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Biased(NamedTuple):
    """What a norm's kernel also does: adds the bias of the convolution before, which then was run without."""

    norm: nn.Module
    bias: Tensor


Norm = nn.Module | Biased


def usable(x: Tensor) -> bool:
    """Whether ``x`` is a tensor that the kernels take."""
    here = x.is_cuda or (launches.INTERPRETED and x.device.type == "cpu")
    known = x.dtype in DTYPES and x.numel() > 0 and type(x) in (Tensor, nn.Parameter)
    return triton is not None and here and known and not torch.jit.is_tracing()


def fire(
    x: Tensor,
    gain: Tensor | float,
    leak: float | None,
    threshold: float,
    soft: bool,
    detach: bool,
    surrogate: Any,
    norm: Norm | None = None,
    timesteps: int | None = None,
    pool: bool = False,
) -> Tensor:
    """``neuron(norm(x))``, ``(T, ...)`` or, shown ``timesteps`` times, ``(1, ...)`` -> ``(T, ...)`` spikes.

    ``norm`` acts on the third dimension. With ``pool`` spikes are max-pooled 3x3 with stride 2 in the same pass.
    Backward recomputes the potentials from ``x``, all that is saved, and statistics.
    """
    steps = timesteps or x.shape[0]
    if steps > launches.LONGEST:
        x = normalise(x, norm) if norm is not None else x
        return Fire.apply(x.expand(steps, *x.shape[1:]), gain, leak, threshold, soft, detach, surrogate)
    learned = gain if isinstance(gain, Tensor) else None
    g = 0.0 if isinstance(gain, Tensor) else gain
    rest = (g, 1 - g if leak is None else leak, threshold, soft, detach, *surrogate.kernel, pool)
    return _fused(x, learned, norm, launches.Settings(steps, *rest))


def normalise(x: Tensor, norm: Norm, other: Tensor | None = None) -> Tensor:
    """``norm`` over the third dimension of ``(T, B, C, ...)``, and ``other`` of its shape and dtype added."""
    if type(norm) is nn.Identity:
        return x if other is None else x + other
    return _fused(x, None, norm, launches.Settings(x.shape[0]), other)


def fire_pooled(x: Tensor, neuron: Any, norm: Norm, pool: Any, timesteps: int | None = None) -> Tensor | None:
    """``pool(neuron(norm(x)))`` in one go each way; None where that can't be, as where single spikes are watched."""
    steps = timesteps or x.shape[0]
    own = norm.norm if isinstance(norm, Biased) else norm
    fits = pool.stride == 2 and steps <= launches.LONGEST_POOLED and launches.channels_last(x)
    known = hasattr(neuron.surrogate, "kernel") and normalises(own)
    if not fits or not known or any(map(watched, (neuron, own, pool))):
        return None
    gain, leak = neuron.gain_and_leak()
    constants = gain, leak, neuron.threshold, neuron.reset == "soft", neuron.detach_reset, neuron.surrogate
    return fire(x, *constants, norm, timesteps, pool=True)


def knows(neuron: Any) -> bool:
    """Whether the kernels have this neuron's surrogate, and nobody looks at the currents it gets."""
    return hasattr(getattr(neuron, "surrogate", None), "kernel") and not watched(neuron)


def without_bias(x: Tensor, conv: nn.Module, norm: nn.Module) -> Biased | None:
    """The bias that ``norm``'s kernel will add for ``conv``, which reads ``x``; None: the convolution does."""
    plain = type(conv) is nn.Conv2d and conv.bias is not None and conv.padding_mode == "zeros"
    if not plain or not usable(x) or not normalises(norm) or watched(conv) or watched(norm):
        return None
    if type(norm) is nn.Identity and conv.bias.requires_grad and torch.is_grad_enabled():
        return None
    return Biased(norm, conv.bias)  # type: ignore[arg-type]


def _fused(
    x: Tensor, gain: Tensor | None, norm: Norm | None, settings: launches.Settings, other: Tensor | None = None
) -> Tensor:
    x = launches.dense(x)
    norm, before = norm if isinstance(norm, Biased) else (norm, None)
    factors = weight = bias = None
    if isinstance(norm, nn.BatchNorm2d):
        factors, weight, bias = _factors(x, norm, before), norm.weight, norm.bias
        if norm.training:
            settings = settings._replace(count=x.numel() // x.shape[2])
    elif before is not None:
        factors = _shift(before)
    if other is not None:
        other = launches.like(other, x.stride())
    tensors = [x, weight, bias, gain, before, other]
    keep = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    if torch.compiler.is_compiling():
        return compiled.fused_forward(*tensors, factors, settings.numbers(), keep)[0]
    return compiled.Fused.apply(*tensors, factors, settings.numbers(), keep)


def _factors(x: Tensor, norm: nn.BatchNorm2d, before: Tensor | None) -> Tensor:
    if norm.training and x.numel() // x.shape[2] < 2:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(x.shape)}")
    with torch.no_grad():
        tensors = (x.detach(), norm.weight.detach(), norm.bias.detach(), norm.running_mean, norm.running_var)
        run: Any = compiled.norm_statistics if torch.compiler.is_compiling() else launches.statistics
        last = None if before is None else before.detach()
        return run(*tensors, norm.num_batches_tracked, norm.training, norm.momentum, norm.eps, last)


def _shift(bias: Tensor) -> Tensor:
    """Factors ``(4, C)`` that add ``bias`` alone, kept beside it."""
    compiling = torch.compiler.is_compiling()
    key = None if compiling else (bias.data_ptr(), version_of(bias))
    kept: Any = getattr(bias, "_factors", (None, None))
    if key is not None and kept[0] == key:
        return kept[1]
    with torch.inference_mode(False):
        shift = bias.detach().float()
        factors = torch.stack([torch.zeros_like(shift), torch.ones_like(shift), torch.ones_like(shift), shift])
    if not compiling:
        bias._factors = (key, factors)  # type: ignore[attr-defined]
    return factors


if triton is not None:

    @triton.jit
    def _gain_and_leak(learned, gain, leak, LEARNED: tl.constexpr):
        if LEARNED:
            gain = tl.load(learned).to(tl.float32)
            leak = 1 - gain
        return gain, leak

    @triton.jit
    def _integrate(x, inside, v, gain, leak):
        return leak * v + gain * tl.load(x, inside, 0.0).to(tl.float32)

    @triton.jit
    def _after_reset(h, threshold, SOFT: tl.constexpr):
        if SOFT:
            v = tl.where(h >= threshold, h - threshold, h)
        else:
            v = tl.where(h >= threshold, 0.0, h)
        return v

    @triton.jit
    def _derivative(u, a, b, KIND: tl.constexpr):
        """Of the surrogate with this number in surrogates.py."""
        if KIND == 0:
            s = 1 / (1 + tl.exp(-a * u))
            d = a * s * (1 - s)
        elif KIND == 1:
            z = 1.5707963267948966 * a * u
            d = a / 2 / (1 + z * z)
        elif KIND == 2:
            d = b * tl.maximum(1 - tl.abs(u) / a, 0.0)
        elif KIND == 3:
            z = 1 + a * tl.abs(u)
            d = 1 / (z * z)
        elif KIND == 4:
            d = tl.where(tl.abs(u) < a / 2, 1 / a, 0.0)
        else:
            d = tl.where(u == u, 1.0, u)
        return d

    @triton.jit
    def _forward(
        x, spikes, learned, T, step, frame, gain, leak, threshold,
        SOFT: tl.constexpr, LEARNED: tl.constexpr, BLOCK: tl.constexpr,
    ):  # fmt: skip
        at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        inside = at < frame
        gain, leak = _gain_and_leak(learned, gain, leak, LEARNED)
        x, spikes = x + at, spikes + at
        v = tl.full([BLOCK], 0.0, tl.float32)
        for _ in range(T):  # pointers walk: T frames may be more elements than 32 bits count
            h = _integrate(x, inside, v, gain, leak)
            tl.store(spikes, tl.where(h >= threshold, 1.0, 0.0).to(spikes.dtype.element_ty), inside)
            v = _after_reset(h, threshold, SOFT)
            x, spikes = x + step, spikes + frame

    @triton.jit
    def _backward(
        x, grad_spikes, grad, potential, partial, learned, T, step, frame, gain, leak, threshold, a, b,
        SOFT: tl.constexpr, DETACH: tl.constexpr, KIND: tl.constexpr, LEARNED: tl.constexpr, BLOCK: tl.constexpr,
    ):  # fmt: skip
        at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        inside = at < frame
        gain, leak = _gain_and_leak(learned, gain, leak, LEARNED)
        x, grad_spikes, grad, potential = x + at, grad_spikes + at, grad + at, potential + at
        v = tl.full([BLOCK], 0.0, tl.float32)
        for _ in range(T):
            h = _integrate(x, inside, v, gain, leak)
            tl.store(potential, h, inside)
            v = _after_reset(h, threshold, SOFT)
            x, grad_spikes, grad, potential = x + step, grad_spikes + frame, grad + frame, potential + frame
        grad_v, total = tl.full([BLOCK], 0.0, tl.float32), tl.full([BLOCK], 0.0, tl.float32)
        for i in range(T):
            x, grad_spikes, grad, potential = x - step, grad_spikes - frame, grad - frame, potential - frame
            h = tl.load(potential, inside, 0.0)
            slope = _derivative(h - threshold, a, b, KIND)
            through = tl.where(h >= threshold, 1.0 if SOFT else 0.0, 1.0)
            if not DETACH:
                through -= slope * (threshold if SOFT else h)
            grad_h = tl.load(grad_spikes, inside, 0.0).to(tl.float32) * slope + grad_v * through
            tl.store(grad, (grad_h * gain).to(grad.dtype.element_ty), inside)
            if LEARNED:
                before = tl.load(potential - frame, inside & (i < T - 1), 0.0)
                current = tl.load(x, inside, 0.0).to(tl.float32)
                total += grad_h * (current - _after_reset(before, threshold, SOFT))
            grad_v = grad_h * leak
        if LEARNED:
            tl.store(partial + at, total, inside)


class Fire(torch.autograd.Function):
    """``IntegrateAndFire`` for surrogates that have a ``kernel``."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gain: Tensor | float,
        leak: float | None,
        threshold: float,
        soft_reset: bool,
        detach_reset: bool,
        surrogate: Any,
    ) -> Tensor:
        frame = x[0].numel()
        if x.stride(0) not in (0, frame) or not _is_dense(x[0]):
            x = x.contiguous()
        spikes = x.new_empty_strided(x.shape, (frame, *x.stride()[1:]))
        learned = isinstance(gain, Tensor)
        g = 0.0 if isinstance(gain, Tensor) else gain  # else the kernel reads it where it is: no wait for the device
        numbers = (x.shape[0], x.stride(0), frame, g, 1 - g if leak is None else leak, threshold)
        ctx.launch = {"SOFT": soft_reset, "LEARNED": learned, "BLOCK": BLOCK, "enable_fp_fusion": False}
        with _on(x):
            _forward[_grid(x)](x, spikes, gain if learned else x, *numbers, **ctx.launch)
        ctx.save_for_backward(x, *([gain] if isinstance(gain, Tensor) else []))
        ctx.constants = numbers, detach_reset, surrogate.kernel
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *gains = ctx.saved_tensors
        numbers, detach_reset, (kind, a, b) = ctx.constants
        strides = x[0].numel(), *x.stride()[1:]
        grad = x.new_empty_strided(x.shape, strides)
        potential = torch.empty_like(grad, dtype=torch.float32)
        partial = torch.empty_like(potential[0]) if gains else x
        tensors = (x, like(grads[0], strides), grad, potential, partial, gains[0] if gains else x)
        with _on(x):
            _backward[_grid(x)](*tensors, *numbers, a, b, KIND=kind, DETACH=detach_reset, **ctx.launch)
        grad_gain = partial.sum(dtype=torch.float64).to(gains[0].dtype) if gains else None
        return grad, grad_gain, None, None, None, None, None


def _is_dense(frame: Tensor) -> bool:
    return frame.is_contiguous() or (frame.dim() == 4 and frame.is_contiguous(memory_format=torch.channels_last))


def _grid(x: Tensor) -> tuple[int]:
    return (triton.cdiv(x[0].numel(), BLOCK),)


def _on(x: Tensor) -> torch.cuda.device:
    """Context in which kernels go to the device of ``x``."""
    return torch.cuda.device(x.device if x.is_cuda else -1)
