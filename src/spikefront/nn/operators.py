"""What spiking self-attentions do with their streams of spikes ``(T, B, D, H, W)``, and what that costs.

``operations(...)``, called with the arguments of ``forward``, gives the additions done ``(T, B)`` and how many they can
be at most, a sample and step. ``analog`` marks the one that multiplies real values: its operations are
multiply-accumulates. So the energy meter needs no list of attentions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from spikefront.nn.kernels import MaxPool


class SDSA1Op(nn.Module):
    """``q * LIF(sum over tokens of k * v)``: masks and additions only (arXiv 2307.01694, eq. 20-21).

    With ``event_mode``, ``k * v`` and ``q * m`` are max-pooled 3x3 over the plane (tokens, channels of a head), as the
    published code does for event cameras.
    """

    reads_bits = True

    def __init__(self, num_heads: int, event_mode: bool) -> None:
        super().__init__()
        self.num_heads, self.event_mode = num_heads, event_mode
        if event_mode:
            self.kv_pool, self.mask_pool = MaxPool(1), MaxPool(1)

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
        """R N D, R the summed rate of q, k, v (paper, table 1)."""
        return _spikes(q, k, v).sum((0, 3)), 3 * q[0, 0].numel()


class SDSA2Op(nn.Module):
    """``LIF(sum over tokens of q) * v`` (SDSA-2 of arXiv 2404.03663, section 3.3)."""

    def forward(self, q: Tensor, v: Tensor, gate: nn.Module) -> Tensor:
        return gate(q.sum(dim=(3, 4), keepdim=True)) * v

    def operations(self, q: Tensor, v: Tensor, *_: object) -> tuple[Tensor, int]:
        """R N D, R the summed rate of q and v."""
        return _spikes(q, v).sum((0, 3)), 2 * q[0, 0].numel()


class SDSA3Op(nn.Module):
    """``LIF(scale q (kᵀ v))`` a head, linear in tokens (SDSA-3 of arXiv 2404.03663, section 3.3; scale 1/8)."""

    def __init__(self, num_heads: int, scale: float) -> None:
        super().__init__()
        self.num_heads, self.scale = num_heads, scale

    def forward(self, q: Tensor, k: Tensor, v: Tensor, gate: nn.Module) -> Tensor:
        heads = [_heads(s, self.num_heads) for s in (q, k, v)]
        out = heads[2] @ heads[1].transpose(-1, -2) @ heads[0]  # (channels, tokens): the transpose of the formula
        return gate(out.reshape(v.shape) * self.scale)

    def operations(self, q: Tensor, k: Tensor, v: Tensor, *_: object) -> tuple[Tensor, int]:
        """Pairs of k and v spikes at a token in a head, then a row of the product for every q spike."""
        width = v.shape[2] // self.num_heads
        at_token = [_heads(s, self.num_heads).abs().sum(-2, dtype=torch.float64) for s in (k, v)]
        done = (at_token[0] * at_token[1]).sum((-1, -2)) + width * _spikes(q)[0].sum(-1)
        return done, 2 * width * q[0, 0].numel()


class SSAOp(nn.Module):
    """``LIF(scale (q kᵀ) v)`` a head, square in tokens (Spikformer, arXiv 2209.15425; scale 1/8)."""

    def __init__(self, num_heads: int, scale: float) -> None:
        super().__init__()
        self.num_heads, self.scale = num_heads, scale

    def forward(self, q: Tensor, k: Tensor, v: Tensor, gate: nn.Module) -> Tensor:
        heads = [_heads(s, self.num_heads) for s in (q, k, v)]
        out = heads[2] @ (heads[1].transpose(-1, -2) @ heads[0])
        return gate(out.reshape(v.shape) * self.scale)

    def operations(self, q: Tensor, k: Tensor, v: Tensor, *_: object) -> tuple[Tensor, int]:
        """Pairs of q and k spikes in a channel, then a column of the attention map for every v spike."""
        tokens = q.shape[3] * q.shape[4]
        of_q, of_k = _spikes(q, k)
        done = (of_q * of_k).sum(-1) + tokens * _spikes(v)[0].sum(-1)
        return done, tokens * (q[0, 0].numel() + v[0, 0].numel())


class STAttenOp(SDSA3Op):
    """``LIF(scale q (kᵀ v))`` a head, over the tokens of ``chunk`` timesteps together (arXiv 2409.19764, section 4).

    With spikes ``p`` of the stream, the result m becomes ``m p + p``.
    """

    def __init__(self, num_heads: int, scale: float, chunk: int) -> None:
        super().__init__(num_heads, scale)
        self.chunk = chunk

    def forward(self, q: Tensor, k: Tensor, v: Tensor, gate: nn.Module, p: Tensor | None = None) -> Tensor:
        chunks = [_heads(s, self.num_heads).unflatten(0, (-1, self.chunk)) for s in (q, k, v)]
        mixed = (chunks[2] @ chunks[1].transpose(-1, -2)).sum(1, keepdim=True)
        out: Tensor = gate((mixed @ chunks[0]).reshape(v.shape) * self.scale)
        return out if p is None else out * p + p

    def operations(self, q: Tensor, k: Tensor, v: Tensor, *more: object) -> tuple[Tensor, int]:
        """As SDSA-3's, and an addition for every spike of p."""
        done, most = super().operations(q, k, v)
        p = more[1] if len(more) > 1 else None
        return (done + _spikes(p)[0].sum(-1), most + p[0, 0].numel()) if isinstance(p, Tensor) else (done, most)


class DSSAOp(nn.Module):
    """``A = LIF(c1 y1ᵀ s)``, ``LIF(c2 y2 A)`` a head: dual spike self-attention (arXiv 2403.14302, section 4.2).

    ``s`` are spikes, ``y1`` and ``y2`` real values at each ``1/p²`` of the positions, which a spike adds. ``c1 = 1 /
    sqrt(f_x d)`` and ``c2 = 1 / sqrt(f_A N / p²)`` with the heads' running firing rates ``f_x`` of s and ``f_A`` of A,
    buffers without gradient; the first batch sets them where they are 0.

    Args:
        positions: N / p² that c2 is made for.
        momentum: how much of a running rate a batch leaves.
    """

    def __init__(self, num_heads: int, positions: int, momentum: float = 0.999) -> None:
        super().__init__()
        self.num_heads, self.positions, self.momentum = num_heads, positions, momentum
        self.still = False  # this batch is known already
        self.folded = False  # the scales are in the weights that y1 and y2 come of
        self.rate_x: Tensor
        self.rate_attn: Tensor
        for name in ("rate_x", "rate_attn"):
            self.register_buffer(name, torch.zeros(num_heads))

    def forget(self) -> None:
        """Begin anew with the next batch's rates."""
        self.rate_x.zero_()
        self.rate_attn.zero_()

    def forward(self, s: Tensor, y1: Tensor, y2: Tensor, gate: nn.Module, out_gate: nn.Module) -> Tensor:
        attention = self._attention(s, y1, gate)
        self._update(self.rate_attn, attention)
        out = _heads(y2, self.num_heads) @ attention
        out = out if self.folded else out * self.scales(s.shape[2])[1].view(-1, 1, 1)
        return out_gate(out.reshape(s.shape))

    def scales(self, dim: int) -> tuple[Tensor, Tensor]:
        """c1 and c2 of each head of a stream of ``dim`` channels; 1 where nothing has fired yet."""
        rates = self.rate_x * (dim // self.num_heads), self.rate_attn * self.positions
        c1, c2 = (torch.where(r > 0, r, 1.0).rsqrt() for r in rates)
        return c1, c2

    def _attention(self, s: Tensor, y1: Tensor, gate: Callable[[Tensor], Tensor]) -> Tensor:
        """``(T, B, heads, N / p², N)``."""
        spikes = _heads(s, self.num_heads)
        self._update(self.rate_x, spikes)
        scores = _heads(y1, self.num_heads).transpose(-1, -2) @ spikes
        return gate(scores if self.folded else scores * self.scales(s.shape[2])[0].view(-1, 1, 1))

    def _update(self, rate: Tensor, spikes: Tensor) -> None:
        if self.training and not self.still:
            now = spikes.detach().mean((0, 1, 3, 4)).to(rate.dtype)
            begun = torch.where(rate.any(), rate, now)
            rate.copy_(begun * self.momentum + now * (1 - self.momentum))

    def operations(self, s: Tensor, y1: Tensor, y2: Tensor, gate: nn.Module, *_: object) -> tuple[Tensor, int]:
        """A row of y1 for every spike of s, then a column of a head's y2 for every spike of A."""
        positions, width = y1.shape[3] * y1.shape[4], s.shape[2] // self.num_heads
        with torch.no_grad():
            again = copy.copy(self).eval() if self.training else self
            attention = again._attention(s, y1, gate.forward)  # once more, which is nobody's to see
        done = positions * _spikes(s)[0].sum(-1) + width * attention.sum((2, 3, 4), dtype=torch.float64)
        return done, 2 * positions * s[0, 0].numel()


class QKTAOp(nn.Module):
    """``LIF(sum over a head's channels of q) * k``: masks tokens (Q-K token attention, arXiv 2403.16552, section 3)."""

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads

    def forward(self, q: Tensor, k: Tensor, gate: nn.Module) -> Tensor:
        T, B, D, H, W = q.shape
        heads = (T, B, self.num_heads, D // self.num_heads, H, W)
        return (gate(q.reshape(heads).sum(3)).unsqueeze(3) * k.reshape(heads)).reshape(q.shape)

    def operations(self, q: Tensor, k: Tensor, *_: object) -> tuple[Tensor, int]:
        """R N D, R the summed rate of q and k."""
        return _spikes(q, k).sum((0, 3)), 2 * q[0, 0].numel()


class SoftmaxOp(nn.Module):
    """``softmax(q kᵀ / sqrt(d)) v`` a head (Vaswani et al. 2017, arXiv 1706.03762, eq. 1)."""

    analog = True

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *_: object) -> Tensor:
        q, k, v = (_heads(s, self.num_heads).transpose(-1, -2) for s in (q, k, v))
        attention = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        return (attention @ v).transpose(-1, -2)

    def operations(self, q: Tensor, *_: object) -> tuple[Tensor, int]:
        """Multiply-accumulates, all of them: 2 N² D."""
        done = 2 * q.shape[3] * q.shape[4] * q[0, 0].numel()
        return torch.full(q.shape[:2], float(done), device=q.device), done


def _heads(x: Tensor, num_heads: int) -> Tensor:
    """``(T, B, D, H, W)`` -> ``(T, B, heads, D / heads, H W)``."""
    return x.reshape(*x.shape[:2], num_heads, x.shape[2] // num_heads, -1)


def _spikes(*streams: Tensor) -> Tensor:
    """Spikes of each stream, of either sign, in every channel ``(streams, T, B, D)``."""
    return torch.stack([s.flatten(3).abs().sum(-1, dtype=torch.float64) for s in streams])
