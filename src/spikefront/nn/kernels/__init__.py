"""Fused CPU kernels: batch norm and neuron in one pass, max-pooling without 64-bit indices, spikes kept as bits.

Every one has a plain PyTorch twin that runs wherever ``usable`` says no: on another device or dtype, without a
compiler, while a network is exported. In float32 spikes are the same bit for bit given the same currents; in bfloat16,
also under autocast, the kernels keep potentials in float32, which the twin doesn't.

The kernels on bits (``sparse``) have no operators: how much they give depends on the spikes. They step aside under
``torch.compile``.
"""

from spikefront.nn.kernels import sparse
from spikefront.nn.kernels.fire import fire, fire_pooled, joins
from spikefront.nn.kernels.launch import DIRECT, followed, switched, usable
from spikefront.nn.kernels.layout import gradient_alike, like
from spikefront.nn.kernels.levels import MOST as MOST_LEVELS
from spikefront.nn.kernels.levels import fire_levels
from spikefront.nn.kernels.norm import normalise, normalises
from spikefront.nn.kernels.norm_pool import normalise_pooled
from spikefront.nn.kernels.packing import packed_spikes
from spikefront.nn.kernels.pool import MaxPool

_like = like

__all__ = [
    "DIRECT",
    "MOST_LEVELS",
    "MaxPool",
    "fire",
    "fire_levels",
    "fire_pooled",
    "followed",
    "gradient_alike",
    "joins",
    "like",
    "normalise",
    "normalise_pooled",
    "normalises",
    "packed_spikes",
    "sparse",
    "switched",
    "usable",
]
