"""Shortcuts of a spiking block: ``(stream, branch)`` -> the new stream, ``branch`` being what a BN returned.

``potentials`` says what the stream carries. If membrane potentials, a branch reads it through a neuron of its own; if
spikes, a branch reads them directly and the shortcut has the neuron. Made with that neuron's factory and ``dim``, the
stream's width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spikefront.nn.layers import Fired, NeuronFactory
from spikefront.nn.projections import scale_


class MembraneResidual(nn.Module):
    """Membrane shortcut: ``x + branch`` (arXiv 2307.01694, section 3.2): every synapse reads binary spikes."""

    potentials = sums = True

    def __init__(self, neuron: NeuronFactory, dim: int | None = None) -> None:
        super().__init__()

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        return x + branch


class ScaledResidual(nn.Module):
    """``x + scale * branch`` with a learned scale a channel, ``start`` at first (layer scale, arXiv 2103.17239).

    At inference it folds into the convolution before it.
    """

    potentials = folds_away = True

    def __init__(self, neuron: NeuronFactory, dim: int | None = None, start: float = 1e-6) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((dim or 1, 1, 1), start))

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        return x + self.scale * branch

    def folded(self, conv: nn.Module) -> MembraneResidual:
        """What is left of it once ``conv``, the last of its branch, has the scale."""
        scale_(conv, self.scale.flatten())
        return MembraneResidual(nn.Identity)


class PreSpikeResidual(nn.Module):
    """Spike-element-wise shortcut: ``x + LIF(branch)`` on spikes (SEW-ADD, arXiv 2102.04159; as Spikformer uses it).

    Sums of spikes are integers: the layers after it no longer read binary values.
    """

    potentials = False

    def __init__(self, neuron: NeuronFactory, dim: int | None = None) -> None:
        super().__init__()
        self.lif = neuron()

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        return x + self.lif(branch)

    def fired(self, x: Tensor) -> Fired:
        """The same, for whoever makes the branch."""
        return Fired(x, self.lif)


class AcrossBatchResidual(PreSpikeResidual):
    """``PreSpikeResidual`` whose neuron takes the batch for time, as in QKFormer's published code (its issue 14).

    All timesteps of all samples, T times B, are one sequence to it, so a sample's result depends on those beside it;
    with one sample it is ``PreSpikeResidual``. For published weights alone.
    """

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        return x + self.lif(branch.flatten(0, 1)).unflatten(0, branch.shape[:2])

    def fired(self, x: Tensor) -> Fired:
        return Fired(x, self.lif, across=True)


class VanillaResidual(nn.Module):
    """The ResNet shortcut carried over: ``LIF(x + branch)`` on spikes (as described in arXiv 2102.04159, section 3)."""

    potentials = False

    def __init__(self, neuron: NeuronFactory, dim: int | None = None) -> None:
        super().__init__()
        self.lif = neuron()

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        return self.lif(x + branch)
