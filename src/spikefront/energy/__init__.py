"""Energy: operations counted from shapes, spikes counted in real forward passes, joules from a named convention."""

from spikefront.energy.costs import Chip, CostModel, Paper
from spikefront.energy.meter import EnergyMeter, check_finite, measure_energy
from spikefront.energy.prediction import Cost, predict_cost
from spikefront.energy.report import EnergyReport, LayerCount
from spikefront.energy.tables import joules, render

__all__ = [
    "Chip",
    "Cost",
    "CostModel",
    "EnergyMeter",
    "EnergyReport",
    "LayerCount",
    "Paper",
    "check_finite",
    "joules",
    "measure_energy",
    "predict_cost",
    "render",
]
