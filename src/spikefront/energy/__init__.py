"""Energy: operations counted from shapes, spikes counted in real forward passes, joules from a named convention."""

from spikefront.energy.costs import CostModel, Paper
from spikefront.energy.meter import EnergyMeter, measure_energy
from spikefront.energy.report import EnergyReport, LayerCount

__all__ = ["CostModel", "EnergyMeter", "EnergyReport", "LayerCount", "Paper", "measure_energy"]
