"""A compiled kernel beside its plain PyTorch twin, on currents of several shapes and layouts."""

from __future__ import annotations

import pytest
import torch

from spikefront.nn import kernels
from spikefront.nn.kernels.build import library

needs_compiler = pytest.mark.skipif(library("neuron") is None, reason="no compiled kernels here")
SHAPES = [(1, 2, 3, 4, 5), (4, 2, 7, 9, 9), (3, 1, 520, 2, 2), (2, 3, 64, 6, 5), (5, 3, 11)]


def both(run):
    """What it gives, by the kernel and by PyTorch."""
    fused = run()
    with kernels.switched(False):
        return fused, run()


def layouts(x):
    """The same numbers as they are, and channels last if they are images."""
    yield x
    if x.dim() == 5:
        yield x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, x.shape[:2])
