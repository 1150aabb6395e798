"""Token mixers that are no attention: the block's stream ``(T, B, D, H, W)`` -> what the shortcut adds to it.

They are called as attentions are (see ``attentions``) and may stand in the place of one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spikefront.errors import UserError
from spikefront.nn.kernels import MaxPool
from spikefront.nn.layers import NeuronFactory, conv_bn, conv_bn_fire, over_frames, reads
from spikefront.nn.operators import DSSAOp
from spikefront.nn.projections import Chain, scale_


class NoAttention(nn.Module):
    """Nothing is mixed between tokens: what is added is 0. The lower bound to compare with."""

    def __init__(self, **_: object) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class Depthwise(nn.Module):
    """``BN(depthwise convolution(LIF(x)))`` (DWC-k of Max-Former, arXiv 2505.18608, section 3)."""

    adds, last = True, "conv"

    def __init__(
        self, dim: int, neuron: NeuronFactory, potentials: bool = True, kernel: int = 3, pool: bool = False, **_: Any
    ) -> None:
        super().__init__()
        self.lif, self.pool = reads(neuron, potentials), MaxPool(1) if pool else nn.Identity()
        self.conv = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor, onto: Any = None) -> Tensor:
        s = self.lif(x)
        return conv_bn(s if isinstance(self.pool, nn.Identity) else over_frames(s, self.pool), self.conv, self.bn, onto)

    def folds(self) -> list[tuple[str, str]]:
        return [("conv", "bn")]

    def handovers(self) -> list[tuple[nn.Module, list[nn.Module]]]:
        return [(self.lif, [self.conv, *([] if isinstance(self.pool, nn.Identity) else [self.pool])])]


class Pooling(Depthwise):
    """``BN(w * max 3x3 of LIF(x))``, a weight a channel: the high-pass mixer without a kernel to learn."""

    def __init__(self, dim: int, neuron: NeuronFactory, potentials: bool = True, **_: Any) -> None:
        super().__init__(dim, neuron, potentials, kernel=1, pool=True)


class SepConv(nn.Module):
    """``BN(1x1(depthwise(LIF(BN(1x1(LIF(x)))))))``, twice as wide inside (arXiv 2404.03663, section 3.2).

    The two last convolutions have no neuron between them and are one linear map at inference. With ``three``, each
    convolution has its BN and reads spikes (arXiv 2411.16061, section 3.3).
    """

    adds, last = True, "pwconv2"

    def __init__(
        self,
        dim: int,
        neuron: NeuronFactory,
        potentials: bool = True,
        kernel: int = 7,
        three: bool = False,
        **_: Any,
    ) -> None:
        super().__init__()
        self.lif1, self.lif2 = reads(neuron, potentials), neuron()
        self.pwconv1 = nn.Conv2d(dim, 2 * dim, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(2 * dim)
        self.dwconv = nn.Conv2d(2 * dim, 2 * dim, kernel, padding=kernel // 2, groups=2 * dim, bias=False)
        self.pwconv2 = nn.Conv2d(2 * dim, dim, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(dim)
        self.three = three
        if three:
            self.dwbn, self.lif3 = nn.BatchNorm2d(2 * dim), neuron()

    def forward(self, x: Tensor, onto: Any = None) -> Tensor:
        hidden = conv_bn_fire(self.lif1(x), self.pwconv1, self.bn1, self.lif2)
        if self.three:
            hidden = conv_bn_fire(hidden, self.dwconv, self.dwbn, self.lif3)
        else:
            hidden = over_frames(hidden, self.dwconv)
        return conv_bn(hidden, self.pwconv2, self.bn2, onto)

    def folds(self) -> list[tuple[str, str]]:
        return [("pwconv1", "bn1"), *([("dwconv", "dwbn")] if self.three else []), ("pwconv2", "bn2")]

    def handovers(self) -> list[tuple[nn.Module, list[nn.Module]]]:
        pairs: list[tuple[nn.Module, list[nn.Module]]] = [(self.lif1, [self.pwconv1]), (self.lif2, [self.dwconv])]
        return [*pairs, (self.lif3, [self.pwconv2])] if self.three else pairs


class RepMixer(nn.Module):
    """``1x1 - BN - 1x1 - BN`` of ``LIF(x)``, before the attention of E-SpikeFormer's largest (as published)."""

    adds = unscaled = True
    last = "rep"

    def __init__(self, dim: int, neuron: NeuronFactory, potentials: bool = True, **_: Any) -> None:
        super().__init__()
        self.lif, self.rep = reads(neuron, potentials), Chain(dim, dim, expand=1.0)
        self.norm = nn.Identity()

    def forward(self, x: Tensor, onto: Any = None) -> Tensor:
        return conv_bn(self.lif(x), self.rep, self.norm, onto)


class DSSA(nn.Module):
    """Dual Spike Self-Attention of SpikingResformer (arXiv 2403.14302, section 4.2): see ``operators.DSSAOp``.

    ``(y1, y2) = BN(conv p x p, stride p (s))``, real values; ``BN(1x1(the operator's spikes))``; ``s = LIF(x)``.

    Args:
        patch: p, which must divide the side of the square of tokens; on fewer tokens it is that side.
        side: of that square, for which the second scale is made.
    """

    adds, last = True, "proj_conv"

    def __init__(
        self,
        dim: int,
        num_heads: int,
        neuron: NeuronFactory,
        side: int,
        potentials: bool = True,
        patch: int = 1,
        **_: Any,
    ) -> None:
        super().__init__()
        patch = min(patch, side)
        if side % patch:
            raise UserError(f"attention.patch is {patch}: it must divide the {side} tokens of a side")
        self.lif, self.attn_lif, self.out_lif = reads(neuron, potentials), neuron(), neuron()
        self.conv = nn.Conv2d(dim, 2 * dim, patch, patch, bias=False)
        self.bn = nn.BatchNorm2d(2 * dim)
        self.op = DSSAOp(num_heads, (side // patch) ** 2)
        self.proj_conv = nn.Conv2d(dim, dim, 1, bias=False)
        self.proj_bn = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor, onto: Any = None) -> Tensor:
        s = self.lif(x)
        heads = conv_bn(s, self.conv, self.bn).unflatten(2, (self.op.num_heads, -1))
        y1, y2 = (y.flatten(2, 3) for y in heads.chunk(2, 3))
        return conv_bn(self.op(s, y1, y2, self.attn_lif, self.out_lif), self.proj_conv, self.proj_bn, onto)

    def folds(self) -> list[tuple[str, str]]:
        return [("conv", "bn"), ("proj_conv", "proj_bn")]

    def join(self) -> None:
        """The running rates are constants now: their scales go into the weights of y1 and y2."""
        scales = torch.stack(self.op.scales(self.proj_conv.in_channels), 1)
        scale_(self.conv, scales.flatten().repeat_interleave(len(self.conv.weight) // scales.numel()))
        self.op.folded = True
