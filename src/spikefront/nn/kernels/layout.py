"""How tensors that kernels take lie in memory: dense, time first, channels last or planes of channels."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spikefront.nn.kernels.launch import KNOWN, followed, usable


def inner(x: Tensor) -> int | None:
    """How far apart channels are in memory, those of ``(T, B, C, ...)`` or of frames; None: not dense, time first."""
    if x.is_contiguous():
        return prod(x.shape[3:]) if x.dim() > 2 else 1
    if x.dim() not in (4, 5):
        return None
    shape, strides, expected = x.shape, x.stride(), 1
    for dim in (-3, -1, -2, *range(x.dim() - 4, -1, -1)):  # channels innermost; asking x itself takes far longer
        if shape[dim] != 1:
            if strides[dim] != expected:
                return None
            expected *= shape[dim]
    return 1


def dense(x: Tensor) -> Tensor:
    """``x``, copied if need be into memory that kernels walk through."""
    return x.contiguous() if inner(x) is None else x


def distance(x: Tensor) -> int:
    """``inner`` of a dense tensor."""
    found = inner(x)
    assert found is not None
    return found


def alike(x: Tensor, other: Tensor) -> bool:
    """Whether a kernel can walk through both at once."""
    return (other.dtype, other.shape, other.stride()) == (x.dtype, x.shape, x.stride()) and type(other) in KNOWN


def like(x: Tensor, strides: tuple[int, ...]) -> Tensor:
    """``x`` with these strides."""
    return x if x.stride() == strides else x.new_empty_strided(x.shape, strides).copy_(x)


def gradient_alike(x: Tensor) -> Tensor:
    """``x``, whose gradient will lie in memory as it does: what is then added to that one is added in one walk."""
    return _Alike.apply(x) if x.requires_grad and usable(x) and not followed(x) else x


class _Alike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.strides = x.stride()
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return like(grads[0], ctx.strides)


def empty_frames(x: Tensor, size: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Frames ``(N, C, H, W)`` in channels-last memory, where ``x`` is."""
    return torch.empty(size, dtype=dtype, device=x.device, memory_format=torch.channels_last)


def empty_planes(x: Tensor, size: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Planes ``(frames, heads, tokens, width)`` of frames in channels-last memory, where ``x`` is."""
    frames, heads, tokens, width = size
    return torch.empty(frames, tokens, heads, width, dtype=dtype, device=x.device).transpose(1, 2)
