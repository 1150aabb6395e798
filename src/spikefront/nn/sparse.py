"""The convolution of a deployed network that adds weight rows where a spike is, instead of multiplying with zeros.

Neurons hand bits to the layers that read them (``readers``), as long as nothing is hooked onto either: whoever looks at
spikes, as the energy meter does, sees floats.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spikefront.nn.kernels import sparse
from spikefront.nn.kernels.sparse import Spikes, watched

ROUNDS = 3  # of each way, when a layer decides


class SparseConv2d(nn.Conv2d):
    """A 1x1 or 3x3 convolution (stride 1, same size) of spikes, float tensors or ``Spikes``.

    Values other than whole numbers, and tensors elsewhere than float32 on the CPU, are convolved densely.

    Attributes:
        sparse: True or False; None: the first input decides, on which both ways are timed if it is spikes.
        rate: spikes an input element in that first input; ``crossover``: the rate at which both would take as long, if
            sparse time were proportional to spikes. Both None before, or without a decision by time.
    """

    def __init__(self, conv: nn.Conv2d, sparse: bool | None) -> None:
        size, bias = conv.kernel_size[0], conv.bias is not None
        super().__init__(conv.in_channels, conv.out_channels, size, padding=size // 2, bias=bias, device="meta")
        self.weight, self.bias = conv.weight, conv.bias
        self.sparse = sparse
        self.rate: float | None = None
        self.crossover: float | None = None
        self._packed: tuple[int, Tensor] | None = None

    @staticmethod
    def replaces(conv: nn.Module) -> bool:
        """Whether ``conv`` is such a convolution."""
        return (
            type(conv) is nn.Conv2d
            and conv.kernel_size in ((1, 1), (3, 3))
            and conv.padding == (conv.kernel_size[0] // 2,) * 2
            and (conv.stride, conv.dilation, conv.groups, conv.padding_mode) == ((1, 1), (1, 1), 1, "zeros")
        )

    @property
    def reads_bits(self) -> bool:
        """Whether neurons should hand it bits."""
        return self.sparse is not False

    def forward(self, x: Tensor | Spikes) -> Tensor:  # type: ignore[override]
        if self.sparse is False or not self._fits(x) or (self.sparse is None and watched(self)):
            return super().forward(x.dense() if isinstance(x, Spikes) else x)
        found = sparse.lists(x)
        if found is None:  # real values
            self.sparse = self.sparse or False
            return super().forward(x)  # type: ignore[arg-type]
        if self.sparse is None:
            self._decide(x, found)
        return self._add(x, found)

    def fires(self, x: Tensor | Spikes, norm: nn.Module, neuron: Any) -> bool:
        """Whether ``fire`` can do ``neuron(norm(conv(x)))`` in one pass, with bits that ``neuron.readers`` want."""
        return (
            self.sparse is True
            and isinstance(x, Spikes)
            and type(norm) is nn.Identity
            and bool(neuron.readers)
            and not watched(self)
            and sparse.unwatched(neuron)
        )

    def fire(self, x: Spikes, neuron: Any) -> Spikes:
        """``neuron(conv(x))`` of spikes ``(T, B, C, H, W)``."""
        found = sparse.lists(x)
        assert found is not None
        weight, bias = self._weight(), self.bias
        return sparse.convolve_and_fire(found, x.shape, weight, bias, self.out_channels, neuron.constants())

    def _fits(self, x: Tensor | Spikes) -> bool:
        if isinstance(x, Spikes):
            return True
        plain = x.dtype == torch.float32 and x.device.type == "cpu" and x.dim() == 4 and x.numel() > 0
        return plain and not (torch.is_grad_enabled() and x.requires_grad) and not torch.compiler.is_compiling()

    def _add(self, x: Tensor | Spikes, found: sparse.Lists) -> Tensor:
        return sparse.convolve(found, x.shape, self._weight(), self.bias, self.out_channels)

    def _weight(self) -> Tensor:
        version = self.weight._version if not self.weight.is_inference() else 0
        if self._packed is None or self._packed[0] != version:
            self._packed = version, sparse.pack(self.weight)
        return self._packed[1]

    def _decide(self, x: Tensor | Spikes, found: sparse.Lists) -> None:
        floats = x.dense() if isinstance(x, Spikes) else x
        by_spikes = _seconds(lambda: (sparse.lists(x), self._add(x, found)))
        by_zeros = _seconds(lambda: nn.Conv2d.forward(self, floats))
        self.rate = found.spikes / max(1, x.shape.numel())
        self.crossover = self.rate * by_zeros / by_spikes
        self.sparse = by_spikes < by_zeros

    def extra_repr(self) -> str:
        how = {True: "sparse", False: "dense", None: "undecided"}[self.sparse]
        if self.rate is None or self.crossover is None:
            return f"{super().extra_repr()}, {how}"
        return f"{super().extra_repr()}, {how}: rate {self.rate:.3f}, crossover {self.crossover:.2f}"


def _seconds(run: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)
