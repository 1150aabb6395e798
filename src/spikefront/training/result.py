"""What a training run leaves behind."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from spikefront.errors import UserError
from spikefront.files import write_atomically
from spikefront.units import joules

FILE = "result.json"
COUNTS = "counts.json"  # what each layer did, a sample: from it the same network can be costed otherwise


class Diverged(UserError):
    """The training came to no numbers."""


@dataclass
class Evaluation:
    """One data split of so many samples: accuracy 0-1, energy in joules a sample, mean firing rate of what enters the
    spiking layers.

    ``anytime``: ``{"t", "accuracy", "energy_joules"}`` of stopping after t = 1 … T timesteps.
    """

    accuracy: float
    energy_joules: float
    firing_rate: float
    samples: int
    anytime: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Result:
    """A run's outcome: the test part at the top level, the validation part (what sweeps select on) beside it.

    ``selected_on``: the part on which the best epoch was chosen, ``test`` where ``data.val_fraction`` is 0.
    ``latency_seconds``: a sample, of the deployed network; None: not measured (``latency=null``).
    ``threads``: of each process, where it computed on a CPU: with another number the same sums come out otherwise in
    their last digits, and after some epochs so do accuracies.
    ``levels``: ``{"levels", "accuracy", "energy_joules"}`` of neurons that fire at most so many spikes at once.
    ``data``: of a user's own folder its classes, the split's hash and how the parts came about.
    ``confused``, ``wrong``: of an evaluation, or of a user's own folder, the classes most often taken for others, and
    the samples that it is most surely wrong about; ``confusion.json`` has more of both, and the whole matrix.
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
    threads: int | None = None
    levels: list[dict[str, float]] = field(default_factory=list)
    data: dict[str, Any] | None = None
    confused: list[dict[str, Any]] = field(default_factory=list)
    wrong: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def save(self, directory: str | Path) -> Path:
        """Write ``result.json`` atomically: a reader never sees half of one."""
        return write_atomically(Path(directory) / FILE, json.dumps(self.to_dict(), indent=2) + "\n")


def summary(result: Result, directory: str) -> str:
    """The lines a person reads at the end of a run."""
    lines = [
        f"{result.split} accuracy {result.accuracy:.4f}   energy {joules(result.energy_joules)} a sample"
        f" ({result.convention})   firing rate {result.firing_rate:.3f}   {result.seconds:.0f} s"
    ]
    if result.latency_seconds is not None:
        lines.append(f"deployed: {result.latency_seconds * 1e3:.3g} ms a sample")
    if len(result.anytime) > 1:
        points = (f"t={p['t']} {p['accuracy']:.4f} {joules(p['energy_joules'])}" for p in result.anytime)
        lines.append("stopping early: " + ",  ".join(points))
    if result.levels:
        points = (f"d={p['levels']} {p['accuracy']:.4f} {joules(p['energy_joules'])}" for p in result.levels)
        lines.append("within d virtual steps: " + ",  ".join(points))
    for p in result.early_exit:
        lines.append(
            f"stopping at confidence {p['confidence']:g}: accuracy {p['accuracy']:.4f} {joules(p['energy_joules'])}"
            f" after {p['timesteps']:.2f} timesteps on average"
        )
    for c in result.confused:
        lines.append(f"{c['true']} taken for {c['said']}: {c['count']} of {c['of']}")
    for w in result.wrong:
        name = w["sample"] or "a sample beside one that was left out"
        lines.append(f"surely wrong: {name}: {w['said']} {w['probability']:.2f}, is {w['true']}")
    return "\n".join([*lines, f"results in {directory}"])
