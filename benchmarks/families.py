"""One meter over all published sizes: what each costs at one firing rate, and the rate its published energy implies.

    python benchmarks/families.py [pattern] [--write]

Every network is the one of ``conf/model`` at 224², without weights: its operations are exact, its firing rate is
assumed. An integer neuron of D levels at rate r gives D r spikes, one virtual step each. ``--write`` puts the table
into docs/families.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

import doc_table
import torch
from hydra.utils import instantiate

from spikefront.config import compose
from spikefront.planning.prediction import counted, rehearsed

RATE = 0.2


@dataclass(frozen=True)
class Published:
    """A size as its authors report it: energy in millijoules, None where no source is at hand."""

    model: str
    timesteps: int = 4
    energy: float | None = None
    levels: int = 1
    overrides: tuple[str, ...] = ()


SIZES = (
    Published("sdt_8_384", energy=3.90),
    Published("sdt_8_512", energy=4.50),
    Published("sdt_8_768", energy=6.09),  # at 288²
    Published("spikformer_8_384", energy=7.73),
    Published("spikformer_6_512"),
    Published("spikformer_8_512", energy=11.58),
    Published("spikformer_10_512"),
    Published("spikformer_8_768", energy=21.48),
    Published("spikingformer_8_384", energy=4.69),
    Published("spikingformer_8_512", energy=7.46),
    Published("spikingformer_8_768", energy=13.68),
    Published("metaspikformer_8_256", 1),
    Published("metaspikformer_8_384", 1, 7.80),
    Published("metaspikformer_8_384", 4, 32.80),
    Published("metaspikformer_8_512", 4, 52.40, overrides=("model.second_head=spikes",)),
    Published("qkformer_10_384", energy=15.13),
    Published("qkformer_10_512", energy=21.99),
    Published("qkformer_10_768", 1, 8.52),
    Published("qkformer_10_768", energy=38.91),
    Published("ms_qkformer_10_384", energy=5.52),
    Published("ms_qkformer_10_768", 1, 6.79),
    Published("maxformer_10_384", energy=4.89),
    Published("maxformer_10_512", 1, 2.50),
    Published("maxformer_10_512", energy=7.49),
    Published("maxformer_10_768", 1, 5.27),
    Published("maxformer_10_768", energy=14.87),
    Published("spikingresformer_ti", energy=2.46),
    Published("spikingresformer_s"),
    Published("spikingresformer_m", energy=5.46),
    Published("spikingresformer_l"),
    Published("statten_8_512"),
    Published("statten_8_768"),
    Published("e_spikeformer_5m", 1, levels=4),
    Published("e_spikeformer_10m", 1, levels=4),
    Published("e_spikeformer_19m", 1, 5.9, levels=4),
    Published("e_spikeformer_83m", 1, 30.90, levels=8, overrides=("model.second_head=spikes",)),
    Published("e_spikeformer_171m", 1, 54.70, levels=8, overrides=("model.second_head=spikes",)),
)
HEADER = (
    "| network | T | parameters, M | operations, G | energy, mJ | neuromorphic, mJ | published, mJ | rate it implies"
    " | neuromorphic there, mJ |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|"
)


class Priced:
    """What one size does, and its energy as a function of the firing rate, which is a straight line."""

    def __init__(self, size: Published) -> None:
        alike = ("data=imagenet", "data.batch_size=1", "trainer=cpu", "trainer.precision=32-true")
        cfg = compose([f"model={size.model}", *alike, f"model.timesteps={size.timesteps}", *size.overrides])
        with torch.device("meta"):
            model = instantiate(cfg.model)
        self.parameters = sum(p.numel() for p in model.parameters())
        real = rehearsed(model, cfg).real
        self._lines = {}
        for convention in ("paper", "neuromorphic"):
            cost = compose([f"energy={convention}"]).energy
            cfg.energy = cost
            ends = [counted(model, cfg, rate, real) for rate in (0.0, 1.0)]
            silent, full = (report.total_joules * 1e3 for report in ends)
            self._lines[convention] = silent, (full - silent) * size.levels
        layers = [x for x in ends[1].layers if x.kind not in ("neuron", "pool")]
        self.operations = sum(x.potential * x.timesteps for x in layers)

    def energy(self, convention: str, rate: float) -> float:
        """Millijoules an image at ``rate`` spikes a neuron and (virtual) step."""
        silent, slope = self._lines[convention]
        return silent + slope * rate

    def rate(self, energy: float) -> float:
        """At which rate ``paper`` gives ``energy``; below 0 where what is multiplied alone costs more."""
        silent, slope = self._lines["paper"]
        return (energy - silent) / slope


def row(size: Published) -> str:
    priced = Priced(size)
    steps = f"{size.timesteps} x {size.levels}" if size.levels > 1 else str(size.timesteps)
    cells = [f"`{size.model}`", steps, f"{priced.parameters / 1e6:.2f}", f"{priced.operations / 1e9:.1f}"]
    cells += [f"{priced.energy(c, RATE):.2f}" for c in ("paper", "neuromorphic")]
    if size.energy is None:
        return f"| {' | '.join([*cells, '', '', ''])} |"
    rate = priced.rate(size.energy)
    there = f"{priced.energy('neuromorphic', rate):.2f}" if rate >= 0 else "–"
    return f"| {' | '.join([*cells, f'{size.energy:.2f}', f'{rate:.3f}' if rate >= 0 else 'none', there])} |"


def table(pattern: str = "*") -> str:
    return "\n".join([HEADER, *(row(size) for size in SIZES if fnmatchcase(size.model, pattern))])


if __name__ == "__main__":
    doc_table.run(__doc__, "families.md", table)
