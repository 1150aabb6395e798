"""The few pieces that embedding, attention and MLP share."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

# Makes one neuron; keyword arguments override the configured ones, as ``neuron(threshold=0.5)``.
NeuronFactory = Callable[..., nn.Module]


def over_frames(x: Tensor, layer: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a layer for ``(N, C, H, W)`` to every timestep and sample of ``(T, B, C, H, W)``."""
    y = layer(x.flatten(0, 1))
    return y.view(*x.shape[:2], *y.shape[1:])


def conv_bn(x: Tensor, conv: nn.Module, bn: nn.Module) -> Tensor:
    """``BN(conv(x))`` over ``(T, B, C, H, W)``."""
    return over_frames(x, lambda frames: bn(conv(frames)))


def reads(neuron: NeuronFactory, potentials: bool) -> nn.Module:
    """What a branch reads its stream through: a neuron if that carries potentials, nothing if spikes."""
    return neuron() if potentials else nn.Identity()
