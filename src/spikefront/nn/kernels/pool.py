"""3x3 max-pooling that remembers a winner in a byte, of frames and of heads' planes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spikefront.nn.kernels import masked, whole
from spikefront.nn.kernels.launch import Operator, call, usable
from spikefront.nn.kernels.layout import empty_frames, empty_planes, like
from spikefront.nn.kernels.sparse import Spikes
from spikefront.nn.kernels.sparse import pool as pool_bits


class MaxPool(nn.MaxPool2d):
    """3x3 max-pooling, padding 1, which remembers a winner in a byte instead of eight.

    Of frames in channels-last memory and, with stride 1, of such frames' planes ``(N, heads, H W, D / heads)``.
    """

    reads_bits = True

    def __init__(self, stride: int) -> None:
        super().__init__(3, stride, 1)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, Spikes):
            return pool_bits(x, self.stride)
        if x.dtype == torch.int32 and x.device.type == "cpu" and whole.available():
            return whole.pool(x, int(self.stride))  # type: ignore[arg-type]  # one number, of ours
        if usable(x) and x.dim() == 4 and self.stride in (1, 2):
            remember = torch.is_grad_enabled() and x.requires_grad
            if x.is_contiguous(memory_format=torch.channels_last):
                out, which = _max_pool(x, self.stride, False, remember)
                if remember:
                    masked.pooled(x, out, which, self.stride)
                return out
            if self.stride == 1 and x.transpose(1, 2).is_contiguous():
                return _max_pool(x, 1, True, remember)[0]
        return super().forward(x)


def max_pool(x: Tensor, stride: int, planes: bool, remember: bool) -> tuple[Tensor, Tensor]:
    """The pooled ``x``, and for the gradient which of its window each value is; without ``remember`` that is empty."""
    out, which = _results(x, stride, planes, remember)
    name = "pool_planes_forward" if planes else "pool_forward"
    call(name, x, out, which if remember else None, *x.shape, *([] if planes else [stride, None, None]))
    return out, which


def max_pool_backward(grad: Tensor, which: Tensor, height: int, width: int, stride: int, planes: bool) -> Tensor:
    """The gradient of what was pooled, ``(N, C, height, width)``, from that of the result, in memory as ``which``."""
    size = (*which.shape[:2], height, width)
    out = (empty_planes if planes else empty_frames)(grad, size, grad.dtype)
    name = "pool_planes_backward" if planes else "pool_backward"
    call(name, grad, which, out, *size, *([] if planes else [stride]))
    return out


def _results(x: Tensor, stride: int, planes: bool, remember: bool) -> tuple[Tensor, Tensor]:
    n, c, h, w = x.shape
    size, empty = (n, c, (h - 1) // stride + 1, (w - 1) // stride + 1), empty_planes if planes else empty_frames
    which = empty(x, size, torch.uint8) if remember else x.new_empty(0, dtype=torch.uint8)
    return empty(x, size, x.dtype), which


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, ctx.stride, ctx.planes, _ = inputs
    ctx.size = x.shape[2:]
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1])


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    (which,) = ctx.saved_tensors
    grad = like(grad, which.stride())
    return _max_pool_backward(grad, which, *ctx.size, ctx.stride, ctx.planes), None, None, None


_max_pool = Operator(max_pool, "(Tensor x, int stride, bool planes, bool remember) -> (Tensor, Tensor)", _results)
_max_pool_backward = Operator(
    max_pool_backward,
    "(Tensor grad, Tensor which, SymInt height, SymInt width, int stride, bool planes) -> Tensor",
    lambda grad, which, height, width, stride, planes: (empty_planes if planes else empty_frames)(
        grad, (*which.shape[:2], height, width), grad.dtype
    ),
)
_max_pool.differentiate(_backward, _keep)
