"""What the tables are of: three data sets, and of each one's space configurations, any first n of which are fair."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.stats.qmc import Sobol

from spikefront.sweeping.search.space import Space

CONFIGURATIONS, REPEATED, SEEDS = 512, 128, 3
LATER = 160  # configurations after which a configuration's next seed is due
COMMON = (
    *("trainer=cpu", "threads=1", "logger=none", "callbacks=quiet", "model=sdt_tiny", "model.num_heads=4"),
    *("data.batch_size=64", "data.val_fraction=0.25", "trainer.limit_train_batches=9"),
)
PATCHES = (
    *("data=digits", "data._target_=patches.PhotoPatches", "data.name=patches", "data.channels=3"),
    *("data.num_classes=6", "data.image_size=16", "data.pooling='0110'", "data.train_samples=1248"),
)


@dataclass(frozen=True)
class Set:
    """One table: its trainings' shared overrides, and the most timesteps that are searched.

    Nine epochs of nine batches, so that halving by three has its rungs at 1, 3 and 9, and a training is some seconds.
    """

    name: str
    data: tuple[str, ...]
    epochs: int
    timesteps: int

    @property
    def overrides(self) -> list[str]:
        return [*COMMON, *self.data, f"trainer.max_epochs={self.epochs}"]

    @property
    def entries(self) -> dict[str, Any]:
        """The space in Hydra's grammar, as ``search.space`` has it."""
        return {
            "model.timesteps": f"range(1,{self.timesteps + 1})",
            "model.depth": "range(1,4)",
            "model.dim": "choice(16,24,32,48,64)",
            "model.mlp_ratio": "choice(1,2,4)",
            "neuron": "choice(lif,plif,ilif)",
            "neuron.threshold": "tag(log,interval(0.25,4.0))",
            "neuron.tau": {"values": "tag(log,interval(1.1,8.0))", "when": "neuron != 'ilif'"},
            "optimizer.lr": "tag(log,interval(3e-4,5e-2))",
        }

    @property
    def space(self) -> Space:
        return Space.parse(self.entries)

    @property
    def digest(self) -> str:
        """Of all that a recorded figure depends on beside its configuration and seed."""
        return hashlib.sha256(json.dumps([self.overrides, self.entries]).encode()).hexdigest()[:12]

    def configurations(self) -> list[dict[str, Any]]:
        """Scrambled Sobol points (Owen 1998): the first n of them fill the space evenly, whatever n is."""
        space = self.space
        every = Sobol(len(space), scramble=True, rng=20).random(CONFIGURATIONS)
        found = []
        for row in every.tolist():
            values = {p.key: _at(p.distribution, share) for p, share in zip(space, row, strict=True)}
            found.append({key: values[key] for key in space.active(values)})
        return found

    def jobs(self) -> list[tuple[int, int]]:
        """Configurations' numbers and seeds in the order in which they are trained."""
        seeds = [(n, s) for s in range(SEEDS) for n in range(CONFIGURATIONS if s == 0 else REPEATED)]
        return sorted(seeds, key=lambda job: (job[0] + LATER * job[1], job[1]))


def _at(distribution: BaseDistribution, share: float) -> Any:
    """The value with this share of a parameter's range below it."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(share * len(distribution.choices))]
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high = distribution.low, distribution.high
    if isinstance(distribution, IntDistribution):
        return low + int(share * (high - low + 1))
    if distribution.log:
        return float(f"{math.exp(math.log(low) + share * math.log(high / low)):.6g}")
    return float(f"{low + share * (high - low):.6g}")


SETS = {
    s.name: s
    for s in (
        Set("digits", ("data=digits",), epochs=9, timesteps=4),
        Set("digits_dvs", ("data=digits_dvs",), epochs=9, timesteps=4),
        Set("patches", PATCHES, epochs=9, timesteps=4),
    )
}
