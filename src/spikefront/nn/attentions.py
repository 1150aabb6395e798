"""Spiking self-attentions: the block's stream ``(T, B, D, H, W)`` -> what the shortcut adds to it, same shape.

Each has an operator of its own (see ``operators``) as a parameterless submodule ``op``.

Settings of all: ``potentials``, whether the stream carries membrane potentials (see ``residuals``), ``gate_threshold``
of the operator's own neuron (published: 0.5), and ``event_mode``, which is SDSA1's and the others have no use for.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from spikefront.nn.kernels import MaxPool
from spikefront.nn.kernels.sparse import Spikes, sdsa
from spikefront.nn.layers import NeuronFactory, beside, conv_bn, conv_bn_fire, over_frames, reads
from spikefront.nn.operators import QKTAOp, SDSA1Op, SDSA2Op, SDSA3Op, SoftmaxOp, SSAOp
from spikefront.nn.torch_internals import watched


class SelfAttention(nn.Module):
    """``streams = LIF(BN(conv1x1(s)))``, one a letter; the operator; ``BN(conv1x1(...))``; ``s = LIF(x)`` or ``x``."""

    streams = "qkv"
    fires = True

    def __init__(
        self,
        dim: int,
        neuron: NeuronFactory,
        op: nn.Module,
        event_mode: bool = False,
        potentials: bool = True,
        gate_threshold: float = 0.5,
    ) -> None:
        super().__init__()
        # set by join: one convolution and, where nobody looks at their neurons, one neuron for all streams
        self.qkv_conv: nn.Module | None = None
        self.joint_lif: nn.Module | None = None
        self.shortcut_lif = reads(neuron, potentials)
        for name in self.streams:
            self.add_module(f"{name}_conv", nn.Conv2d(dim, dim, 1, bias=False))
            self.add_module(f"{name}_bn", nn.BatchNorm2d(dim))
            self.add_module(f"{name}_lif", neuron() if self.fires else nn.Identity())
            self.add_module(f"{name}_pool", nn.Identity())
        self.talking_heads_lif = neuron(threshold=gate_threshold) if self.fires else nn.Identity()
        self.proj_conv = nn.Conv2d(dim, dim, 1)
        self.proj_bn = nn.BatchNorm2d(dim)
        self.op = op

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        s = self.shortcut_lif(x)
        joined: Any = None
        lif = self.joint_lif
        if lif is not None and any(map(watched, self.modules())):
            lif = None
        if self.qkv_conv is not None:
            joined = (
                over_frames(s, self.qkv_conv) if lif is None else conv_bn_fire(s, self.qkv_conv, nn.Identity(), lif)
            )
        if isinstance(joined, Spikes):
            op: Any = self.op
            masked: Any = sdsa(joined, self.talking_heads_lif, op.num_heads, op.event_mode)
            return conv_bn(masked, self.proj_conv, self.proj_bn, onto)
        parts = joined.chunk(len(self.streams), 2) if joined is not None else None
        streams = []
        for i, name in enumerate(self.streams):
            conv, bn, own_lif, pool = (self.get_submodule(f"{name}_{part}") for part in ("conv", "bn", "lif", "pool"))
            stream = parts[i] if parts else s
            streams.append(over_frames(stream if lif is not None else conv_bn_fire(stream, conv, bn, own_lif), pool))
        out = self.op(*streams, self.talking_heads_lif)
        return conv_bn(out.reshape(x.shape), self.proj_conv, self.proj_bn, onto)

    def folds(self) -> list[tuple[str, str]]:
        return [*((f"{name}_conv", f"{name}_bn") for name in self.streams), ("proj_conv", "proj_bn")]

    def join(self) -> None:
        """One real convolution for all streams, named ``qkv_conv``, so that whoever hooks convolutions counts it."""
        convs = [self.get_submodule(f"{name}_conv") for name in self.streams]
        neurons: list[Any] = [self.get_submodule(f"{name}_lif") for name in self.streams]
        self.qkv_conv = beside(*convs)
        settings: list[tuple[object, ...]] = [getattr(neuron, "settings", tuple)() for neuron in neurons]
        if settings[0] and all(other == settings[0] for other in settings):
            self.joint_lif = copy.deepcopy(neurons[0])
        for name in self.streams:
            self.add_module(f"{name}_conv", nn.Identity())

    def handovers(self) -> list[tuple[nn.Module, list[nn.Module]]]:
        return [(self.shortcut_lif, [self.qkv_conv])] if self.qkv_conv is not None else []


class SDSA1(SelfAttention):
    """Spike-Driven Self-Attention of the published network (arXiv 2307.01694, section 3.3).

    ``event_mode`` pools k and v too, as the published code does. ``attn_lif`` and ``talking_heads`` stand in published
    checkpoints and do nothing.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        neuron: NeuronFactory,
        event_mode: bool = False,
        gate_threshold: float = 0.5,
        **settings: Any,
    ) -> None:
        op = SDSA1Op(num_heads, event_mode)
        super().__init__(dim, neuron, op, gate_threshold=gate_threshold, **settings)
        self.attn_lif = neuron(threshold=gate_threshold)
        self.talking_heads = nn.Conv1d(num_heads, num_heads, 1, bias=False)
        if event_mode:
            self.k_pool, self.v_pool = MaxPool(1), MaxPool(1)

    def handovers(self) -> list[tuple[nn.Module, list[nn.Module]]]:
        whole_words = self.joint_lif is not None and self.proj_conv.in_channels % 64 == 0
        return [*super().handovers(), *([(self.joint_lif, [self.op])] if whole_words else [])]  # type: ignore[list-item]


class SDSA2(SelfAttention):
    """SDSA-2 of Spike-driven Transformer V2 (arXiv 2404.03663, section 3.3): no keys, 1x1 convolutions."""

    streams = "qv"

    def __init__(self, dim: int, num_heads: int, neuron: NeuronFactory, **settings: Any) -> None:
        super().__init__(dim, neuron, SDSA2Op(), **settings)


class SDSA3(SelfAttention):
    """SDSA-3 of Spike-driven Transformer V2 (arXiv 2404.03663, section 3.3), with 1x1 for its RepConv projections."""

    def __init__(self, dim: int, num_heads: int, neuron: NeuronFactory, scale: float = 0.125, **settings: Any) -> None:
        super().__init__(dim, neuron, SDSA3Op(num_heads, scale), **settings)


class SSA(SelfAttention):
    """Spiking Self-Attention of Spikformer (arXiv 2209.15425, section 3.2): no softmax, square in tokens."""

    def __init__(self, dim: int, num_heads: int, neuron: NeuronFactory, scale: float = 0.125, **settings: Any) -> None:
        super().__init__(dim, neuron, SSAOp(num_heads, scale), **settings)


class QKTA(SelfAttention):
    """Q-K token attention of QKFormer (arXiv 2403.16552, section 3): no values, linear in tokens."""

    streams = "qk"

    def __init__(self, dim: int, num_heads: int, neuron: NeuronFactory, **settings: Any) -> None:
        super().__init__(dim, neuron, QKTAOp(num_heads), **settings)


class Softmax(SelfAttention):
    """The attention of networks without spikes, on real q, k, v (arXiv 1706.03762): the energy baseline.

    With ``neuron=relu`` the whole network has no spikes; with a spiking neuron the rest still does.
    """

    fires = False

    def __init__(self, dim: int, num_heads: int, neuron: NeuronFactory, **settings: Any) -> None:
        super().__init__(dim, neuron, SoftmaxOp(num_heads), **settings)


class NoAttention(nn.Module):
    """Nothing is mixed between tokens: what attention adds is 0. The lower bound to compare with."""

    def __init__(self, **_: object) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)
