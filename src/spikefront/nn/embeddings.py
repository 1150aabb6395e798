"""Spiking patch embeddings: images or event frames -> membrane potentials ``(T, B, D, H, W)``."""

from __future__ import annotations

from torch import Tensor, nn

from spikefront.errors import UserError
from spikefront.nn.layers import NeuronFactory, conv_bn, over_frames

STAGE = ("proj_conv", "proj_bn", "proj_lif", "maxpool")


def pooling_stages(code: str | int) -> tuple[bool, bool, bool, bool]:
    """Read a pooling code: four digits, which of the four stages halve the image (``"0011"``: the last two)."""
    digits = f"{code:04d}" if isinstance(code, int) else str(code)
    if len(digits) != 4 or set(digits) - {"0", "1"}:
        raise UserError(f"model.pooling is {code!r}: use four digits of 0 or 1, one a stage, such as 0011")
    return tuple(d == "1" for d in digits)  # type: ignore[return-value]


class SPS(nn.Module):
    """Spiking Patch Splitting: four stages of conv3x3 - BN - LIF - pool, then a convolutional position embedding.

    Channels grow D/8, D/4, D/2, D; the output is ``f + BN(conv3x3(LIF(f)))`` with ``f`` the fourth stage before its
    neuron (arXiv 2307.01694, section 3.2, with the membrane shortcut of eq. 5).

    ``forward``: ``(T, B, C, H, W)``, or ``(1, B, C, H, W)`` with ``timesteps`` for a static image, whose first
    convolution then runs once instead of T times -> ``(T, B, D, H / 2^p, W / 2^p)`` for p pooling stages.
    """

    def __init__(self, in_channels: int, dim: int, pooling: str | int, neuron: NeuronFactory) -> None:
        super().__init__()
        if dim % 8:
            raise UserError(f"model.dim is {dim}: the embedding's stages need it divisible by 8")
        self.pooling = pooling_stages(pooling)
        channels = (in_channels, dim // 8, dim // 4, dim // 2, dim)
        for i, suffix in enumerate(("", "1", "2", "3")):
            stage = (
                nn.Conv2d(channels[i], channels[i + 1], 3, padding=1, bias=False),
                nn.BatchNorm2d(channels[i + 1]),
                neuron(),
                nn.MaxPool2d(3, 2, 1) if self.pooling[i] else nn.Identity(),
            )
            for kind, module in zip(STAGE, stage, strict=True):
                self.add_module(f"{kind}{suffix}", module)
        self.rpe_conv = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.rpe_bn = nn.BatchNorm2d(dim)
        self.rpe_lif = neuron()  # in the published state dict, takes no part in the forward pass

    def forward(self, x: Tensor, timesteps: int) -> Tensor:
        for suffix in ("", "1", "2"):
            conv, bn, lif, pool = (self.get_submodule(f"{kind}{suffix}") for kind in STAGE)
            x = conv_bn(x, conv, bn)
            if x.shape[0] != timesteps:
                x = x.expand(timesteps, *x.shape[1:])
            x = over_frames(lif(x), pool)
        conv, bn, lif, pool = (self.get_submodule(f"{kind}3") for kind in STAGE)
        feature = over_frames(conv_bn(x, conv, bn), pool)
        return feature + conv_bn(lif(feature), self.rpe_conv, self.rpe_bn)
