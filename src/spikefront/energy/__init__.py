"""Energy: operations counted from shapes, spikes counted in real forward passes, joules from a named convention."""

from spikefront.energy.costs import Chip, CostModel, Paper
from spikefront.energy.counts import LayerCount, from_plain, to_plain
from spikefront.energy.meter import EnergyMeter, check_finite, measure_energy
from spikefront.energy.report import EnergyReport
from spikefront.energy.tables import render

__all__ = [
    "Chip",
    "CostModel",
    "EnergyMeter",
    "EnergyReport",
    "LayerCount",
    "Paper",
    "check_finite",
    "from_plain",
    "measure_energy",
    "render",
    "to_plain",
]
