"""The few pieces that embedding, attention and MLP share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Fired:
    """What a branch's spikes are added to, and the neuron that fires them.

    ``across``: it takes the batch for time, too.
    """

    stream: Tensor
    neuron: nn.Module
    across: bool = False

    def add(self, x: Tensor, norm: Any) -> Tensor:
        """The stream and the spikes of ``norm(x)``."""
        if not self.across:
            return self.neuron(x, norm, after=self.stream)  # type: ignore[no-any-return]
        x, stream = (t.flatten(0, 1).unsqueeze(1) for t in (x, self.stream))
        return self.neuron(x, norm, after=stream).view(self.stream.shape)  # type: ignore[no-any-return]


def joins(neuron: nn.Module) -> bool:
    """Whether a neuron may add to what it reads or gives: it can, gives no bits, and nobody looks at either."""
    more: Any = neuron
    return getattr(neuron, "fuses_more", False) and not more.readers and not watched(neuron)


def conv_bn(x: Tensor, conv: nn.Module, bn: nn.Module, onto: Tensor | Fired | None = None) -> Tensor:
    """``BN(conv(x))`` over ``(T, B, C, H, W)``, added to ``onto`` if there is one."""
    if isinstance(onto, Fired):
        return onto.add(*_convolved(x, conv, bn))
    if onto is not None and _says(conv, "adds", x, bn, onto):
        return conv.add(x, onto)  # type: ignore[operator]
    y, norm = _convolved(x, conv, bn)
    if gpu.usable(y) and (isinstance(norm, gpu.Biased) or kernels.normalises(norm)):
        fits = onto is not None and (onto.dtype, onto.shape) == (y.dtype, y.shape)
        out = gpu.normalise(y, norm, onto if fits else None)
        return out if fits or onto is None else onto + out
    if _trains(bn) and kernels.usable(y) and kernels.normalises(bn):
        return kernels.normalise(y, bn, onto)
    out = over_frames(y, bn)
    if onto is None:
        return out
    fits = type(bn) is nn.Identity and (onto.dtype, onto.shape) == (out.dtype, out.shape)
    seen = not kernels.usable(out) or kernels.followed(out)
    return out.add_(onto) if fits and not seen and _is_free(conv, bn) else onto + out


def conv_bn_pool(x: Tensor, conv: nn.Module, bn: nn.Module, pool: nn.Module) -> Tensor:
    """``pool(BN(conv(x)))`` over ``(T, B, C, H, W)``."""
    if not _trains(bn) or not isinstance(x, Tensor) or gpu.usable(x):
        return over_frames(conv_bn(x, conv, bn), pool)
    y = over_frames(x, conv)
    pooled = kernels.normalise_pooled(y, bn, pool)
    return pooled if pooled is not None else over_frames(conv_bn(y, nn.Identity(), bn), pool)


def _trains(norm: nn.Module) -> bool:
    """Whether a batch norm takes its statistics of the batch."""
    return norm.training and type(norm) is not nn.Identity


def _is_free(conv: nn.Module, norm: nn.Module) -> bool:
    """Whether nobody else has what a convolution gave, so that what is made of it may take its place."""
    return not torch.is_grad_enabled() and isinstance(conv, nn.Conv2d) and not (watched(conv) or watched(norm))


def _over(conv: nn.Module, norm: nn.Module, neuron: nn.Module) -> dict[str, bool]:
    """Tells a neuron that can that it may write over what a convolution gave, unless someone looks at that."""
    may = getattr(neuron, "writes_over", False) and not watched(neuron) and _is_free(conv, norm)
    return {"over": True} if may else {}


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
    """``residual(x, drop(branch()))``; where that is a sum, ``branch(onto=x)`` makes it in its last kernel.

    So it does of a sum with a neuron's spikes, ``residual.fired(x)``.
    """
    if type(drop) is nn.Identity and not watched(residual) and not watched(drop):
        if getattr(residual, "sums", False):
            return branch(onto=x)
        if hasattr(residual, "fired") and joins(residual.lif):
            return branch(onto=residual.fired(x))
    return residual(x, drop(branch()))


def conv_bn_add_fire(x: Any, conv: nn.Module, bn: nn.Module, onto: Tensor, neuron: nn.Module) -> Any:
    """``neuron(onto + BN(conv(x)))`` for a sum that nothing else reads."""
    reach = hasattr(getattr(neuron, "surrogate", None), "reach")  # sparse training asks where potentials are near
    if isinstance(x, Tensor) and joins(neuron) and not reach and not gpu.usable(x):
        return neuron(over_frames(x, conv), bn, before=onto, **_over(conv, bn, neuron))
    return neuron(conv_bn(x, conv, bn, onto))


def conv_bn_fire(x: Any, conv: nn.Module, bn: nn.Module, neuron: nn.Module, timesteps: int | None = None) -> Any:
    """``neuron(BN(conv(x)))``; a single frame is shown to the neuron ``timesteps`` times. Tensors, or ``Spikes``."""
    if getattr(neuron, "fuses", False):
        if _says(conv, "fires", x, bn, neuron):
            return conv.fire(x, neuron, timesteps)  # type: ignore[operator]
        if not gpu.knows(neuron):
            return neuron(over_frames(x, conv), bn, timesteps, **_over(conv, bn, neuron))
        return neuron(*_convolved(x, conv, bn), timesteps, **_over(conv, bn, neuron))
    return neuron(shown(conv_bn(x, conv, bn), timesteps))


def conv_bn_fire_pool(
    x: Any, conv: nn.Module, bn: nn.Module, neuron: nn.Module, pool: nn.Module, timesteps: int | None = None
) -> Any:
    """``pool(neuron(BN(conv(x))))``, like ``conv_bn_fire``."""
    fuses = getattr(neuron, "fuses_more", False) and isinstance(pool, kernels.MaxPool) and type(x) is Tensor
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
