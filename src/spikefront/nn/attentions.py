"""Spiking self-attentions: the block's stream ``(T, B, D, H, W)`` -> what the shortcut adds to it, same shape.

Each has an operator of its own (see ``operators``) as a parameterless submodule ``op``.

Settings of all: ``potentials``, whether the stream carries membrane potentials (see ``residuals``), ``side``, that of
the square of tokens, and ``event_mode``, which some have no use for; of a self-attention ``gate_threshold``, that of
the operator's own neuron (published: 0.5), and what its projections are.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from spikefront.nn.kernels import MaxPool
from spikefront.nn.kernels.sparse import Spikes, sdsa
from spikefront.nn.layers import NeuronFactory, beside, conv_bn, conv_bn_fire, over_frames, reads
from spikefront.nn.operators import QKTAOp, SDSA1Op, SDSA2Op, SDSA3Op, SoftmaxOp, SSAOp, STAttenOp
from spikefront.nn.torch_internals import watched


class SelfAttention(nn.Module):
    """``streams = LIF(BN(conv1x1(s)))``, one a letter; the operator; ``BN(conv1x1(...))``; ``s = LIF(x)`` or ``x``.

    Args:
        projection: ``(channels in, out)`` -> what takes the place of every 1x1 convolution, see ``projections``.
        bias, proj_bias: whether those of the streams and the last have one, where they are 1x1 convolutions.
        value_ratio: how much wider than the stream the values are.
    """

    streams = "qkv"
    fires = adds = True
    last = "proj_conv"

    def __init__(
        self,
        dim: int,
        neuron: NeuronFactory,
        op: nn.Module,
        event_mode: bool = False,
        potentials: bool = True,
        gate_threshold: float = 0.5,
        projection: Callable[[int, int], nn.Module] | None = None,
        bias: bool = False,
        proj_bias: bool = True,
        value_ratio: int = 1,
        side: int | None = None,
    ) -> None:
        super().__init__()
        # set by join: one convolution and, where nobody looks at their neurons, one neuron for all streams
        self.qkv_conv: nn.Module | None = None
        self.joint_lif: nn.Module | None = None
        self.shortcut_lif = reads(neuron, potentials)
        self.widths = [dim * (value_ratio if name == "v" else 1) for name in self.streams]
        for name, width in zip(self.streams, self.widths, strict=True):
            self.add_module(f"{name}_conv", (projection or partial(nn.Conv2d, kernel_size=1, bias=bias))(dim, width))
            self.add_module(f"{name}_bn", nn.BatchNorm2d(width))
            self.add_module(f"{name}_lif", neuron() if self.fires else nn.Identity())
            self.add_module(f"{name}_pool", nn.Identity())
        self.talking_heads_lif = neuron(threshold=gate_threshold) if self.fires else nn.Identity()
        self.proj_conv = (projection or partial(nn.Conv2d, kernel_size=1, bias=proj_bias))(dim * value_ratio, dim)
        self.proj_bn = nn.BatchNorm2d(dim)
        self.op = op

    def forward(self, x: Tensor, onto: Any = None) -> Tensor:
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
        parts = joined.split(self.widths, 2) if joined is not None else None
        streams = []
        for i, name in enumerate(self.streams):
            conv, bn, own_lif, pool = (self.get_submodule(f"{name}_{part}") for part in ("conv", "bn", "lif", "pool"))
            stream = parts[i] if parts else s
            streams.append(over_frames(stream if lif is not None else conv_bn_fire(stream, conv, bn, own_lif), pool))
        out = self.op(*streams, self.talking_heads_lif, *self.beside(s))
        return conv_bn(out.reshape(*x.shape[:2], -1, *x.shape[3:]), self.proj_conv, self.proj_bn, onto)

    def beside(self, s: Tensor) -> tuple[Tensor, ...]:
        """What the operator takes of the stream's spikes beside the projections of them."""
        return ()

    def folds(self) -> list[tuple[str, str]]:
        return [*((f"{name}_conv", f"{name}_bn") for name in self.streams), ("proj_conv", "proj_bn")]

    def join(self) -> None:
        """One real convolution for all streams, named ``qkv_conv``, so that whoever hooks convolutions counts it."""
        convs = [self.get_submodule(f"{name}_conv") for name in self.streams]
        neurons: list[Any] = [self.get_submodule(f"{name}_lif") for name in self.streams]
        self.qkv_conv = beside(*convs)
        settings: list[tuple[object, ...]] = [getattr(neuron, "settings", tuple)() for neuron in neurons]
        if settings[0] and all(other == settings[0] for other in settings):
            own = getattr(neurons[0], "beside", None)
            self.joint_lif = copy.deepcopy(neurons[0]) if own is None else own(neurons[1:], self.widths)
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
        whole_words = self.joint_lif is not None and self.widths[0] % 64 == 0
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
    """Spiking Self-Attention of Spikformer (arXiv 2209.15425, section 3.2): no softmax, square in tokens.

    ``linear``: multiply keys and values first, which gives the same numbers: all are sums of whole ones.
    ``by_width``: ``scale`` is divided by the root of a head's width (arXiv 2411.16061, section 3.3).
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        neuron: NeuronFactory,
        scale: float = 0.125,
        linear: bool = False,
        by_width: bool = False,
        **settings: Any,
    ) -> None:
        scale = scale / math.sqrt(dim // num_heads) if by_width else scale
        super().__init__(dim, neuron, (SDSA3Op if linear else SSAOp)(num_heads, scale), **settings)


class QKTA(SelfAttention):
    """Q-K token attention of QKFormer (arXiv 2403.16552, section 3): no values, linear in tokens."""

    streams = "qk"

    def __init__(self, dim: int, num_heads: int, neuron: NeuronFactory, **settings: Any) -> None:
        super().__init__(dim, neuron, QKTAOp(num_heads), **settings)


class STAtten(SDSA1):
    """SSA over ``chunk`` timesteps at once: each token meets those of the other steps (arXiv 2409.19764, section 4).

    The published scale is one by the side of the square of tokens. ``event_mode``: half its square; q, k and v are
    max-pooled over the image, and ``m p + p`` enters the last projection, m the operator's spikes, p the pooled ones of
    the stream. A step's result depends on the later steps of its chunk; T must be a multiple of it. Parameters are
    those of SDSA1, as in the published files.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        neuron: NeuronFactory,
        chunk: int = 2,
        event_mode: bool = False,
        side: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(dim, num_heads, neuron, event_mode=False, side=side, **settings)
        side = side or 1
        self.op = STAttenOp(num_heads, 0.5 / side**2 if event_mode else 1 / side, chunk)
        self.event_mode = event_mode
        if event_mode:
            self.q_pool, self.k_pool, self.v_pool, self.pool = (MaxPool(1) for _ in range(4))

    def beside(self, s: Tensor) -> tuple[Tensor, ...]:
        return (over_frames(s, self.pool),) if self.event_mode else ()

    def handovers(self) -> list[tuple[nn.Module, list[nn.Module]]]:
        return [] if self.event_mode else SelfAttention.handovers(self)


class Softmax(SelfAttention):
    """The attention of networks without spikes, on real q, k, v (arXiv 1706.03762): the energy baseline.

    With ``neuron=relu`` the whole network has no spikes; with a spiking neuron the rest still does.
    """

    fires = False

    def __init__(self, dim: int, num_heads: int, neuron: NeuronFactory, **settings: Any) -> None:
        super().__init__(dim, neuron, SoftmaxOp(num_heads), **settings)
