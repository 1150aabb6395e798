"""What pruning with two objectives saves and costs, replayed on recorded training curves.

    python benchmarks/pruning.py                                                   # replay what is stored
    python benchmarks/pruning.py digits 50                                         # one set, 50 orders
    python src/sweep.py -m hparams_search=curves search.study=digits               # train the configurations again,
    python benchmarks/pruning.py record outputs/studies digits                     # and store their curves

The curves of digits_dvs were trained with data=digits_dvs 'model.dim=choice(16,32)' 'model.timesteps=choice(1,2,3)'
trainer.max_epochs=6; those of digits_24 with the same choices, trainer.max_epochs=24 and data.val_fraction=0.3. The
pruner's constants were chosen on digits alone, but for the confidence: see docs/sweeps.md.

Baseline (``none``): the same configurations, all trained to the end. Reported over random orders: the share of its
epochs that is spent; the share of its final hypervolume (anytime points included, reference accuracy 0 and the largest
energy) that the trials which were not stopped reach; and the share of its epochs after which 99 % of it are reached.
Beside it successive halving, and an oracle that knows how a trial ends as soon as it has seen an epoch or two of it.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from spikefront.analysis.front import in_decades
from spikefront.analysis.pareto import hypervolume, non_dominated
from spikefront.sweeping.search.pruning import FrontPruner, Seen, Stop

CURVES = Path(__file__).parent / "curves"
KEPT = 0.99


def record(directory: str, name: str) -> None:
    """Store the curves of a finished study as ``benchmarks/curves/<name>.json.gz``."""
    from spikefront.sweeping.study import study as studies
    from spikefront.sweeping.study.records import records

    study, _ = studies.load({"dir": directory, "study": name})
    trials = [t for t in records(study)["trials"] if t["state"] == "complete" and t["curve"]]
    plain = [{"params": t["params"], "curve": t["curve"]} for t in trials]
    CURVES.mkdir(exist_ok=True)
    with gzip.GzipFile(CURVES / f"{name}.json.gz", "wb", mtime=0) as file:
        file.write(json.dumps(plain).encode())
    print(f"{len(plain)} curves stored")


def replay(trials: list[dict], pruner: Any, order: np.ndarray, workers: int) -> tuple[int, list[tuple[int, int]]]:
    """Epochs spent, and the trials that ran to their end, each with the epochs spent by then.

    Each worker trains an epoch in turn, so that with many a trial is judged by what has ended when it is its turn.
    """
    spent, ended, complete, queue, running = 0, [], [], list(order), []
    while queue or running:
        while queue and len(running) < workers:
            running.append([queue.pop(0), 0])
        for place in list(running):
            place[1] += 1
            spent += 1
            trial, epoch = trials[place[0]], place[1]
            stop = None
            if epoch == len(trial["curve"]):
                ended.append(Seen(trial["params"], trial["curve"], trial["final"]))
                complete.append((place[0], spent))
            elif stop := pruner.judge(trial["params"], {e: trial["curve"][e] for e in range(1, epoch + 1)}, ended):
                known = {e: trial["curve"][e] for e in range(1, epoch + 1)}
                ended.append(Seen(trial["params"], known, stop.outlook, stopped=True))
            if stop or epoch == len(trial["curve"]):
                running.remove(place)
    return spent, complete


class Oracle:
    """Knows after ``epoch`` how a trial will end, and stops it unless the front gains ``tolerance``: no pruner that
    judges trials as they come, and lets every one begin, can be better by much."""

    def __init__(self, trials: list[dict], epoch: int, tolerance: float, reference: tuple[float, float]) -> None:
        self.finals = {id(t["params"]): minimised(t) for t in trials}
        self.epoch, self.tolerance, self.reference = epoch, tolerance, reference

    def judge(self, params: dict, curve: dict, ended: list[Seen]) -> Stop | None:
        if max(curve) < self.epoch:
            return None
        front = [(-a, e) for s in ended if not s.stopped for a, e in s.final]
        before = hypervolume(front, self.reference)
        after = hypervolume(front + self.finals[id(params)], self.reference)
        return Stop("", []) if after - before < self.tolerance * before else None


class Halving:
    """Asynchronous successive halving with several objectives, by rank of non-domination, as the baseline of MO-ASHA
    (arXiv 2106.12639): after 1, 3, 9 … epochs a trial goes on if it is in the best third of what has got there."""

    def __init__(self, third: int = 3, first: int = 1) -> None:
        self.third, self.rungs = third, {first * third**k: [] for k in range(6)}

    def judge(self, params: dict, curve: dict, ended: list[Seen]) -> Stop | None:
        epoch = max(curve)
        if epoch not in self.rungs:
            return None
        there = self.rungs[epoch]
        there.append([(-a, e) for a, e in curve[epoch]["anytime"]])
        better = 0
        left = list(range(len(there)))
        while left:  # one front after the other, each trial by its best point
            points = np.array([p for i in left for p in there[i]])
            owners = np.repeat(left, [len(there[i]) for i in left])
            front = set(owners[non_dominated(points)].tolist())
            if len(there) - 1 in front:
                break
            better += len(front)
            left = [i for i in left if i not in front]
        return None if better < max(1, len(there) / self.third) else Stop("", [])


def minimised(trial: dict) -> list[tuple[float, float]]:
    return [(-a, e) for a, e in trial["final"]]


def without_anytime(trials: list[dict], reference: tuple[float, float]) -> float:
    """The hypervolume of what the trials end at, with all their timesteps: all that a stock sweeper is told."""
    return hypervolume([minimised(t)[-1] for t in trials], reference)


def volume(trials: list[dict], numbers: list[int], reference: tuple[float, float], decades: bool = False) -> float:
    points = np.array([p for i in numbers for p in minimised(trials[i])])
    return hypervolume(*in_decades(points, reference, [1])) if decades else hypervolume(points, reference)


def first(trials: list[dict], complete: list[tuple[int, int]], goal: float, reference: tuple[float, float]) -> float:
    """Epochs spent when the hypervolume reaches the goal; infinite if it doesn't."""
    low, high = 0, len(complete) + 1
    while low < high:  # it grows with the trials
        middle = (low + high) // 2
        if middle <= len(complete) and volume(trials, [i for i, _ in complete[:middle]], reference) < goal:
            low = middle + 1
        else:
            high = middle
    return complete[low - 1][1] if 0 < low <= len(complete) else float("inf")


def load(path: Path) -> list[dict]:
    trials = json.loads(gzip.decompress(path.read_bytes()))
    for trial in trials:
        trial["curve"] = {p["epoch"]: p for p in trial["curve"]}
        trial["final"] = [tuple(p) for p in trial["curve"][max(trial["curve"])]["anytime"]]
    return trials


def row(trials: list[dict], name: str, make: Callable[[], Any], workers: int, orders: int) -> str:
    """A table row: medians over random orders."""
    reference = (0.0, max(e for t in trials for _, e in t["final"]) * 1.001)
    full, deep = (volume(trials, list(range(len(trials))), reference, decades) for decades in (False, True))
    total = sum(len(t["curve"]) for t in trials)
    stock = without_anytime(trials, reference)
    spent, kept, cheap, reached, matched = [], [], [], [], []
    for seed in range(orders):
        order = np.random.default_rng(seed).permutation(len(trials))
        epochs, complete = replay(trials, make(), order, workers)
        spent.append(epochs / total)
        kept.append(volume(trials, [i for i, _ in complete], reference) / full)
        cheap.append(volume(trials, [i for i, _ in complete], reference, decades=True) / deep)
        reached.append(first(trials, complete, KEPT * full, reference) / total)
        matched.append(first(trials, complete, stock, reference) / total)
    low, middle, high = np.quantile(spent, [0.05, 0.5, 0.95])
    there, equal = (sorted(r)[len(r) // 2] for r in (reached, matched))
    return (
        f"| {name} | {workers} | {middle:.1%} ({low:.1%} - {high:.1%}) | {np.median(kept):.2%} | {min(kept):.2%} |"
        f" {np.median(cheap):.2%} | {min(cheap):.2%} |"
        f" {f'{there:.1%}' if there <= 1 else '-'} | {np.mean(np.isfinite(reached)):.0%} |"
        f" {f'{equal:.1%}' if equal <= 1 else '-'} | {np.mean(np.isfinite(matched)):.0%} |"
    )


def main(names: list[str], orders: int) -> None:
    for path in sorted(CURVES.glob("*.json.gz")):
        name = path.name.removesuffix(".json.gz")
        if names and name not in names:
            continue
        trials = load(path)
        total = sum(len(t["curve"]) for t in trials)
        reference = (0.0, max(e for t in trials for _, e in t["final"]) * 1.001)
        print(f"\n{name}: {len(trials)} configurations, {total} epochs, {orders} orders\n")
        print(
            "| pruner | workers | epochs spent, median (5-95 %) | hypervolume kept, median | worst | in decades | worst"
            f" | epochs that reach {KEPT:.0%} | orders that do | epochs that reach stock's | orders that do |"
            "\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
        )
        print(row(trials, "none", Everything, 1, orders), flush=True)
        print(row(trials, "halving by rank, rungs 1, 3, 9 …", Halving, 1, orders), flush=True)
        for confidence in (0.7, 0.8, 0.9, 0.95):
            for workers in (1, 8) if confidence >= 0.9 else (1,):
                make = partial(FrontPruner, confidence=confidence)
                print(row(trials, f"front, confidence {confidence}", make, workers, orders), flush=True)
        for epoch in (1, 2):
            make = partial(Oracle, trials, epoch, FrontPruner().tolerance, reference)
            print(row(trials, f"oracle after epoch {epoch}", make, 1, orders), flush=True)


class Everything:
    """Stops nothing."""

    def judge(self, *_: Any) -> None:
        return None


if __name__ == "__main__":
    if sys.argv[1:2] == ["record"]:
        record(*sys.argv[2:4])
    else:
        main([a for a in sys.argv[1:] if not a.isdigit()], next((int(a) for a in sys.argv[1:] if a.isdigit()), 20))
