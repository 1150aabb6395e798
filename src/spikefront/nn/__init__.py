"""Spiking networks as components: neurons, surrogates, attentions, embeddings, shortcuts and the model they make up."""

from spikefront.nn.attentions import QKTA, SDSA1, SDSA2, SDSA3, SSA, NoAttention, Softmax
from spikefront.nn.audit import Audit, audit
from spikefront.nn.embeddings import SPS, ConvStem
from spikefront.nn.external import SnnTorch, SpikingJelly
from spikefront.nn.families.sdt import SpikeDrivenTransformer
from spikefront.nn.neurons import ALIF, IF, ILIF, LIF, PLIF, Activation
from spikefront.nn.residuals import MembraneResidual, PreSpikeResidual, VanillaResidual
from spikefront.nn.surrogates import ATan, FastSigmoid, Rectangle, Sigmoid, StraightThrough, Triangle

__all__ = [
    "ALIF",
    "IF",
    "ILIF",
    "LIF",
    "PLIF",
    "QKTA",
    "SDSA1",
    "SDSA2",
    "SDSA3",
    "SPS",
    "SSA",
    "ATan",
    "Activation",
    "Audit",
    "ConvStem",
    "FastSigmoid",
    "MembraneResidual",
    "NoAttention",
    "PreSpikeResidual",
    "Rectangle",
    "Sigmoid",
    "SnnTorch",
    "Softmax",
    "SpikeDrivenTransformer",
    "SpikingJelly",
    "StraightThrough",
    "Triangle",
    "VanillaResidual",
    "audit",
]
