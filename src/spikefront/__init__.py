"""Spikefront: find the best spiking transformer for an energy budget."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from spikefront.api import create_model, load_checkpoint
    from spikefront.energy import measure_energy, predict_cost
    from spikefront.nn import audit

__all__ = ["audit", "create_model", "load_checkpoint", "measure_energy", "predict_cost"]

# PyTorch is loaded by what needs it: a sweep starts its workers before that
__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "api": ["create_model", "load_checkpoint"],
        "energy": ["measure_energy", "predict_cost"],
        "nn": ["audit"],
    },
)
