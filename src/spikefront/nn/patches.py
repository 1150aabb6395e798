"""What begins a stage: convolutions that make tokens of an image, or fewer and wider ones of tokens.

Called as the embeddings of ``embeddings`` are; ``stream`` says that it reads a stage's stream, not an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from spikefront.errors import UserError
from spikefront.nn.embeddings import ResidualFactory, pooling_stages
from spikefront.nn.kernels import MaxPool
from spikefront.nn.layers import (
    Fired,
    NeuronFactory,
    conv_bn,
    conv_bn_fire,
    conv_bn_fire_pool,
    conv_bn_pool,
    joins,
    shown,
)


@dataclass(frozen=True)
class Convolution:
    """One convolution and its BN.

    ``width``: channels, as a share of the stage's. ``pool``: a 3x3 max-pool, stride 2, on the ``potentials`` it gives
    or on the ``spikes`` these become.
    """

    width: float = 1.0
    kernel: int = 3
    stride: int = 1
    bias: bool = False
    pool: str | None = None


@dataclass(frozen=True)
class Shortcut:
    """From the spikes that convolution ``reads`` reads (counted from 0) to the end: a 1x1 convolution and its BN.

    ``identity``: those spikes themselves. ``pool``: a max-pool after the BN.
    """

    reads: int
    stride: int = 1
    pool: bool = False
    identity: bool = False


class Subsampled(nn.Conv2d):
    """A 1x1 convolution with a stride: with none, of the pixels it reads.

    oneDNN's gradient of a strided one writes past its buffer where few channels come last in memory: wrong or a crash,
    on AVX2 below 8 of them (uxlfoundation/oneDNN#6035).
    """

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        down, across = self.stride
        return F.conv2d(x[..., ::down, ::across], weight, bias)


class PatchEmbedding(nn.Module):
    """Convolutions, each with its BN, with neurons between them, and a shortcut past some.

    On a stream of potentials it begins with a neuron (unless it reads an image) and ends before one; on a stream of
    spikes it begins with a convolution and ends after a neuron, and so does the shortcut.

    Args:
        layers: what ``Convolution`` takes, one mapping each.
        shortcut: what ``Shortcut`` takes, or None.
        coded: whether ``pooling`` decides which of the first four layers pool, as in one-stage networks.

    Raises:
        UserError: a share of the width that isn't whole channels, or a layer that pools what isn't there.
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        pooling: str | int,
        neuron: NeuronFactory,
        residual: ResidualFactory,
        layers: Sequence[Mapping[str, Any]],
        shortcut: Mapping[str, Any] | None = None,
        coded: bool = False,
        stream: bool = False,
    ) -> None:
        super().__init__()
        self.potentials = bool(residual(neuron).potentials)
        specs = [Convolution(**layer) for layer in layers]
        halves = [*pooling_stages(pooling), *[True] * len(specs)] if coded else [True] * len(specs)
        self.first_lif = neuron() if stream and self.potentials else nn.Identity()
        self.convs, self.bns, self.lifs, self.pools = (nn.ModuleList() for _ in range(4))
        self.pools_potentials = []
        channels = [in_channels]
        for i, (spec, pools) in enumerate(zip(specs, halves, strict=False)):
            width = spec.width * dim
            if width != int(width) or spec.pool not in (None, "potentials", "spikes"):
                raise UserError(
                    f"an embedding to {dim} channels: layer {i} has width {spec.width} of them and pool={spec.pool};"
                    " use whole channels, and potentials or spikes"
                )
            last = i == len(specs) - 1
            fires = not (last and self.potentials)
            self.convs.append(
                nn.Conv2d(channels[-1], int(width), spec.kernel, spec.stride, spec.kernel // 2, bias=spec.bias)
            )
            self.bns.append(nn.BatchNorm2d(int(width)))
            self.lifs.append(neuron() if fires else nn.Identity())
            self.pools.append(MaxPool(2) if spec.pool and pools else nn.Identity())
            self.pools_potentials.append(spec.pool == "potentials" or not fires)
            channels.append(int(width))
        self.shortcut = None if shortcut is None else Shortcut(**shortcut)
        if self.shortcut is not None and not self.shortcut.identity:
            self.short_conv = Subsampled(channels[self.shortcut.reads], dim, 1, self.shortcut.stride, bias=False)
            self.short_bn = nn.BatchNorm2d(dim)
            self.short_pool = MaxPool(2) if self.shortcut.pool else nn.Identity()
            self.short_lif = nn.Identity() if self.potentials else neuron()

    def forward(self, x: Tensor, timesteps: int) -> Tensor:
        x = self.first_lif(x)
        kept = x
        for i, (conv, bn, lif, pool) in enumerate(zip(self.convs, self.bns, self.lifs, self.pools, strict=True)):
            if self.shortcut is not None and self.shortcut.reads == i:
                kept = x
            fires, plain = not isinstance(lif, nn.Identity), isinstance(pool, nn.Identity)
            if not fires or (self.pools_potentials[i] and not plain):
                x = conv_bn_pool(x, conv, bn, pool)
                x = lif(shown(x, timesteps)) if fires else x
            elif plain:
                x = conv_bn_fire(x, conv, bn, lif, timesteps)
            else:
                x = conv_bn_fire_pool(x, conv, bn, lif, pool, timesteps)
        x = shown(x, timesteps)
        return x if self.shortcut is None else self._added(x, kept, timesteps)

    def _added(self, x: Tensor, spikes: Tensor, timesteps: int) -> Tensor:
        assert self.shortcut is not None
        if self.shortcut.identity:
            return x + spikes
        short = spikes, self.short_conv, self.short_bn
        branch = partial(conv_bn, *short)
        plain = isinstance(self.short_pool, nn.Identity)
        if self.potentials and plain:
            return branch(onto=x)
        if not self.potentials and plain and joins(self.short_lif) and len(spikes) == len(x):
            return branch(onto=Fired(x, self.short_lif))
        if not self.potentials and plain:
            return x + conv_bn_fire(spikes, self.short_conv, self.short_bn, self.short_lif, timesteps)
        return x + self.short_lif(conv_bn_pool(*short, self.short_pool))

    def side(self, image: int) -> int:
        convs: Any = self.convs
        for conv, pool in zip(convs, self.pools, strict=True):
            image = (image + 2 * conv.padding[0] - conv.kernel_size[0]) // conv.stride[0] + 1
            image = image if isinstance(pool, nn.Identity) else (image + 1) // 2
        return image

    def folds(self) -> list[tuple[str, str]]:
        pairs = [(f"convs.{i}", f"bns.{i}") for i in range(len(self.convs))]
        return [*pairs, ("short_conv", "short_bn")] if hasattr(self, "short_conv") else pairs

    def handovers(self) -> list[tuple[nn.Module, list[nn.Module]]]:
        """Of the neurons that have one reader: those on which the shortcut or the stream hangs stay with floats."""
        kept = self.shortcut.reads if self.shortcut is not None else None
        pairs = []
        for i, conv in enumerate(self.convs):
            neuron = self.first_lif if i == 0 else self.lifs[i - 1]
            pool = self.pools[i - 1] if i else nn.Identity()
            if isinstance(neuron, nn.Identity) or i == kept or (i and self.pools_potentials[i - 1]):
                continue
            pairs.append((neuron, [conv, *([] if isinstance(pool, nn.Identity) else [pool])]))
        return pairs
