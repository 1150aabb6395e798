"""What compiled kernels that work on rows of pixels are given: rows, numbers and pointers."""

from __future__ import annotations

import ctypes

from torch import Tensor


def rows_of(x: Tensor) -> Tensor:
    """Pixels of frames ``(..., C, H, W)`` as rows ``(pixels, C)``, without a copy from channels-last memory."""
    frames = x.detach().flatten(0, -4) if x.dim() == 5 else x.detach()
    return frames.permute(0, 2, 3, 1).contiguous().view(-1, x.shape[-3])


def words_in(channels: int) -> int:
    """How many words of 64 bits a row of so many channels has."""
    return -(-channels // 64)


def number(value: int) -> ctypes.c_int64:
    """A whole number of C."""
    return ctypes.c_int64(value)


def pointer(x: Tensor | None) -> ctypes.c_void_p:
    """To a tensor's memory, which the caller keeps; or to nothing."""
    return ctypes.c_void_p(x.data_ptr() if x is not None else None)
