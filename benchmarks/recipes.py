"""What the settings of published recipes that do nothing in their authors' code would do: on against off, in small.

    python benchmarks/recipes.py [comparison ...] [--seeds 3] [--workers 2] [--json FILE] [--list]

A comparison trains one network from the same seeds with and without one setting, on the digits or on the digits before
a simulated event camera, and reports the mean over seeds of the differences in test accuracy and energy (on less off,
last epoch, trained on all but the test part) with Student's 95 % interval. `*` in a comparison's name stands for any.
Each training computes on one thread; FILE (`build/recipes.jsonl`) gets a line a training, and the same command goes on
where it was stopped. The network and the sets are small and three seeds few: an interval around nothing says that no
effect showed here, not that there is none on ImageNet.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import multiprocessing
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]

from spikefront.analysis.confidence import half_width  # noqa: E402
from spikefront.data import DigitsDVS  # noqa: E402
from spikefront.data.cache import Recording  # noqa: E402

EPOCHS, OFF = 10, 7  # mixup's end comes as early as epoch 200 of 310
EVERY = (
    "model=sdt_2_32",
    "trainer=cpu",
    "threads=1",
    "logger=none",
    "callbacks=quiet",
    "data.val_fraction=0",
    "data.batch_size=32",
    "optimizer.lr=5e-3",
    "schedule.interval=epoch",
    f"trainer.max_epochs={EPOCHS}",
    f"+trainer.check_val_every_n_epoch={2 * EPOCHS}",
)
MIXUP = (
    "+data.mixup._target_=timm.data.Mixup",
    "+data.mixup.mixup_alpha=0.5",
    "+data.mixup.prob=1.0",
    "+data.mixup.label_smoothing=0.1",
    "+data.mixup.num_classes=${data.num_classes}",
)
IMAGES = ("data=digits", "data.timesteps=2", *MIXUP)  # as V1 on CIFAR
EVENTS = ("data=digits_dvs", "data.timesteps=3", "data.augmentation.roll=0", "data.drop_last=false")  # as V1 on events
PLAIN = (*EVENTS, "loss.label_smoothing=0.1")
MIXED = (*MIXUP, "loss.label_smoothing=0")
TWINS = (*PLAIN, "data._target_=recipes.Twins", "data.name=twins", "data.num_classes=11")
TWO = ("trainer=ddp_cpu", "data.batch_size=8", "trainer.effective_batch=16")
COOL = (f"trainer.max_epochs={EPOCHS + 1}", "schedule.cooldown_epochs=1")
END = (f"+data.mixup_off_epoch={OFF}",)
DROP = ("model.drop_path=0.2",)
HALF = ("trainer.precision=bf16-mixed",)
FLIP = ("+data.augmentation.flip=0.5",)
SYNC, OWN = ("trainer.sync_batchnorm=true",), ("trainer.sync_batchnorm=false",)


@dataclass(frozen=True)
class Comparison:
    """``on`` and ``off`` are added to ``base``."""

    name: str
    setting: str
    base: tuple[str, ...]
    on: tuple[str, ...]
    off: tuple[str, ...] = ()


COMPARISONS = (
    Comparison("digits/mixup-end", f"mixup's end at epoch {OFF} of {EPOCHS}", IMAGES, END),
    Comparison("digits/repeats", "three repeated augmentations", IMAGES, ("+data.repeats=3",)),
    Comparison("digits/drop-path", "drop path 0.2", IMAGES, DROP),
    Comparison("digits/cooldown", "one more epoch at the least rate", IMAGES, COOL),
    Comparison("digits/sync-bn", "sync BN, 2 processes of 8", (*IMAGES, *TWO), SYNC, OWN),
    Comparison("digits_dvs/flip", "flips", PLAIN, FLIP),
    Comparison("twins/flip", "flips, classes that mirror each other", TWINS, FLIP),
    Comparison("digits_dvs/mixup", "mixup", PLAIN, MIXED),
    Comparison("digits_dvs/mixup-end", f"mixup's end at epoch {OFF} of {EPOCHS}", (*PLAIN, *MIXED), END),
    Comparison("digits_dvs/drop-path", "drop path 0.2", PLAIN, DROP),
    Comparison("digits_dvs/cooldown", "one more epoch at the least rate", PLAIN, COOL),
    Comparison("digits_dvs/half-inputs", "half inputs under bfloat16", (*PLAIN, *HALF), ("+data.half_inputs=true",)),
    Comparison("digits_dvs/roll", "rolls of up to a pixel", PLAIN, ("data.augmentation.roll=1",)),
)  # fmt: skip


class Twins(DigitsDVS):
    """Digits before an event camera in eleven classes, of which, as in DVS128 Gesture, three pairs are each other's
    mirror image: 2, 4 and 7, each second one mirrored. 3 and 5 are left out."""

    def recordings(self) -> Sequence[Recording]:
        plain = {0: 0, 1: 1, 6: 2, 8: 3, 9: 4}
        pairs = {2: 5, 4: 7, 7: 9}
        kept = []
        for index, recording in enumerate(super().recordings()):
            if recording.label in plain:
                kept.append(replace(recording, label=plain[recording.label]))
            elif recording.label in pairs:
                label = pairs[recording.label] + index % 2
                read = mirrored(recording.read, self.sensor[0]) if index % 2 else recording.read
                kept.append(replace(recording, label=label, read=read))
        return kept


def mirrored(read: Callable[[], np.ndarray], width: int) -> Callable[[], np.ndarray]:
    def reading() -> np.ndarray:
        events = read().copy()
        events["x"] = width - 1 - events["x"]
        return events

    return reading


@dataclass(frozen=True)
class Training:
    seed: int
    overrides: tuple[str, ...]

    @property
    def name(self) -> str:
        return " ".join((*self.overrides, f"seed={self.seed}"))


def trained(training: Training) -> dict[str, float | str]:
    """One training, here."""
    from spikefront.config import compose
    from spikefront.training import train

    with tempfile.TemporaryDirectory() as directory, open(os.devnull, "w") as nowhere:
        stdout, sys.stdout = sys.stdout, nowhere
        try:
            cfg = compose([*EVERY, *training.overrides, f"seed={training.seed}", f"output_dir={directory}"])
            result = train(cfg)
        finally:
            sys.stdout = stdout
    return {
        "training": training.name,
        "accuracy": result.accuracy,
        "energy": result.energy_joules,
        "samples": result.samples,
        "seconds": result.seconds,
    }


def measured(path: Path) -> dict[str, dict]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {row["training"]: row for row in map(json.loads, lines)}


def measure(wanted: Sequence[Training], workers: int, path: Path) -> None:
    """Train what the file lacks, in order, each worker one at a time."""
    known = measured(path)
    left = [t for t in wanted if t.name not in known]
    path.parent.mkdir(parents=True, exist_ok=True)
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])  # of the second process, where a training has two
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(trained, t) for t in left]
        try:
            for number, done in enumerate(as_completed(waiting), 1):
                row = done.result()
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                told = f"{row['accuracy']:.4f} {row['seconds']:.0f} s  {row['training']}"
                print(f"{number}/{len(left)}  {told}", file=sys.stderr, flush=True)
        except BaseException:  # nothing more is begun
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def pairs(comparison: Comparison, seeds: int) -> Iterator[tuple[Training, Training]]:
    for seed in range(seeds):
        on, off = ((*comparison.base, *more) for more in (comparison.on, comparison.off))
        yield Training(seed, on), Training(seed, off)


def row(comparison: Comparison, seeds: int, known: dict[str, dict]) -> str:
    """A table row: accuracy in points of a hundred, energy in per cent of that without the setting."""
    rows = [(known[on.name], known[off.name]) for on, off in pairs(comparison, seeds)]
    accuracies = [100 * (on["accuracy"] - off["accuracy"]) for on, off in rows]
    energies = [100 * (on["energy"] / off["energy"] - 1) for on, off in rows]
    without = 100 * mean(off["accuracy"] for _, off in rows)
    cells = [
        f"{round(mean(v), 1) + 0.0:+.1f}" + (f" ± {half_width(v):.1f}" if seeds > 1 else "")
        for v in (accuracies, energies)
    ]
    each = " ".join(f"{a:+.1f}" for a in accuracies)
    where = comparison.name.split("/")[0]
    return f"| {comparison.setting} | {where} | {without:.1f} | {cells[0]} | {each} | {cells[1]} |"


def processor() -> str:
    """Model and cores of this machine, and what of it float arithmetic depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = told.get("flags", "").split()
    vectors = next((name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in flags), "no AVX2")
    halves = "bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "no bfloat16"
    return f"{told.get('model name', platform.processor())}, {vectors}, {halves}, {os.cpu_count()} cores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("comparisons", nargs="*", default=["*"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where trainings are kept; without it they are forgotten once told")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    chosen = [c for c in COMPARISONS if any(fnmatch.fnmatchcase(c.name, p) for p in arguments.comparisons)]
    if not chosen:
        sys.exit(f"no comparison of that name; there are {', '.join(c.name for c in COMPARISONS)}")
    if arguments.list:
        print("\n".join(f"{c.name}: {c.setting}" for c in chosen))
        return
    path = arguments.json or ROOT / "build" / "recipes.jsonl"
    wanted = list(dict.fromkeys(t for c in chosen for pair in pairs(c, arguments.seeds) for t in pair))
    # those of two processes last, each by itself: the others leave no core for it
    alone = [t for t in wanted if TWO[0] in t.overrides]
    measure([t for t in wanted if t not in alone], arguments.workers, path)
    measure(alone, 1, path)
    known = measured(path)
    seconds = sum(known[t.name]["seconds"] for t in wanted)
    import torch

    print(
        f"sdt_2_32, {EPOCHS} epochs, {arguments.seeds} seeds, {len(wanted)} trainings of {seconds / 60:.0f} minutes in"
        f" all; {processor()}, PyTorch {torch.__version__}\n"
    )
    print("| setting | data | without, % | with it, points | each seed | energy, % |\n|---|---|--:|--:|--:|--:|")
    for comparison in chosen:
        print(row(comparison, arguments.seeds, known))
    if arguments.json is None:
        path.unlink()


if __name__ == "__main__":
    main()
