"""What a measurement says: a row for every layer, totals, and the energy after each timestep."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from spikefront.energy.costs import CostModel


@dataclass(frozen=True)
class LayerCount:
    """What one layer did, a sample: counts only, no joules.

    Attributes:
        kind: ``analog`` reads real or count values (multiply-accumulates), ``spikes`` reads spikes (additions),
            ``attention`` an attention operator, ``pool`` a max-pool over spikes.
        potential: operations one timestep would take if everything fired (FL).
        rates: firing rate of the input at each timestep.
        additions: operations done at each timestep, ``rate * potential``.
        static: reads the same image at every timestep.
    """

    name: str
    group: str
    kind: str
    input_shape: tuple[int, ...]
    potential: float
    rates: tuple[float, ...]
    additions: tuple[float, ...]
    static: bool = False

    @property
    def timesteps(self) -> int:
        return len(self.rates)

    @property
    def rate(self) -> float:
        return sum(self.rates) / len(self.rates)


class EnergyReport:
    """Counts and a cost model, read as rows, totals and curves. Energies are joules a sample."""

    def __init__(self, layers: list[LayerCount], cost: CostModel, samples: int) -> None:
        self.layers, self.convention, self.samples = layers, cost.convention, samples
        self._joules = [cost.joules(layer) for layer in layers]

    @property
    def total_joules(self) -> float:
        return sum(map(sum, self._joules))

    @property
    def firing_rate(self) -> float:
        """Mean firing rate of what enters the layers that read spikes, weighted by their operations (0-1)."""
        spiking = [x for x in self.layers if x.kind == "spikes"]
        potential = sum(x.potential * x.timesteps for x in spiking)
        return sum(sum(x.additions) for x in spiking) / potential if potential else 0.0

    @property
    def anytime_joules(self) -> list[float]:
        """Energy of stopping after t = 1 … T timesteps."""
        return list(itertools.accumulate(map(sum, zip(*self._joules, strict=True))))

    @property
    def groups(self) -> dict[str, float]:
        """Joules of each group of layers, in the order they run."""
        totals: dict[str, float] = {}
        for layer, joules in zip(self.layers, self._joules, strict=True):
            totals[layer.group] = totals.get(layer.group, 0.0) + sum(joules)
        return totals

    def rows(self) -> list[dict[str, Any]]:
        total = self.total_joules or 1.0
        return [
            {
                "name": x.name,
                "group": x.group,
                "kind": x.kind,
                "input_shape": list(x.input_shape),
                "operations": x.potential,
                "firing_rate": x.rate,
                "firing_rate_per_timestep": list(x.rates),
                "additions": sum(x.additions),
                "joules": sum(joules),
                "share": sum(joules) / total,
            }
            for x, joules in zip(self.layers, self._joules, strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        return {
            "total_joules": self.total_joules,
            "firing_rate": self.firing_rate,
            "convention": self.convention,
            "samples": self.samples,
            "groups": self.groups,
            "anytime_joules": self.anytime_joules,
            "rows": self.rows(),
        }

    def to_markdown(self) -> str:
        lines = [
            "| layer | kind | input | operations | firing rate | joules | share |",
            "|---|---|---|--:|--:|--:|--:|",
        ]
        for row in self.rows():
            shape = "x".join(map(str, row["input_shape"]))
            rate = "" if row["kind"] == "analog" else f"{row['firing_rate']:.4f}"
            lines.append(
                f"| {row['name']} | {row['kind']} | {shape} | {row['operations']:.3g} | {rate} | {row['joules']:.3g}"
                f" | {100 * row['share']:.1f} % |"
            )
        lines.append(f"| **total** | {self.convention} | | | {self.firing_rate:.4f} | **{self.total_joules:.4g}** | |")
        return "\n".join(lines)
