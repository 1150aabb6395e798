"""Spiking patch embeddings: images or event frames -> the blocks' stream ``(T, B, D, H, W)``.

``forward``: ``(T, B, C, H, W)``, or ``(1, B, C, H, W)`` with ``timesteps`` for a static image, whose first convolution
then runs once instead of T times -> ``(T, B, D, H / 2^p, W / 2^p)`` for p pooling stages.
``residual`` is the shortcut (see ``residuals``); it says whether the stream carries potentials or spikes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from spikefront.errors import UserError
from spikefront.nn.kernels import MaxPool
from spikefront.nn.layers import (
    NeuronFactory,
    branch_onto,
    conv_bn,
    conv_bn_fire,
    conv_bn_fire_pool,
    conv_bn_pool,
    shown,
)
from spikefront.nn.mixers import SepConv

ResidualFactory = Callable[..., Any]
STAGE = ("proj_conv", "proj_bn", "proj_lif", "maxpool")


def pooling_stages(code: str | int) -> tuple[bool, bool, bool, bool]:
    """Read a pooling code: four digits, which of the four stages halve the image (``"0011"``: the last two)."""
    digits = f"{code:04d}" if isinstance(code, int) else str(code)
    if len(digits) != 4 or set(digits) - {"0", "1"}:
        raise UserError(f"model.pooling is {code!r}: use four digits of 0 or 1, one a stage, such as 0011")
    return tuple(d == "1" for d in digits)  # type: ignore[return-value]


def side_of(embedding: nn.Module, image: int, pooling: str | int) -> int:
    """The side of the square of tokens that an embedding makes of an image: by ``pooling``, unless it says its own."""
    if callable(own := getattr(embedding, "side", None)):
        return int(own(image))
    for _ in range(sum(pooling_stages(pooling))):
        image = (image + 1) // 2
    return image


class SPS(nn.Module):
    """Spiking Patch Splitting: four stages of conv3x3 - BN - LIF - pool, then a convolutional position embedding.

    Channels grow D/8, D/4, D/2, D; the output is ``f + BN(conv3x3(LIF(f)))`` with ``f`` the fourth stage before its
    neuron (arXiv 2307.01694, section 3.2, with the membrane shortcut of eq. 5). On a stream of spikes ``f`` is the
    fourth stage after its neuron and the sum is the shortcut's.
    """

    def __init__(
        self, in_channels: int, dim: int, pooling: str | int, neuron: NeuronFactory, residual: ResidualFactory
    ) -> None:
        super().__init__()
        self.pooling = pooling_stages(pooling)
        channels = (in_channels, *_widths(dim))
        for i, suffix in enumerate(("", "1", "2", "3")):
            stage = (
                nn.Conv2d(channels[i], channels[i + 1], 3, padding=1, bias=False),
                nn.BatchNorm2d(channels[i + 1]),
                neuron(),
                MaxPool(2) if self.pooling[i] else nn.Identity(),
            )
            for kind, module in zip(STAGE, stage, strict=True):
                self.add_module(f"{kind}{suffix}", module)
        self.rpe_conv = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.rpe_bn = nn.BatchNorm2d(dim)
        self.residual = residual(neuron)
        self.rpe_lif = neuron()  # in the published state dict, takes no part in the forward pass

    def forward(self, x: Tensor, timesteps: int) -> Tensor:
        for suffix in ("", "1", "2"):
            conv, bn, lif, pool = (self.get_submodule(f"{kind}{suffix}") for kind in STAGE)
            x = conv_bn_fire_pool(x, conv, bn, lif, pool, timesteps)
        conv, bn, lif, pool = (self.get_submodule(f"{kind}3") for kind in STAGE)
        feature = conv_bn_pool(x, conv, bn, pool)
        spikes = lif(feature)
        stream = feature if self.residual.potentials else spikes
        return branch_onto(partial(conv_bn, spikes, self.rpe_conv, self.rpe_bn), stream, self.residual, nn.Identity())

    def folds(self) -> list[tuple[str, str]]:
        return [*((f"proj_conv{i}", f"proj_bn{i}") for i in ("", "1", "2", "3")), ("rpe_conv", "rpe_bn")]

    def handovers(self) -> list[tuple[nn.Module, list[nn.Module]]]:
        pairs = []
        for here, after in (("", "1"), ("1", "2"), ("2", "3")):
            lif, pool, conv = map(self.get_submodule, (f"proj_lif{here}", f"maxpool{here}", f"proj_conv{after}"))
            pairs.append((lif, [conv, *([] if isinstance(pool, nn.Identity) else [pool])]))
        last = self.get_submodule("proj_lif3")
        return [*pairs, (last, [self.rpe_conv])] if self.residual.potentials else pairs


class ConvBlock(nn.Module):
    """``x += SepConv(x)``; ``x += BN(3x3(LIF(BN(3x3(LIF(x))))))``, four times as wide inside (arXiv 2404.03663)."""

    def __init__(self, dim: int, neuron: NeuronFactory) -> None:
        super().__init__()
        self.Conv = SepConv(dim, neuron)
        self.lif1, self.lif2 = neuron(), neuron()
        self.conv1 = nn.Conv2d(dim, 4 * dim, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4 * dim)
        self.conv2 = nn.Conv2d(4 * dim, dim, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.Conv(x)
        hidden = conv_bn_fire(self.lif1(x), self.conv1, self.bn1, self.lif2)
        return x + conv_bn(hidden, self.conv2, self.bn2)

    def folds(self) -> list[tuple[str, str]]:
        return [("conv1", "bn1"), ("conv2", "bn2")]


class ConvStem(nn.Module):
    """The convolutional stages of Spike-driven Transformer V2 (Meta-SpikeFormer, arXiv 2404.03663, section 3.2).

    Four convolutions to D/8, D/4, D/2 and D channels (7x7 first, then ``LIF - 3x3``), strided where ``pooling`` says,
    with one, one and two ``ConvBlock`` after the first three: no max-pool, membrane shortcuts throughout.
    """

    def __init__(
        self, in_channels: int, dim: int, pooling: str | int, neuron: NeuronFactory, residual: ResidualFactory
    ) -> None:
        super().__init__()
        widths, stages = _widths(dim), pooling_stages(pooling)
        self.downsample, self.lif, self.bn, self.blocks = (nn.ModuleList() for _ in range(4))
        for i, (width, halves, blocks) in enumerate(zip(widths, stages, (1, 1, 2, 0), strict=True)):
            kernel, before = (7, in_channels) if i == 0 else (3, widths[i - 1])
            stride = 2 if halves else 1
            self.downsample.append(nn.Conv2d(before, width, kernel, stride, kernel // 2))
            self.lif.append(neuron() if i else nn.Identity())
            self.bn.append(nn.BatchNorm2d(width))
            self.blocks.append(nn.Sequential(*(ConvBlock(width, neuron) for _ in range(blocks))))
        self.out_lif = nn.Identity() if residual(neuron).potentials else neuron()

    def forward(self, x: Tensor, timesteps: int) -> Tensor:
        for lif, conv, bn, blocks in zip(self.lif, self.downsample, self.bn, self.blocks, strict=True):
            x = blocks(shown(conv_bn(lif(x), conv, bn), timesteps))
        return self.out_lif(x)

    def folds(self) -> list[tuple[str, str]]:
        return [(f"downsample.{i}", f"bn.{i}") for i in range(len(self.bn))]


def _widths(dim: int) -> tuple[int, int, int, int]:
    if dim % 8:
        raise UserError(f"model.dim is {dim}: the embedding's stages need it divisible by 8")
    return dim // 8, dim // 4, dim // 2, dim
