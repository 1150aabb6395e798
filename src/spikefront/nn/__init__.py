"""Spiking networks as components: neurons, surrogates, attentions, embeddings, shortcuts and the model they make up."""

from spikefront.nn.attentions import QKTA, SDSA1, SDSA2, SDSA3, SSA, Softmax, STAtten
from spikefront.nn.audit import Audit, audit
from spikefront.nn.blocks import MLP, GroupWise
from spikefront.nn.embeddings import SPS, ConvStem
from spikefront.nn.external import SnnTorch, SpikingJelly
from spikefront.nn.families.sdt import SpikeDrivenTransformer
from spikefront.nn.families.staged import StagedTransformer
from spikefront.nn.integers import ILIF, Integer
from spikefront.nn.mixers import DSSA, Depthwise, NoAttention, Pooling, RepMixer, SepConv
from spikefront.nn.neurons import ALIF, IF, LIF, PLIF, Activation
from spikefront.nn.patches import PatchEmbedding
from spikefront.nn.projections import Chain, RepConv
from spikefront.nn.residuals import (
    AcrossBatchResidual,
    MembraneResidual,
    PreSpikeResidual,
    ScaledResidual,
    VanillaResidual,
)
from spikefront.nn.surrogates import ATan, FastSigmoid, Rectangle, Sigmoid, StraightThrough, Triangle

__all__ = [
    "ALIF",
    "DSSA",
    "IF",
    "ILIF",
    "LIF",
    "MLP",
    "PLIF",
    "QKTA",
    "SDSA1",
    "SDSA2",
    "SDSA3",
    "SPS",
    "SSA",
    "ATan",
    "AcrossBatchResidual",
    "Activation",
    "Audit",
    "Chain",
    "ConvStem",
    "Depthwise",
    "FastSigmoid",
    "GroupWise",
    "Integer",
    "MembraneResidual",
    "NoAttention",
    "PatchEmbedding",
    "Pooling",
    "PreSpikeResidual",
    "Rectangle",
    "RepConv",
    "RepMixer",
    "STAtten",
    "ScaledResidual",
    "SepConv",
    "Sigmoid",
    "SnnTorch",
    "Softmax",
    "SpikeDrivenTransformer",
    "SpikingJelly",
    "StagedTransformer",
    "StraightThrough",
    "Triangle",
    "VanillaResidual",
    "audit",
]
