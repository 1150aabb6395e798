"""Linear maps of spikes that are learned as several convolutions and are one at inference.

``forward``: frames ``(N, C, H, W)``; ``merged()``: that one ``nn.Conv2d``; ``fan_in``: what it adds up for a value.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RepConv(nn.Module):
    """1x1 - BN - depthwise 3x3 - 1x1 - BN, as a 3x3 convolution at inference (arXiv 2404.03663, section 3.2).

    Around the image stands what the first BN makes of 0, from its running estimates even in training (after this
    batch has moved them) and without gradient; so the whole is a 3x3 convolution of an image with zeros around it.
    """

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.fan_in = 9 * dim
        self.conv1 = nn.Conv2d(dim, dim, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(dim)
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.conv2 = nn.Conv2d(dim, out, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x))
        _, border = _scale_and_shift(self.bn1)
        weight = self.dwconv.weight
        y = y - border.view(-1, 1, 1)  # zeros around this are the border around y
        y = F.conv2d(y, weight, border * weight.sum((1, 2, 3)), padding=1, groups=len(weight))
        return self.bn2(self.conv2(y))

    def merged(self) -> nn.Conv2d:
        (scale, border), (scale2, shift2) = _scale_and_shift(self.bn1), _scale_and_shift(self.bn2)
        first = self.conv1.weight.flatten(1) * scale[:, None]
        last = self.conv2.weight.flatten(1) * scale2[:, None]
        middle = self.dwconv.weight.squeeze(1)
        return convolution(
            torch.einsum("om,mhw,mi->oihw", last, middle, first), last @ (border * middle.sum((1, 2))) + shift2
        )


class Chain(nn.Module):
    """1x1 - BN - 1x1 - BN, ``expand`` times as wide within; one 1x1 at inference (arXiv 2411.16061, section 3.3)."""

    def __init__(self, dim: int, out: int, expand: float = 1.5) -> None:
        super().__init__()
        self.fan_in, hidden = dim, int(dim * expand)
        self.conv1 = nn.Conv2d(dim, hidden, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, out, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv2(self.bn1(self.conv1(x))))

    def merged(self) -> nn.Conv2d:
        (scale, shift), (scale2, shift2) = _scale_and_shift(self.bn1), _scale_and_shift(self.bn2)
        last = self.conv2.weight.flatten(1) * scale2[:, None]
        first = self.conv1.weight.flatten(1) * scale[:, None]
        return convolution((last @ first)[:, :, None, None], last @ shift + shift2)


def _scale_and_shift(bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """What a BN multiplies by and adds, by its running estimates, without gradient."""
    assert bn.running_mean is not None and bn.running_var is not None
    scale = bn.weight.detach() * (bn.running_var + bn.eps).rsqrt()
    return scale, bn.bias.detach() - bn.running_mean * scale


def convolution(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """The convolution of this weight and bias that keeps an image's size, for inference."""
    size = weight.shape[-1]
    conv = nn.Conv2d(
        weight.shape[1], weight.shape[0], size, padding=size // 2, device=weight.device, dtype=weight.dtype
    )
    conv.weight, conv.bias = nn.Parameter(weight.detach(), False), nn.Parameter(bias.detach(), False)
    return conv.eval()


@torch.no_grad()
def scale_(conv: nn.Module, by: Tensor) -> None:
    """Multiply, in place, what a convolution gives by a number a channel."""
    assert isinstance(conv, nn.Conv2d)
    conv.weight.mul_(by.view(-1, 1, 1, 1))
    if conv.bias is not None:
        conv.bias.mul_(by)
