"""Layers whose numbers are whole, carried in float64, which has every whole number up to 2^53 exactly.

So PyTorch's own kernels compute what integers would; ``exactness`` computes it once more with integers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spikefront.nn.neurons import SpikingNeuron

LEAK_BITS = 8  # of a leak's fraction


class _Whole:
    """What a convolution and a linear layer have in common: ``(sum of weight * input) * gain + offset``.

    Attributes:
        step: what the input is divided by before it is rounded; 1 of spikes.
        least, most: bounds of that, of the network's own input; None: none.
        unit: what turns the result into real numbers, of the network's last layer; None of all others.
    """

    step: float = 1.0
    most: int | None = None
    unit: float | None = None
    gain: Tensor
    offset: Tensor

    def whole(self, x: Tensor) -> Tensor:
        """The input in whole numbers."""
        x = x.double()
        x = x if self.step == 1 else (x / self.step).round()
        return x if self.most is None else x.clamp(-self.most, self.most)

    def scaled(self, total: Tensor) -> Tensor:
        """The result of the layer's sums."""
        shape = (-1,) if isinstance(self, nn.Linear) else (-1, 1, 1)
        out = total * self.gain.view(shape) + self.offset.view(shape)
        return out if self.unit is None else out * self.unit

    def constants_of(self) -> dict[str, Any]:
        """What a file must say of it beside its tensors."""
        return {"step": self.step, "most": self.most, "unit": self.unit}


class WholeConv(_Whole, nn.Conv2d):
    """A convolution of whole numbers ``(N, C, H, W)``."""

    def forward(self, x: Tensor) -> Tensor:
        return self.scaled(self._conv_forward(self.whole(x), self.weight, None))


class WholeLinear(_Whole, nn.Linear):
    """A linear layer of whole numbers ``(..., C)``."""

    def forward(self, x: Tensor) -> Tensor:
        return self.scaled(nn.functional.linear(self.whole(x), self.weight))


class WholeNeuron(SpikingNeuron):
    """``h = (leak v + gain x) >> LEAK_BITS``, rounded down; as many spikes as thresholds were reached; reset.

    Args:
        thresholds: ``(levels, channels)`` or ``(levels, 1)``, whole numbers.
        leak, gain: whole numbers, in parts of ``2 ** LEAK_BITS``.
        drop: of a soft reset what a spike takes from the membrane ``(channels,)``; None: reset to 0.
        step: what the currents are divided by to be whole.
        channel: which dimension of the currents is the channel, from the end.
    """

    thresholds: Tensor
    drop: Tensor | None

    def __init__(
        self, thresholds: Tensor, leak: int, gain: int, drop: Tensor | None, step: float = 1.0, channel: int = 3
    ) -> None:
        super().__init__(reset="hard" if drop is None else "soft")
        self.levels, self.leak, self.gain, self.step, self.channel = len(thresholds), leak, gain, step, channel
        self.register_buffer("thresholds", thresholds.double())
        self.register_buffer("drop", None if drop is None else drop.double())

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.step == 1 else (x / self.step).round()
        return self.fired(x)

    def fired(self, x: Tensor) -> Tensor:
        """Spikes of whole currents ``(T, ...)``, in the arithmetic of their type: float64, or integers."""
        shape = [-1, *[1] * (self.channel - 1)]
        thresholds = [t.to(x.dtype).view(shape) for t in self.thresholds]
        drop = None if self.drop is None else self.drop.to(x.dtype).view(shape)
        v, spikes = torch.zeros_like(x[0]), []
        for current in x:
            h = self.leak * v + self.gain * current
            h = (h / 2**LEAK_BITS).floor() if h.is_floating_point() else h >> LEAK_BITS
            s = torch.zeros_like(h)
            for threshold in thresholds:
                s += h >= threshold
            v = h * (s == 0) if drop is None else h - drop * s
            spikes.append(s)
        return torch.stack(spikes)

    def constants_of(self) -> dict[str, Any]:
        """What a file must say of it beside its tensors."""
        return {"leak": self.leak, "gain": self.gain, "step": self.step, "channel": self.channel}
