"""Shortcuts of a spiking block: ``(stream, branch)`` -> the new stream, ``branch`` being what a BN returned.

``potentials`` says what the stream carries. If membrane potentials, a branch reads it through a neuron of its own; if
spikes, a branch reads them directly and the shortcut has the neuron.
"""

from __future__ import annotations

from torch import Tensor, nn

from spikefront.nn.layers import NeuronFactory


class MembraneResidual(nn.Module):
    """Membrane shortcut: ``x + branch`` (arXiv 2307.01694, section 3.2): every synapse reads binary spikes."""

    potentials = sums = True

    def __init__(self, neuron: NeuronFactory) -> None:
        super().__init__()

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        return x + branch


class PreSpikeResidual(nn.Module):
    """Spike-element-wise shortcut: ``x + LIF(branch)`` on spikes (SEW-ADD, arXiv 2102.04159; as Spikformer uses it).

    Sums of spikes are integers: the layers after it no longer read binary values.
    """

    potentials = False

    def __init__(self, neuron: NeuronFactory) -> None:
        super().__init__()
        self.lif = neuron()

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        return x + self.lif(branch)


class VanillaResidual(nn.Module):
    """The ResNet shortcut carried over: ``LIF(x + branch)`` on spikes (as described in arXiv 2102.04159, section 3)."""

    potentials = False

    def __init__(self, neuron: NeuronFactory) -> None:
        super().__init__()
        self.lif = neuron()

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        return self.lif(x + branch)
