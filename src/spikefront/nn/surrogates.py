"""Surrogate gradients: the derivative that stands in for the Heaviside step's in the backward pass.

A surrogate is a small stateless object with ``derivative(u)``, where ``u`` is the membrane potential minus the
threshold, of any shape. The forward pass is always the exact step ``u >= 0``. ``kernel`` is the same function's number
and two constants in ``kernels/neuron.cpp``; a surrogate without one runs in plain PyTorch. ``reach`` is the distance
from the threshold from which on it is 0, of those that have one.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor


class Surrogate(Protocol):
    """What a neuron needs of a surrogate."""

    def derivative(self, u: Tensor) -> Tensor:
        """Pseudo-derivative of the spike with respect to ``u``, same shape as ``u``."""
        ...


class Sigmoid:
    """Derivative of ``sigmoid(alpha u)``: ``alpha s (1 - s)``.

    The published Spike-driven Transformer trains with alpha = 4 (arXiv 2307.01694, code release; Zenke & Ganguli 2018
    for the family).
    """

    def __init__(self, alpha: float = 4.0) -> None:
        self.alpha = alpha
        self.kernel = (0, alpha, 0.0)

    def derivative(self, u: Tensor) -> Tensor:
        s = torch.sigmoid(self.alpha * u)
        return self.alpha * s * (1 - s)


class ATan:
    """Derivative of ``atan(pi/2 alpha u)/pi + 1/2`` (Fang et al., PLIF, ICCV 2021, arXiv 2007.05785, eq. 12)."""

    def __init__(self, alpha: float = 2.0) -> None:
        self.alpha = alpha
        self.kernel = (1, alpha, 0.0)

    def derivative(self, u: Tensor) -> Tensor:
        return self.alpha / 2 / (1 + (math.pi / 2 * self.alpha * u) ** 2)


class Triangle:
    """``gamma max(0, 1 - |u| / width)`` (Bellec et al., LSNN, NeurIPS 2018, arXiv 1803.09574, eq. 5)."""

    def __init__(self, width: float = 1.0, gamma: float = 1.0) -> None:
        self.width, self.gamma, self.reach = width, gamma, width
        self.kernel = (2, width, gamma)

    def derivative(self, u: Tensor) -> Tensor:
        return self.gamma * (1 - u.abs() / self.width).clamp_min(0)


class FastSigmoid:
    """``1 / (1 + slope |u|)^2`` (Zenke & Ganguli, SuperSpike, Neural Computation 2018, arXiv 1705.11146, eq. 3)."""

    def __init__(self, slope: float = 10.0) -> None:
        self.slope = slope
        self.kernel = (3, slope, 0.0)

    def derivative(self, u: Tensor) -> Tensor:
        return 1 / (1 + self.slope * u.abs()) ** 2


class Rectangle:
    """``1 / width`` where ``|u| < width / 2``, 0 elsewhere (Wu et al., STBP, 2018, arXiv 1706.02609, eq. 24)."""

    def __init__(self, width: float = 1.0) -> None:
        self.width, self.reach = width, width / 2
        self.kernel = (4, width, 0.0)

    def derivative(self, u: Tensor) -> Tensor:
        return (u.abs() < self.width / 2).to(u.dtype) / self.width


class StraightThrough:
    """1 everywhere (Bengio et al. 2013, arXiv 1308.3432, section 4): the biased baseline the others improve on."""

    kernel = (5, 0.0, 0.0)

    def derivative(self, u: Tensor) -> Tensor:
        return torch.ones_like(u)
