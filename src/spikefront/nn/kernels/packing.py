"""Spikes that autograd keeps for the backward pass, as bits."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from spikefront.nn.kernels.launch import Operator, built, call, usable
from spikefront.nn.kernels.layout import inner

SMALLEST_PACKED = 4096  # elements


def packed_spikes() -> Any:
    """What autograd saves inside this context is kept as bits where it holds only zeros and ones."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or not built():
        return nullcontext()
    return torch.autograd.graph.saved_tensors_hooks(keep, restore)


def keep(x: Tensor) -> Any:
    """Bits and how to make ``x`` of them, or ``x`` itself if it holds anything but zeros and ones, or few."""
    if not usable(x) or x.numel() < SMALLEST_PACKED or (x.requires_grad and x.is_leaf) or inner(x) is None:
        return x
    bits = _pack(x.detach())
    return (bits, x.shape, x.stride(), x.dtype) if bits.numel() else x


def restore(kept: Any) -> Tensor:
    """What ``keep`` was given."""
    if isinstance(kept, Tensor):
        return kept
    bits, shape, stride, dtype = kept
    return _unpack(bits, list(shape), list(stride), dtype)


def pack(x: Tensor) -> Tensor:
    """A bit an element in memory order, 8 a byte; empty if ``x`` holds anything but zeros and ones."""
    bits = _bits(x)
    return bits if call("pack", x, bits, x.numel()) else bits.new_empty(0)


def unpack(bits: Tensor, shape: Sequence[int], stride: Sequence[int], dtype: torch.dtype) -> Tensor:
    """The zeros and ones that were packed."""
    x = torch.empty_strided(shape, stride, dtype=dtype)
    call("unpack", bits, x, x.numel(), like=x)
    return x


def _bits(x: Tensor) -> Tensor:
    return x.new_empty((x.numel() + 7) // 8, dtype=torch.uint8)


_pack = Operator(pack, "(Tensor x) -> Tensor", _bits)  # without data: as if it were spikes
_unpack = Operator(
    unpack,
    "(Tensor bits, SymInt[] shape, SymInt[] stride, ScalarType dtype) -> Tensor",
    lambda bits, shape, stride, dtype: bits.new_empty_strided(shape, stride, dtype=dtype),
)
