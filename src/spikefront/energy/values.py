"""What a tensor's values are: spikes, whole numbers or others."""

from __future__ import annotations

import torch
from torch import Tensor


def all_whole(x: Tensor) -> Tensor:
    """Whether all values are whole numbers, as a tensor of one bool: nothing waits for a GPU."""
    return (x == x.round()).all() if x.is_floating_point() else torch.ones((), dtype=torch.bool, device=x.device)


def is_whole(x: Tensor) -> bool:
    """Whether a tensor holds whole numbers, as spikes are."""
    return bool(all_whole(x))


def is_binary(x: Tensor) -> bool:
    """Whether all values are 0 or 1, found by passes in the order of memory that make nothing.

    Between 0 and 1 a square is below its value; what float32 can't tell in their sums is lost in a count as well. False
    also of other dtypes and of what is not dense.
    """
    dense = x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last))
    if x.dtype != torch.float32 or not x.numel() or not dense:
        return False
    flat = x.as_strided((x.numel(),), (1,), x.storage_offset())
    low, high = torch.aminmax(flat)
    return bool(low >= 0) and bool(high <= 1) and bool(flat.dot(flat) == flat.sum())
