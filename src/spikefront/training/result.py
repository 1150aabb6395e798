"""What a training run leaves behind."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FILE = "result.json"


@dataclass
class Evaluation:
    """One data split: accuracy 0-1, energy in joules a sample, mean firing rate of what enters the spiking layers.

    ``anytime``: ``{"t", "accuracy", "energy_joules"}`` of stopping after t = 1 … T timesteps.
    """

    accuracy: float
    energy_joules: float
    firing_rate: float
    anytime: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Result:
    """A run's outcome: the test part at the top level, the validation part (what sweeps select on) beside it.

    ``selected_on``: the part on which the best epoch was chosen, ``test`` where ``data.val_fraction`` is 0.
    ``latency_seconds``: a sample, of the deployed network; None: not measured (``latency=null``).
    ``early_exit``: ``{"confidence", "accuracy", "energy_joules", "timesteps"}`` of stopping each sample by confidence.
    """

    accuracy: float
    energy_joules: float
    firing_rate: float
    parameters: int
    seconds: float
    anytime: list[dict[str, float]]
    convention: str
    split: str
    samples: int
    validation: Evaluation | None = None
    selected_on: str = "validation"
    epochs: int = 0
    checkpoint: str | None = None
    latency_seconds: float | None = None
    early_exit: list[dict[str, float]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def save(self, directory: str | Path) -> Path:
        """Write ``result.json`` atomically: a reader never sees half of one."""
        path = Path(directory) / FILE
        scratch = path.with_suffix(f".{os.getpid()}.tmp")
        scratch.write_text(json.dumps(self.to_dict(), indent=2) + "\n")
        scratch.replace(path)
        return path
