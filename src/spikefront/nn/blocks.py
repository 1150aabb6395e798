"""What a stage repeats: mixing tokens, then channels, each on a branch beside a shortcut.

``mlp(dim=, hidden=, neuron=, residual=)`` makes one that mixes channels; it holds its shortcut. ``forward(x, drop)``:
the stream ``(T, B, D, H, W)`` -> the new stream; ``drop`` is applied to the branches.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spikefront.errors import UserError
from spikefront.nn.layers import NeuronFactory, branch_onto, conv_bn, conv_bn_add_fire, conv_bn_fire, reads
from spikefront.nn.torch_internals import watched


class MLP(nn.Module):
    """``BN(fc2(LIF(BN(fc1(LIF(x))))))`` as 1x1 convolutions (arXiv 2307.01694, eq. 10).

    With ratio 1, on a stream of potentials, the published code adds ``x`` to fc1's output before fc2's neuron and adds
    fc2's output to that sum.

    Args:
        kernel: 3 makes both convolutions 3x3, as the convolutional stages of Meta-SpikeFormer have them.
        bias: of both convolutions.
    """

    def __init__(
        self, dim: int, hidden: int, neuron: NeuronFactory, residual: Any, kernel: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        self.residual = residual
        self.fc1_lif = reads(neuron, residual.potentials)
        self.fc1_conv = nn.Conv2d(dim, hidden, kernel, padding=kernel // 2, bias=bias)
        self.fc1_bn = nn.BatchNorm2d(hidden)
        self.fc2_lif = neuron()
        self.fc2_conv = nn.Conv2d(hidden, dim, kernel, padding=kernel // 2, bias=bias)
        self.fc2_bn = nn.BatchNorm2d(dim)
        self.inner_residual = hidden == dim and residual.potentials
        self.last = None if self.inner_residual else "fc2_conv"  # what the shortcut scales

    def forward(self, x: Tensor, drop: nn.Module) -> Tensor:
        spikes = self.fc1_lif(x)
        if self.inner_residual:
            x = branch_onto(partial(conv_bn, spikes, self.fc1_conv, self.fc1_bn), x, self.residual, drop)
            hidden = self.fc2_lif(x)
        else:
            hidden = conv_bn_fire(spikes, self.fc1_conv, self.fc1_bn, self.fc2_lif)
        return branch_onto(partial(conv_bn, hidden, self.fc2_conv, self.fc2_bn), x, self.residual, drop)

    def folds(self) -> list[tuple[str, str]]:
        return [("fc1_conv", "fc1_bn"), ("fc2_conv", "fc2_bn")]

    def handovers(self) -> list[tuple[nn.Module, list[nn.Module]]]:
        return [(self.fc1_lif, [self.fc1_conv]), (self.fc2_lif, [self.fc2_conv])]


class GroupWise(nn.Module):
    """SpikingResformer's feed-forward: 1x1, then 3x3 in groups around which a shortcut goes, then 1x1.

    ``h = BN(1x1(LIF(x)))``; ``h += BN(3x3(LIF(h)))``; ``x += BN(1x1(LIF(h)))``, nothing with a bias (GWFFN, arXiv
    2403.14302, section 4.3; the shortcut within as in the published code). ``group``: channels in a group.

    Raises:
        UserError: the inner width isn't divisible by ``group``.
    """

    def __init__(self, dim: int, hidden: int, neuron: NeuronFactory, residual: Any, group: int = 64) -> None:
        super().__init__()
        group = min(group, hidden)
        if hidden % group:
            raise UserError(f"groups of {group} channels in a feed-forward part of {hidden}: not divisible")
        self.residual, self.last = residual, "down_conv"
        self.up_lif, self.conv_lif, self.down_lif = reads(neuron, residual.potentials), neuron(), neuron()
        self.up_conv = nn.Conv2d(dim, hidden, 1, bias=False)
        self.up_bn = nn.BatchNorm2d(hidden)
        self.conv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden // group, bias=False)
        self.bn = nn.BatchNorm2d(hidden)
        self.down_conv = nn.Conv2d(hidden, dim, 1, bias=False)
        self.down_bn = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor, drop: nn.Module) -> Tensor:
        hidden = conv_bn(self.up_lif(x), self.up_conv, self.up_bn)
        spikes = conv_bn_add_fire(self.conv_lif(hidden), self.conv, self.bn, hidden, self.down_lif)
        return branch_onto(partial(conv_bn, spikes, self.down_conv, self.down_bn), x, self.residual, drop)

    def folds(self) -> list[tuple[str, str]]:
        return [("up_conv", "up_bn"), ("conv", "bn"), ("down_conv", "down_bn")]

    def handovers(self) -> list[tuple[nn.Module, list[nn.Module]]]:
        pairs = (self.up_lif, self.up_conv), (self.conv_lif, self.conv), (self.down_lif, self.down_conv)
        return [(neuron, [conv]) for neuron, conv in pairs]


class Block(nn.Module):
    """Mixing of tokens and of channels, each with a shortcut (arXiv 2307.01694, eq. 8-10).

    ``local``: a mixer before the attention, with a shortcut of its own (arXiv 2411.16061, section 3.3).
    """

    def __init__(
        self,
        attn: nn.Module,
        residual: nn.Module,
        mlp: nn.Module,
        drop_path: float,
        local: tuple[nn.Module, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.local: nn.Module | None = local[0] if local else None
        self.local_residual: nn.Module | None = local[1] if local else None
        self.attn, self.residual, self.mlp = attn, residual, mlp
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if self.local is not None and self.local_residual is not None:
            x = _mixed(x, self.local, self.local_residual, self.drop_path)
        return self.mlp(_mixed(x, self.attn, self.residual, self.drop_path), self.drop_path)

    def join(self) -> None:
        """Layer scales go into the convolutions before them."""
        places = [(self, "residual", self.attn), (self.mlp, "residual", self.mlp)]
        places += [(self, "local_residual", self.local)] if self.local is not None else []
        for owner, name, branch in places:
            folded, last = getattr(getattr(owner, name), "folded", None), getattr(branch, "last", None)
            if folded is not None and last is not None:
                setattr(owner, name, folded(branch.get_submodule(last)))


def _mixed(x: Tensor, mixer: nn.Module, residual: nn.Module, drop: nn.Module) -> Tensor:
    if getattr(mixer, "adds", False) and not watched(mixer):
        return branch_onto(partial(mixer, x), x, residual, drop)
    return residual(x, drop(mixer(x)))


class DropPath(nn.Module):
    """Drops a sample's residual branch over all timesteps at once (stochastic depth, arXiv 1603.09382, section 3)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        keep = torch.empty(1, x.shape[1], 1, 1, 1, dtype=x.dtype, device=x.device).bernoulli_(1 - self.rate)
        return x * keep / (1 - self.rate)
