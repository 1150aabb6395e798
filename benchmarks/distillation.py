"""What a teacher gives a small network on the digits: its own training beside ways of learning from one, three seeds.

    python benchmarks/distillation.py                       # minutes on one core
    python benchmarks/distillation.py 3 own "soft, rates"   # seeds, and some of the ways

The teacher (``TEACHER``) and all students train 20 epochs with the defaults of ``data=digits``, students on the images
as they are, so that its answers are kept. A way's settings were taken from the literature and not searched. Accuracy
is of the test part, which nothing is chosen on; ``gain`` is the mean over seeds of the difference from the same seed's
own training, beside its smallest.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from spikefront.config import compose, override
from spikefront.training import Result, train

COMMON = ["data=digits", "trainer=cpu", "callbacks=quiet", "logger=none", "neuron.threshold=0.5"]
TEACHER = ["model=sdt_1_64", "model.timesteps=2"]
STUDENT = ["model=sdt_1_16", "model.timesteps=1", "data.shift=0"]
SOFT = ["loss=distillation", "teacher.hard=false", "teacher.alpha=0.9", "teacher.tau=4"]
WAYS = {
    "own": [],
    "hard": ["loss=distillation"],
    "soft": SOFT,
    "soft, rates": [*SOFT, "teacher.rate_weight=1"],
}


def trained(directory: str, *overrides: str) -> Result:
    return train(compose([*COMMON, *overrides, override("output_dir", directory)]))


def compare(seeds: int, ways: list[str], directory: str) -> str:
    """A table of the ways' accuracies."""
    torch.set_num_threads(1)
    teacher = trained(f"{directory}/teacher", *TEACHER, "callbacks=default", "~callbacks.progress")
    settings = [override("teacher.checkpoint", teacher.checkpoint)]
    found: dict[str, list[float]] = {}
    for way in ways:
        of = [*STUDENT, *WAYS[way], *(settings if WAYS[way] else [])]
        found[way] = [trained(f"{directory}/{seed}", *of, f"seed={seed}").accuracy for seed in range(seeds)]
        print(way, found[way], flush=True)
    lines = ["| | test accuracy | spread | gain | smallest |", "|---|--:|--:|--:|--:|"]
    lines.append(f"| teacher, {teacher.parameters:,} parameters | {teacher.accuracy:.3f} | | | |")
    for way, each in found.items():
        gains = [a - b for a, b in zip(each, found["own"], strict=True)]
        more = f"{mean(gains):+.3f} | {min(gains):+.3f}" if way != "own" else " | "
        lines.append(f"| {way} | {mean(each):.3f} | {stdev(each):.3f} | {more} |")
    return "\n".join(lines)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        number = int(sys.argv[1]) if len(sys.argv) > 1 else 3
        print(compare(number, sys.argv[2:] or ["own", "hard", "soft"], scratch))
