"""The first convolution, which reads real images, fired by the neuron after it before anything is written."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from spikefront.nn.kernels import sparse
from spikefront.nn.kernels.sparse import Spikes
from spikefront.nn.sparse_conv import keeps_size
from spikefront.nn.torch_internals import version_of, watched

MOST_CHANNELS = 8  # of an image: with more the dense convolution is as fast


class ImageConv2d(nn.Conv2d):
    """A 3x3 convolution (stride 1, same size) of real images, for inference."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv.in_channels, conv.out_channels, 3, padding=1, bias=conv.bias is not None, device="meta")
        self.weight, self.bias = conv.weight, conv.bias
        self._packed: tuple[Tensor, int, tuple[Tensor, Tensor]] | None = None

    @staticmethod
    def replaces(conv: nn.Module) -> bool:
        """Whether ``conv`` is such a convolution."""
        return (
            type(conv) is nn.Conv2d
            and conv.in_channels <= MOST_CHANNELS
            and conv.kernel_size == (3, 3)
            and keeps_size(conv)
        )

    def fires(self, x: Tensor, norm: nn.Module, neuron: Any) -> bool:
        """Whether ``fire`` can do ``neuron(norm(conv(x)))`` in one pass, with bits that ``neuron.readers`` want."""
        return (
            type(norm) is nn.Identity
            and bool(neuron.readers)
            and x.dtype == self.weight.dtype
            and not watched(self)
            and sparse.hands_over(neuron, x)
        )

    def fire(self, x: Tensor, neuron: Any, timesteps: int | None) -> Spikes:
        """``neuron(conv(x))`` of images ``(T, B, C, H, W)``, or ``(1, ...)`` shown ``timesteps`` times."""
        version = version_of(self.weight)
        if self._packed is None or self._packed[0] is not self.weight or self._packed[1] != version:
            self._packed = self.weight, version, sparse.pack_images(self.weight, self.bias)
        steps = timesteps or len(x)
        return sparse.fire_images(x, self._packed[2], self.out_channels, steps, neuron.constants())
