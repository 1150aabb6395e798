"""Spiking self-attentions: membrane potentials ``(T, B, D, H, W)`` -> the residual to add to them, same shape.

Each has an operator of its own as a parameterless submodule ``op`` whose ``operations(q, k, v)`` says what it costs,
so that the energy meter needs no list of attentions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spikefront.nn.layers import NeuronFactory, conv_bn, over_frames


class SDSA1Op(nn.Module):
    """``q * LIF(sum over tokens of k * v)``: masks and additions only (arXiv 2307.01694, eq. 20-21).

    With ``event_mode``, ``k * v`` and ``q * m`` are max-pooled 3x3 over the plane (tokens, channels of a head), as the
    published code does for event cameras.
    """

    def __init__(self, num_heads: int, event_mode: bool) -> None:
        super().__init__()
        self.num_heads, self.event_mode = num_heads, event_mode
        if event_mode:
            self.kv_pool, self.mask_pool = nn.MaxPool2d(3, 1, 1), nn.MaxPool2d(3, 1, 1)

    def _pool(self, x: Tensor, pool: nn.Module) -> Tensor:
        T, B, D, H, W = x.shape
        # (tokens, channels), not its transpose: with ties between spikes the first of a window gets the gradient
        planes = x.reshape(T * B, self.num_heads, D // self.num_heads, H * W).transpose(2, 3)
        return pool(planes).transpose(2, 3).reshape(x.shape)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, gate: nn.Module) -> Tensor:
        kv = k * v
        if self.event_mode:
            kv = self._pool(kv, self.kv_pool)
        masked = q * gate(kv.sum(dim=(3, 4), keepdim=True))
        return self._pool(masked, self.mask_pool) if self.event_mode else masked

    def operations(self, q: Tensor, k: Tensor, v: Tensor, *_: object) -> tuple[Tensor, int]:
        """Additions done ``(T, B)``, at most how many: R N D, R the summed rate of q, k, v (paper, table 1)."""
        spikes = torch.stack([s.flatten(2).sum(-1, dtype=torch.float32) for s in (q, k, v)])
        return spikes.sum(0), 3 * q[0, 0].numel()


class SDSA1(nn.Module):
    """Spike-Driven Self-Attention of the published network (arXiv 2307.01694, section 3.3).

    ``s = LIF(x)``; ``q, k, v = LIF(BN(conv1x1(s)))``; the operator; ``BN(conv1x1(...))``. The gate neuron on the summed
    ``k * v`` has its own threshold (published: 0.5). ``attn_lif`` and ``talking_heads`` stand in published checkpoints
    and take no part in the forward pass.
    """

    q_conv: nn.Module
    k_conv: nn.Module
    v_conv: nn.Module
    q_bn: nn.Module
    k_bn: nn.Module
    v_bn: nn.Module
    q_lif: nn.Module
    k_lif: nn.Module
    v_lif: nn.Module

    def __init__(
        self, dim: int, num_heads: int, neuron: NeuronFactory, event_mode: bool = False, gate_threshold: float = 0.5
    ) -> None:
        super().__init__()
        self.shortcut_lif = neuron()
        for name in "qkv":
            setattr(self, f"{name}_conv", nn.Conv2d(dim, dim, 1, bias=False))
            setattr(self, f"{name}_bn", nn.BatchNorm2d(dim))
            setattr(self, f"{name}_lif", neuron())
        self.attn_lif = neuron(threshold=gate_threshold)
        self.talking_heads = nn.Conv1d(num_heads, num_heads, 1, bias=False)
        self.talking_heads_lif = neuron(threshold=gate_threshold)
        self.proj_conv = nn.Conv2d(dim, dim, 1)
        self.proj_bn = nn.BatchNorm2d(dim)
        self.op = SDSA1Op(num_heads, event_mode)
        self.k_pool, self.v_pool = ((nn.MaxPool2d(3, 1, 1) if event_mode else nn.Identity()) for _ in "kv")

    def forward(self, x: Tensor) -> Tensor:
        s = self.shortcut_lif(x)
        q = self.q_lif(conv_bn(s, self.q_conv, self.q_bn))
        k = over_frames(self.k_lif(conv_bn(s, self.k_conv, self.k_bn)), self.k_pool)
        v = over_frames(self.v_lif(conv_bn(s, self.v_conv, self.v_bn)), self.v_pool)
        return conv_bn(self.op(q, k, v, self.talking_heads_lif), self.proj_conv, self.proj_bn)
