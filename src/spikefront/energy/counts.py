"""What one layer of a network did, a sample: counts, which a cost model turns into joules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class LayerCount:
    """What one layer did, a sample: counts only, no joules.

    Attributes:
        kind: ``analog`` reads real or count values (multiply-accumulates), ``spikes`` reads spikes (additions),
            ``attention`` an attention operator, ``pool`` a max-pool, ``neuron`` membrane updates, ``unclassified``
            multiply-accumulates of an unknown module.
        potential: operations one timestep would take if everything fired (FL).
        ceiling: how many spikes would enter at one timestep if everything fired.
        spikes: what entered at each timestep, ``(T,)``, or ``(T, samples)``.
        inputs, outputs: elements in and out at one timestep.
        static: reads the same image at every timestep.
        dead, saturated: share of input channels that never fire, and that fire everywhere at every timestep.
        tokens, width: N and D of an attention operator.
        levels: the most spikes that a neuron fires at once.
        chunk: how many timesteps an attention takes at once.
    """

    name: str
    group: str
    kind: str
    input_shape: tuple[int, ...]
    potential: float
    ceiling: float
    spikes: np.ndarray
    inputs: float
    outputs: float
    parameters: int = 0
    static: bool = False
    dead: float = 0.0
    saturated: float = 0.0
    tokens: int = 0
    width: int = 0
    levels: int = 1
    chunk: int = 1

    @property
    def timesteps(self) -> int:
        return len(self.spikes)

    @property
    def rates(self) -> np.ndarray:
        """Firing rate of the input at each timestep; above 1 only where spikes are integers."""
        return self.spikes / self.ceiling if self.ceiling else np.zeros_like(self.spikes)

    @property
    def rate(self) -> float:
        return float(self.rates.mean())

    @property
    def additions(self) -> np.ndarray:
        """Operations done at each timestep: ``rate * potential``."""
        return self.rates * self.potential

    def with_spikes(self, spikes: np.ndarray) -> LayerCount:
        """The same layer with other counts; those of neurons and of unknown modules don't depend on spikes."""
        if self.kind in ("neuron", "unclassified"):
            spikes = np.full(np.shape(spikes), self.ceiling)
        return replace(self, spikes=spikes)

    def at_rate(self, rate: float) -> LayerCount:
        if self.kind == "analog":
            return self
        return self.with_spikes(np.full(self.spikes.shape, rate * self.ceiling))


def to_plain(layers: Iterable[LayerCount]) -> list[dict[str, Any]]:
    """Counts as JSON holds them."""
    return [{**asdict(x), "spikes": x.spikes.tolist()} for x in layers]


def from_plain(layers: Iterable[Mapping[str, Any]]) -> list[LayerCount]:
    """What ``to_plain`` gave. Raises TypeError for anything else."""
    return [
        LayerCount(**{**x, "spikes": np.array(x["spikes"]), "input_shape": tuple(x["input_shape"])}) for x in layers
    ]
