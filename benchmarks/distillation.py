"""What a teacher gives a small network on the digits, beside the same network's own training, seed by seed.

    python benchmarks/distillation.py                        # minutes on one core
    python benchmarks/distillation.py unlabelled own soft    # some of the ways
    python benchmarks/distillation.py labelled --seeds 3

``unlabelled``: one image in ten has a label, 143 of 1,437. The teacher, a larger network, learned these alone; so does
the student by its own training, and in the ways that learn ``labelled images``. The others learn the teacher's answers
to 1,293 images, and no label (``teacher.alpha=1``). ``all labels`` is what the student learns from as many labels.

``labelled``: teacher and student have the labels of all images, and answers are learned beside them.

Every training of a case takes as many steps, with the defaults of ``data=digits`` but for what stands here; nothing is
chosen on a validation part, so the last epoch's network counts, the teacher's too. The ways were chosen on seeds 10 to
12, or taken from the literature. Accuracy is of the test part; ``gain`` is the mean over seeds of the difference from
the same seed's own training, beside its smallest.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from spikefront.config import compose, override
from spikefront.training import Result, train

COMMON = ["data=digits", "trainer=cpu", "logger=none", "neuron.threshold=0.5", "+trainer.check_val_every_n_epoch=1000"]
SOFT = ["loss=distillation", "teacher.hard=false"]
FEW = ["data.val_fraction=0.9", "trainer.max_epochs=200"]  # 2 batches an epoch; of all images 20, in 20 epochs


class Case(NamedTuple):
    """Settings of the teacher, of all students, and of the ways to train them."""

    teacher: list[str]
    student: list[str]
    ways: dict[str, list[str]]


CASES = {
    "unlabelled": Case(
        ["model=sdt_1_64", "model.timesteps=4", *FEW],
        ["model=sdt_1_32", "model.timesteps=2"],
        {
            "own": FEW,
            "soft": [*SOFT, "teacher.alpha=1", "teacher.tau=2"],
            "hard": ["loss=distillation", "teacher.alpha=1"],
            "labelled images, soft": [*FEW, *SOFT, "teacher.tau=2"],
            "all labels": [],
        },
    ),
    "labelled": Case(
        ["model=sdt_1_64", "model.timesteps=2"],
        ["model=sdt_1_16", "model.timesteps=1", "data.shift=0"],
        {
            "own": [],
            "hard": ["loss=distillation"],
            "soft": [*SOFT, "teacher.alpha=0.9", "teacher.tau=4"],
            "soft, rates": [*SOFT, "teacher.alpha=0.9", "teacher.tau=4", "teacher.rate_weight=1"],
        },
    ),
}


def trained(directory: Path, *overrides: str) -> Result:
    return train(compose([*COMMON, *overrides, override("output_dir", str(directory))]))


def taught(case: Case, directory: Path) -> tuple[Result, str]:
    """The teacher's result, and its last epoch as a setting of its students."""
    result = trained(directory, *case.teacher, "~callbacks.progress", "~callbacks.best")
    return result, override("teacher.checkpoint", str(directory / "checkpoints" / "last.ckpt"))


def accuracies(case: Case, way: str, teacher: str, seeds: Iterable[int], directory: Path) -> list[float]:
    """Test accuracy of the student trained in that way from each seed."""
    of = [*case.student, "callbacks=quiet", *case.ways[way]]
    if "loss=distillation" in of:
        of.append(teacher)
    return [trained(directory / f"{way} {seed}", *of, f"seed={seed}").accuracy for seed in seeds]


def table(teacher: Result, found: dict[str, list[float]]) -> str:
    lines = ["| | test accuracy | spread | gain | smallest |", "|---|--:|--:|--:|--:|"]
    lines.append(f"| teacher, {teacher.parameters:,} parameters | {teacher.accuracy:.3f} | | | |")
    for way, each in found.items():
        gains = [a - b for a, b in zip(each, found["own"], strict=True)]
        more = f"{mean(gains):+.3f} | {min(gains):+.3f}" if way != "own" else " | "
        lines.append(f"| {way} | {mean(each):.3f} | {stdev(each):.3f} | {more} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="?", default="unlabelled", choices=CASES)
    parser.add_argument("ways", nargs="*", help="own is always among them")
    parser.add_argument("--seeds", type=int, default=5, help="2 or more")
    given = parser.parse_args()
    case, found = CASES[given.case], {}
    chosen = ["own", *(way for way in given.ways or case.ways if way != "own")]
    if unknown := set(chosen) - set(case.ways):
        parser.error(f"no way of {given.case}: {', '.join(sorted(unknown))}; there are {', '.join(case.ways)}")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        teacher, setting = taught(case, Path(scratch) / "teacher")
        print("teacher", round(teacher.accuracy, 3), flush=True)
        for way in chosen:
            found[way] = accuracies(case, way, setting, range(given.seeds), Path(scratch))
            print(way, [round(a, 3) for a in found[way]], flush=True)
    print(table(teacher, found))


if __name__ == "__main__":
    main()
