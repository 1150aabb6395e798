"""What the audit finds of every family: the table of docs/audit.md. Small networks with random weights; takes minutes.

python benchmarks/proofs.py [pattern] [--write]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import doc_table
import torch
from hydra.utils import instantiate

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import spikefront  # noqa: E402
from spikefront.config import compose  # noqa: E402

HEADER = "| `model=` | fails | what was found, and where | published code, by its facts |\n|---|---|---|---|"
SAMPLES = 3


@dataclass(frozen=True)
class Family:
    """A small network of a family, and what is known of the authors' code."""

    model: str
    facts: str
    data: str = "digits"
    more: tuple[str, ...] = ("model.dim=32",)

    @property
    def arguments(self) -> list[str]:
        return [f"model={self.model}", f"data={self.data}", *self.more]


IMAGENET = ("data.image_size=64", "model.num_classes=10")
FAMILIES = (
    Family("sdt_1_32", "spike-driven as claimed; heads that do nothing lie in the file", more=()),
    Family(
        "spikformer_cifar", "sums of spikes up to 2 L + 1 enter every projection and count as one; the head reads means"
    ),
    Family(
        "spikingformer",
        "potentials on the shortcut, binary into every layer; the head reads potentials",
        "imagenet",
        ("model.dim=32", *IMAGENET),
    ),
    Family("qkformer_cifar", "one neuron of the last stage runs over T x B (issue 14): 84.2 to 78.7 % at batch 1"),
    Family("maxformer_cifar", "binary into every layer"),
    Family("ms_qkformer", "binary into every layer", "imagenet", ("model.dim=64", *IMAGENET)),
    Family(
        "metaspikformer",
        "no neuron between two convolutions of a separable one: the second multiplies",
        "imagenet",
        ("model.dim=32", *IMAGENET),
    ),
    Family(
        "spikingresformer_cifar",
        "running firing rates scale the attention; stem and classifier are left out of its energy",
    ),
    Family(
        "e_spikeformer_event", "memory never passes from frame to frame; D levels are D virtual steps", "digits_dvs"
    ),
    Family(
        "statten_2_256",
        "attention over two steps at once: an odd step sees the next",
        more=("model.dim=32", "model.depth=1"),
    ),
)


def row(family: Family) -> str:
    cfg = compose(family.arguments)
    torch.manual_seed(0)
    model, size = instantiate(cfg.model), int(cfg.data.image_size)
    shape = [SAMPLES, *([cfg.model.timesteps] if cfg.data.event_mode else []), cfg.data.channels, size, size]
    found = spikefront.audit(model, torch.rand(shape, generator=torch.Generator().manual_seed(0)))
    failed = ", ".join(finding.check for finding in found.failed) or "none"
    said = [
        f"{finding.check}: {finding.cells()[2]} ({finding.cells()[3] or 'the network'})" for finding in found.failed
    ]
    command = " ".join([family.model, *(f"{argument}" for argument in family.arguments[1:])])
    return f"| `{command}` | {failed} | {'; '.join(said).replace('|', '/')} | {family.facts} |"


def table(pattern: str = "*") -> str:
    return "\n".join([HEADER, *(row(family) for family in FAMILIES if fnmatchcase(family.model, pattern))])


if __name__ == "__main__":
    torch.set_num_threads(1)
    doc_table.run(__doc__, "audit.md", table)
