"""Energy: operations counted from shapes, spikes counted in real forward passes, joules from a named convention."""

from spikefront.energy.costs import Chip, CostModel, Paper
from spikefront.energy.meter import EnergyMeter, check_finite, measure_energy
from spikefront.energy.report import EnergyReport, LayerCount
from spikefront.energy.tables import joules, render

__all__ = [
    "Chip",
    "CostModel",
    "EnergyMeter",
    "EnergyReport",
    "LayerCount",
    "Paper",
    "check_finite",
    "joules",
    "measure_energy",
    "render",
]
