"""Fused CPU kernels: batch norm and neuron in one pass, max-pooling without 64-bit indices, spikes kept as bits.

Every one has a plain PyTorch twin that runs wherever ``usable`` says no: on another device or dtype, without a
compiler, under ``torch.compile``. In float32 spikes are the same bit for bit given the same currents; in bfloat16, also
under autocast, the kernels keep potentials in float32, which the twin doesn't.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spikefront.nn.kernels import sparse
from spikefront.nn.kernels.build import library

SMALLEST_PACKED = 4096  # elements
Statistics = tuple[Tensor, Tensor, int]  # of a batch norm: mean, inverse deviation, number of values or 0


class _Constants(ctypes.Structure):
    """``Neuron`` in neuron.cpp."""

    _fields_ = [
        *((name, ctypes.c_float) for name in ("gain", "leak", "threshold")),
        ("soft", ctypes.c_int32),
        ("detach", ctypes.c_int32),
        ("a", ctypes.c_float),
        ("b", ctypes.c_float),
    ]


@dataclass(frozen=True)
class StandIn:
    """Who runs the kernels inside ``standing_in``.

    Attributes:
        run: ``(name, arguments, launch)`` for each kernel; ``launch()`` is the compiled one.
        fire: ``(x, norm, timesteps)`` -> spikes: tensors of every device then count as usable, and neurons fire so.
    """

    run: Callable[[str, tuple[Any, ...], Callable[[], Any]], Any]
    fire: Callable[[Tensor, nn.Module | None, int | None], Tensor] | None = None


_stand_in: StandIn | None = None


@contextmanager
def standing_in(other: StandIn) -> Iterator[None]:
    """Hand kernels to ``other`` in this context: to watch them, or to rehearse a network on tensors without data."""
    global _stand_in
    before, _stand_in = _stand_in, other
    try:
        yield
    finally:
        _stand_in = before


def usable(x: Tensor) -> bool:
    """Whether ``x`` is a plain float32 or bfloat16 tensor on the CPU of a machine with compiled kernels."""
    if _stand_in is not None and _stand_in.fire is not None:
        return x.numel() > 0
    return (
        type(x) in (Tensor, nn.Parameter)
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.device.type == "cpu"
        and x.numel() > 0
        and not torch.compiler.is_compiling()
        and library("neuron") is not None
    )


def normalises(bn: nn.Module) -> bool:
    """Whether ``bn`` is a batch norm that the fused neuron can do in its own pass, or nothing at all."""
    if type(bn) is nn.Identity:
        return True
    hooks = bn._forward_hooks or bn._forward_pre_hooks or bn._backward_hooks
    return type(bn) is nn.BatchNorm2d and bn.affine and bn.track_running_stats and bn.momentum is not None and not hooks


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
) -> Tensor:
    """``neuron(norm(x))`` in one pass, ``(T, ...)`` or, shown ``timesteps`` times, ``(1, ...)`` -> ``(T, ...)`` spikes.

    ``norm`` acts on the third dimension. Backward recomputes the potentials from ``x``, all that is saved.
    """
    if _stand_in is not None and _stand_in.fire is not None:
        return _stand_in.fire(x, norm, timesteps)
    if not isinstance(norm, nn.BatchNorm2d):
        return _Fire.apply(x, gain, None, None, None, timesteps, leak, threshold, soft, detach, surrogate)
    statistics = _statistics(x, norm)
    return _Fire.apply(x, gain, norm.weight, norm.bias, statistics, timesteps, leak, threshold, soft, detach, surrogate)


def fire_pooled(x: Tensor, neuron: Any, norm: nn.Module, pool: MaxPool, timesteps: int | None = None) -> Tensor | None:
    """``pool(neuron(norm(x)))`` in one pass, for inference; None where that can't be.

    It can't where gradients, single spikes or bits are wanted, and but in channels-last memory.
    """
    if (
        torch.is_grad_enabled()
        or _stand_in is not None
        or neuron.readers
        or any(map(sparse.watched, (neuron, norm, pool)))
        or not (usable(x) and normalises(norm) and _inner(x) == 1 and x.dim() == 5)
    ):
        return None
    scale = shift = None
    if isinstance(norm, nn.BatchNorm2d):
        scale, shift = _affine(norm.weight, norm.bias, _statistics(x, norm))
    steps, (b, c, h, w), stride = timesteps or x.shape[0], x.shape[1:], pool.stride
    assert isinstance(stride, int)
    size = (steps * b, c, (h - 1) // stride + 1, (w - 1) // stride + 1)
    out = _empty_frames(size, x.dtype)
    gain, leak = neuron.gain_and_leak()
    gain = gain.to(x.dtype) if isinstance(gain, Tensor) else gain
    constants = _constants(gain, leak, neuron.threshold, neuron.reset == "soft")
    step = x[0].numel() if x.shape[0] > 1 else 0
    _call("fire_pool", x, out, steps, step, b, c, h, w, stride, scale, shift, ctypes.byref(constants))
    return out.unflatten(0, (steps, b))


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gain: Tensor | float,
        weight: Tensor | None,
        bias: Tensor | None,
        statistics: Statistics | None,
        timesteps: int | None,
        leak: float | None,
        threshold: float,
        soft: bool,
        detach: bool,
        surrogate: Any,
    ) -> Tensor:
        x, inner = _dense(x)
        steps = timesteps or x.shape[0]
        kind, *of_surrogate = surrogate.kernel
        constants = _constants(gain, leak, threshold, soft, detach, *of_surrogate)
        scale = shift = None
        if weight is not None and bias is not None and statistics is not None:
            scale, shift = _affine(weight, bias, statistics)
        frame = x.numel() // x.shape[0]
        spikes = x.new_empty_strided((steps, *x.shape[1:]), (frame, *x.stride()[1:]))
        shape = (steps, frame if x.shape[0] > 1 else 0, frame, x.shape[2] if scale is not None else 0, inner)
        _call("neuron_forward", x, spikes, *shape, scale, shift, ctypes.byref(constants))
        ctx.save_for_backward(x, weight)
        ctx.kernel = shape, constants, kind, scale, shift, statistics, leak is None and isinstance(gain, Tensor)
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        shape, constants, kind, scale, shift, statistics, learns_gain = ctx.kernel
        frame, channels, inner = shape[2:]
        grad_spikes = _like(grads[0], (frame, *x.stride()[1:]))
        grad = torch.empty_strided(x.shape, x.stride())  # float32, as all sums
        grad_gain = torch.zeros((), dtype=torch.float64) if learns_gain else None
        sums = torch.zeros(2, channels, dtype=torch.float64) if channels else None
        arguments = (x, grad_spikes, grad, grad_gain, sums, *shape, scale, shift, ctypes.byref(constants), kind)
        _call("neuron_backward", *arguments)
        grad_weight = grad_bias = None
        if sums is not None:
            grad_weight, grad_bias = _through_norm(grad, x, grad, sums, weight, statistics, inner)
        if grad_gain is not None:
            grad_gain = grad_gain.to(x.dtype)
        return grad.to(x.dtype), grad_gain, grad_weight, grad_bias, *[None] * 7


def normalise(x: Tensor, norm: nn.Module) -> Tensor:
    """``norm`` over the third dimension of ``(T, B, C, ...)``."""
    return _Norm.apply(x, norm.weight, norm.bias, _statistics(x, norm)) if isinstance(norm, nn.BatchNorm2d) else x


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, statistics: Statistics) -> Tensor:
        x, inner = _dense(x)
        y = torch.empty_like(x)
        _call("norm_apply", x, y, *_affine(weight, bias, statistics), len(x), x[0].numel(), x.shape[2], inner)
        ctx.save_for_backward(x, weight)
        ctx.statistics, ctx.inner = statistics, inner
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = _like(grads[0], x.stride()).float()
        sums, out = torch.zeros(2, x.shape[2], dtype=torch.float64), torch.empty_strided(x.shape, x.stride())
        _call("norm_sums", x, grad, sums, len(x), x[0].numel(), x.shape[2], ctx.inner)
        grad_weight, grad_bias = _through_norm(grad, x, out, sums, weight, ctx.statistics, ctx.inner)
        return out.to(x.dtype), grad_weight, grad_bias, None


def _constants(
    gain: Tensor | float,
    leak: float | None,
    threshold: float,
    soft: bool,
    detach: bool = True,
    a: float = 0,
    b: float = 0,
) -> _Constants:
    """What a kernel must know of a neuron; how resets pass gradients and the surrogate only for the backward pass."""
    g = float(gain)
    return _Constants(g, 1 - g if leak is None else leak, threshold, soft, detach, a, b)


def _affine(weight: Tensor, bias: Tensor, statistics: Statistics) -> tuple[Tensor, Tensor]:
    """Scale and shift of a channel."""
    mean, inverse_std, _ = statistics
    scale = weight.double() * inverse_std
    return scale.float(), (bias.double() - mean * scale).float()


def _through_norm(
    grad: Tensor, x: Tensor, out: Tensor, sums: Tensor, weight: Tensor, statistics: Statistics, inner: int
) -> tuple[Tensor, Tensor]:
    """Gradients of a norm's weight and bias, and in ``out`` of ``x``, from its output's and that one's channel sums."""
    mean, inverse_std, count = statistics
    grad_bias, grad_weight = sums[0], inverse_std * (sums[1] - mean * sums[0])
    a = weight.double() * inverse_std
    if count:  # the batch's own statistics
        b = -a * inverse_std * grad_weight / count
        d = a * (mean * inverse_std * grad_weight - grad_bias) / count
    else:
        b = d = torch.zeros_like(a)
    factors = [f.float() for f in (a, b, d)]
    _call("norm_combine", grad, x, out, *factors, len(x), x[0].numel(), x.shape[2], inner, like=x)
    return grad_weight.to(weight.dtype), grad_bias.to(weight.dtype)


def _statistics(x: Tensor, norm: nn.BatchNorm2d) -> Statistics:
    """Of the batch in training, whose running estimates are updated as ``norm`` does; else these, of 0 values."""
    assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
    if not norm.training:
        return norm.running_mean.double(), (norm.running_var.double() + norm.eps).rsqrt(), 0
    x, inner = _dense(x)
    channels = x.shape[2]
    count = x.numel() // channels
    if count < 2:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(x.shape)}")
    sums = torch.zeros(2, channels, dtype=torch.float64)
    _call("norm_sums", x, None, sums, len(x), x[0].numel(), channels, inner)
    mean = sums[0] / count
    variance = (sums[1] / count - mean * mean).clamp_min(0)
    with torch.no_grad():
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), norm.momentum)
        norm.running_var.lerp_((variance * count / (count - 1)).to(norm.running_var.dtype), norm.momentum)
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
    return mean, (variance + norm.eps).rsqrt(), count


class MaxPool(nn.MaxPool2d):
    """3x3 max-pooling, padding 1, which remembers a winner in a byte instead of eight.

    Of frames in channels-last memory and, with stride 1, of such frames' planes ``(N, heads, H W, D / heads)``.
    """

    reads_bits = True

    def __init__(self, stride: int) -> None:
        super().__init__(3, stride, 1)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, sparse.Spikes):
            return sparse.pool(x, self.stride)
        if usable(x) and x.dim() == 4:
            if x.is_contiguous(memory_format=torch.channels_last):
                return _Pool.apply(x, "pool", self.stride)
            if self.stride == 1 and x.transpose(1, 2).is_contiguous():
                return _Pool.apply(x, "pool_planes")
        return super().forward(x)


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: str, stride: int | None = None) -> Tensor:
        n, c, h, w = x.shape
        empty = _empty_planes
        if stride is not None:
            h, w, empty = (h - 1) // stride + 1, (w - 1) // stride + 1, _empty_frames
        size, out = (n, c, h, w), empty((n, c, h, w), x.dtype)
        which = empty(size, torch.uint8) if ctx.needs_input_grad[0] else None
        ctx.kernel, ctx.empty, ctx.sizes = kernel, empty, (*x.shape, *([] if stride is None else [stride]))
        _call(f"{kernel}_forward", x, out, which, *ctx.sizes)
        ctx.save_for_backward(which)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (which,) = ctx.saved_tensors
        grad, grad_out = ctx.empty(ctx.sizes[:4], torch.float32), _like(grads[0], which.stride())
        _call(f"{ctx.kernel}_backward", grad_out, which, grad, *ctx.sizes)
        return grad.to(grad_out.dtype), None, None


def _empty_frames(size: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty(size, dtype=dtype, memory_format=torch.channels_last)


def _empty_planes(size: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    frames, heads, tokens, width = size
    return torch.empty(frames, tokens, heads, width, dtype=dtype).transpose(1, 2)


@contextmanager
def packed_spikes() -> Iterator[None]:
    """What autograd saves inside this context is kept as bits where it holds only zeros and ones."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or library("neuron") is None:
        yield
        return
    with torch.autograd.graph.saved_tensors_hooks(_pack, _unpack):
        yield


def _pack(x: Tensor) -> Any:
    if not usable(x) or x.numel() < SMALLEST_PACKED or (x.requires_grad and x.is_leaf) or _inner(x) is None:
        return x
    bits = torch.empty((x.numel() + 7) // 8, dtype=torch.uint8)
    return (bits, x.shape, x.stride(), x.dtype) if _call("pack", x, bits, x.numel()) else x


def _unpack(kept: Any) -> Tensor:
    if isinstance(kept, Tensor):
        return kept
    bits, shape, stride, dtype = kept
    x = torch.empty_strided(shape, stride, dtype=dtype)
    _call("unpack", bits, x, x.numel(), like=x)
    return x


def _inner(x: Tensor) -> int | None:
    """How far apart channels are in memory, those of ``(T, B, C, ...)`` or of frames; None: not dense, time first."""
    if x.is_contiguous():
        return x[0, 0, 0].numel() if x.dim() > 2 else 1
    together = x.dim() == 5 and (x.shape[1] == 1 or x.stride(0) == x.shape[1] * x.stride(1))
    frames = x.flatten(0, 1) if together else x
    return 1 if frames.dim() == 4 and frames.is_contiguous(memory_format=torch.channels_last) else None


def _dense(x: Tensor) -> tuple[Tensor, int]:
    inner = _inner(x)
    if inner is None:
        x = x.contiguous()
        inner = _inner(x)
    assert inner is not None
    return x.detach(), inner


def _like(x: Tensor, strides: tuple[int, ...]) -> Tensor:
    """``x`` with these strides."""
    return x if x.stride() == strides else torch.empty_strided(x.shape, strides, dtype=x.dtype).copy_(x)


def _call(name: str, *arguments: Any, like: Tensor | None = None) -> Any:
    """Run the kernel for the dtype of ``like``, by default of the first argument."""
    if _stand_in is not None:
        return _stand_in.run(name, arguments, lambda: _launch(name, arguments, like))
    return _launch(name, arguments, like)


def _launch(name: str, arguments: tuple[Any, ...], like: Tensor | None) -> Any:
    kernels = library("neuron")
    assert kernels is not None
    dtype = (arguments[0] if like is None else like).dtype
    return getattr(kernels, f"{name}_{str(dtype).removeprefix('torch.')}")(*map(_c, arguments))


def _c(argument: Any) -> Any:
    if argument is None:
        return ctypes.c_void_p()
    if isinstance(argument, Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    return ctypes.c_int64(argument) if isinstance(argument, int) else argument
