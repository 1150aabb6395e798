"""Spikefront: find the best spiking transformer for an energy budget."""

from spikefront.api import create_model, load_checkpoint
from spikefront.energy import measure_energy, predict_cost
from spikefront.nn import audit

__all__ = ["audit", "create_model", "load_checkpoint", "measure_energy", "predict_cost"]
