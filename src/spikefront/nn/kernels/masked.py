"""Gradients of spikes only where their neuron lets them through: for surrogates that are 0 away from the threshold.

A neuron marks its spikes with how to find these places (``mark``), a max-pool hands the mark on (``pooled``), and a
convolution that trains sparsely asks for it (``mask_of``). The parameters' gradients are the same; that of the spikes,
which nobody else reads, is 0 where the neuron would multiply it by 0.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from spikefront.nn.kernels.arguments import number, pointer
from spikefront.nn.kernels.build import flags, library
from spikefront.nn.torch_internals import base_of, version_of

MOST = 0.25  # of the places, up to which it was faster than the dense product on every layer measured
LANES = 16  # of the output's channels must be a multiple of these


class Mask:
    """Places of a tensor ``(..., C, H, W)`` of spikes.

    Attributes:
        bits: ``(pixels, words)`` int64, 64 channels a word; found when first asked for.
        version: the tensor's when it was marked.
    """

    def __init__(self, find: Callable[[], Tensor], version: int) -> None:
        self._find, self.version = find, version

    @cached_property
    def bits(self) -> Tensor:
        return self._find()


def runs() -> bool:
    """Whether this processor is of those on which it pays, and the kernels are there."""
    return "avx512f" in flags() and library("masked") is not None


def mark(spikes: Tensor, find: Callable[[], Tensor]) -> None:
    """Tell of ``spikes``, which are channels last in memory, where a gradient of theirs counts."""
    spikes.places = Mask(find, version_of(spikes))  # type: ignore[attr-defined]


def mask_of(x: Tensor) -> Mask | None:
    """The mark of ``x``, or of what it is a view of all of."""
    base = base_of(x)
    found: Mask | None = getattr(base, "places", None)
    whole = x.numel() == base.numel() and x.shape[-3:] == base.shape[-3:] and x.data_ptr() == base.data_ptr()
    return found if found is not None and whole and found.version == version_of(base) else None


def pooled(x: Tensor, out: Tensor, which: Tensor, stride: int) -> None:
    """Mark ``out``, the max-pooled frames ``x``, as they are marked; ``which`` says who won."""
    mask = mask_of(x)
    if mask is not None:
        mark(out, lambda: _pooled(mask.bits, which, x.shape, stride))


def gradient(mask: Mask, grad: Tensor, weight: Tensor, shape: torch.Size) -> Tensor | None:
    """That of frames ``shape`` which entered a convolution, in channels-last memory; None where dense is faster.

    ``grad``: that of its output, channels last; ``weight``: ``(out, in, k, k)``, stride 1, padded to the same size.
    """
    N, C, H, W = shape
    code, out = library("masked"), len(weight)
    assert code is not None
    code.count_places_asked.restype = ctypes.c_int64
    if out % LANES or code.count_places_asked(pointer(mask.bits), number(mask.bits.numel())) > MOST * shape.numel():
        return None
    rows = weight.permute(2, 3, 1, 0).contiguous()
    grad_x = torch.empty(shape, memory_format=torch.channels_last)
    sizes = map(number, (N, H, W, C, out, weight.shape[-1]))
    code.masked_gradient(pointer(grad), pointer(rows), pointer(mask.bits), pointer(grad_x), *sizes)
    return grad_x


def _pooled(bits: Tensor, which: Tensor, shape: torch.Size, stride: int) -> Tensor:
    N, C, H, W = shape
    code = library("masked")
    assert code is not None
    out = bits.new_empty(which.numel() // C, bits.shape[1])
    code.pool_places(pointer(bits), pointer(which), pointer(out), *map(number, (N, H, W, C, stride)))
    return out
