"""A network as PyTorch's own exchange format: ``torch.export.load("network.pt2").module()(images)``."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spikefront.exporting.interface import interface, told
from spikefront.nn.programs import Deployed, traced

FILE, ABOUT = "network.pt2", "interface.json"


def write(model: nn.Module, sample: Tensor, directory: Path, *, origin: Any = None) -> dict[str, Any]:
    """``network.pt2``, whose graph needs nothing of this package, and ``interface.json`` inside it and in what is told.

    Raises:
        UserError: a network that can't be traced.
    """
    deployed = Deployed(model.float()).eval()
    sample = sample.float()
    expected = deployed(sample)
    program = traced(deployed, sample)
    about = interface(deployed, sample, origin)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights on other devices, which none is
        torch.export.save(program, directory / FILE, extra_files={ABOUT: json.dumps(about)})
    with torch.no_grad():
        found = torch.export.load(directory / FILE).module()(sample)
    return told(about, expected, found, "torch.export's graph")
