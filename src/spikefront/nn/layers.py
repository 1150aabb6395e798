"""The few pieces that embedding, attention and MLP share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spikefront.nn import kernels
from spikefront.nn.kernels import gpu
from spikefront.nn.projections import convolution
from spikefront.nn.torch_internals import convolve_without_bias, watched

# Makes one neuron; keyword arguments override the configured ones, as ``neuron(threshold=0.5)``.
NeuronFactory = Callable[..., nn.Module]


def over_frames(x: Tensor, layer: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a layer for ``(N, C, H, W)`` to every timestep and sample of ``(T, B, C, H, W)``."""
    y = layer(x.flatten(0, 1))
    return y.unflatten(0, x.shape[:2])


def shown(x: Tensor, timesteps: int | None) -> Tensor:
    """``(T, ...)`` of a single frame ``(1, ...)``, shown ``timesteps`` times; what has its time already, as it is."""
    return x if timesteps is None or x.shape[0] == timesteps else x.expand(timesteps, *x.shape[1:])


def over_tokens(x: Tensor) -> Tensor:
    """The mean over the tokens of ``(T, B, D, H, W)``: ``(T, B, D)``, of integers in float64."""
    return (x if x.is_floating_point() else x.double()).mean(dim=(3, 4))


def conv_bn(x: Tensor, conv: nn.Module, bn: nn.Module, onto: Tensor | None = None) -> Tensor:
    """``BN(conv(x))`` over ``(T, B, C, H, W)``, added to ``onto`` if there is one."""
    if onto is not None and _says(conv, "adds", x, bn, onto):
        return conv.add(x, onto)  # type: ignore[operator]
    y, norm = _convolved(x, conv, bn)
    if gpu.usable(y) and (isinstance(norm, gpu.Biased) or kernels.normalises(norm)):
        fits = onto is not None and (onto.dtype, onto.shape) == (y.dtype, y.shape)
        out = gpu.normalise(y, norm, onto if fits else None)
        return out if fits or onto is None else onto + out
    if bn.training and kernels.usable(y) and kernels.normalises(bn):
        out = kernels.normalise(y, bn)
    else:
        out = over_frames(y, bn)
    return out if onto is None else onto + out


def _says(conv: nn.Module, what: str, *given: Any) -> bool:
    """Whether a convolution can do more than convolve (``fires`` and ``fire``, ``adds`` and ``add``), and that here."""
    asked: Any = getattr(conv, what, None)
    return asked is not None and asked(*given)


def _convolved(x: Tensor, conv: nn.Module, bn: nn.Module) -> tuple[Tensor, Any]:
    """The convolution's output and what is to follow; on a GPU the norm's kernel adds the bias, too."""
    norm = gpu.without_bias(x, conv, bn)
    if norm is None:
        return over_frames(x, conv), bn
    return over_frames(x, lambda frames: convolve_without_bias(conv, frames)), norm


def branch_onto(branch: Callable[..., Tensor], x: Tensor, residual: Any, drop: nn.Module) -> Tensor:
    """``residual(x, drop(branch()))``; where that is a sum alone, ``branch(onto=x)`` makes it in its last kernel."""
    if getattr(residual, "sums", False) and type(drop) is nn.Identity and not watched(residual) and not watched(drop):
        return branch(onto=x)
    return residual(x, drop(branch()))


def conv_bn_fire(x: Any, conv: nn.Module, bn: nn.Module, neuron: nn.Module, timesteps: int | None = None) -> Any:
    """``neuron(BN(conv(x)))``; a single frame is shown to the neuron ``timesteps`` times. Tensors, or ``Spikes``."""
    if getattr(neuron, "fuses", False):
        if _says(conv, "fires", x, bn, neuron):
            return conv.fire(x, neuron, timesteps)  # type: ignore[operator]
        if not gpu.knows(neuron):
            return neuron(over_frames(x, conv), bn, timesteps)
        return neuron(*_convolved(x, conv, bn), timesteps)
    return neuron(shown(conv_bn(x, conv, bn), timesteps))


def conv_bn_fire_pool(
    x: Any, conv: nn.Module, bn: nn.Module, neuron: nn.Module, pool: nn.Module, timesteps: int | None = None
) -> Any:
    """``pool(neuron(BN(conv(x))))``, like ``conv_bn_fire``."""
    fuses = getattr(neuron, "fuses_pool", False) and isinstance(pool, kernels.MaxPool) and type(x) is Tensor
    if fuses and not _says(conv, "fires", x, bn, neuron):
        y, norm = _convolved(x, conv, bn) if gpu.knows(neuron) else (over_frames(x, conv), bn)
        fire_pooled: Any = gpu.fire_pooled if gpu.usable(y) else kernels.fire_pooled
        pooled = fire_pooled(y, neuron, norm, pool, timesteps)
        return pooled if pooled is not None else over_frames(neuron(y, norm, timesteps), pool)
    return over_frames(conv_bn_fire(x, conv, bn, neuron, timesteps), pool)


def reads(neuron: NeuronFactory, potentials: bool) -> nn.Module:
    """What a branch reads its stream through: a neuron if that carries potentials, nothing if spikes."""
    return neuron() if potentials else nn.Identity()


def beside(*convs: Any) -> nn.Conv2d:
    """One convolution that gives the channels of all of ``convs``, which read the same input, one after another."""
    if (own := getattr(convs[0], "beside", None)) is not None:
        return own(convs[1:])
    return convolution(torch.cat([conv.weight for conv in convs]), torch.cat([conv.bias for conv in convs]))
