"""Spiking networks as components: neurons, surrogates, attentions, embeddings and the model they make up."""

from spikefront.nn.attentions import SDSA1
from spikefront.nn.embeddings import SPS
from spikefront.nn.model import SpikeDrivenTransformer
from spikefront.nn.neurons import LIF, PLIF
from spikefront.nn.surrogates import ATan, FastSigmoid, Rectangle, Sigmoid, StraightThrough, Triangle

__all__ = [
    "LIF",
    "PLIF",
    "SDSA1",
    "SPS",
    "ATan",
    "FastSigmoid",
    "Rectangle",
    "Sigmoid",
    "SpikeDrivenTransformer",
    "StraightThrough",
    "Triangle",
]
