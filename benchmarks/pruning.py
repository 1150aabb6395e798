"""What pruning with two objectives saves and costs, replayed on recorded training curves.

    python benchmarks/pruning.py                                                   # replay what is stored
    python src/sweep.py -m hparams_search=curves search.study=digits               # train the configurations again,
    python benchmarks/pruning.py record outputs/studies digits                     # and store their curves

The curves of digits_dvs were trained with data=digits_dvs 'model.dim=choice(16,32)' 'model.timesteps=choice(1,2,3)'
trainer.max_epochs=6.

Baseline: the same configurations, all trained to the end. Reported over 50 random orders: the share of the
training epochs spent, and the share of the full front's hypervolume (anytime points included, reference accuracy 0 and
the largest energy) that the trials which were not stopped reach.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from spikefront.sweeping.pareto import hypervolume
from spikefront.sweeping.pruning import FrontPruner

CURVES = Path(__file__).parent / "curves"
ORDERS = 50


def record(directory: str, name: str) -> None:
    """Store the curves of a finished study as ``benchmarks/curves/<name>.json.gz``."""
    from spikefront.sweeping import study as studies
    from spikefront.sweeping.records import records

    study, _ = studies.load({"dir": directory, "study": name})
    trials = [t for t in records(study)["trials"] if t["state"] == "complete" and t["curve"]]
    plain = [{"params": t["params"], "curve": t["curve"]} for t in trials]
    CURVES.mkdir(exist_ok=True)
    with gzip.GzipFile(CURVES / f"{name}.json.gz", "wb", mtime=0) as file:
        file.write(json.dumps(plain).encode())
    print(f"{len(plain)} curves stored")


def replay(curves: list[dict[int, dict]], pruner: FrontPruner, order: np.ndarray) -> tuple[int, list[int]]:
    """Epochs spent and the trials that ran to their end."""
    epochs, finished, kept = 0, [], []
    for i in order:
        curve = curves[i]
        for epoch in curve:
            epochs += 1
            if epoch < len(curve) and pruner.reason({e: p for e, p in curve.items() if e <= epoch}, finished):
                break
        else:
            finished.append((curve, [tuple(p) for p in curve[max(curve)]["anytime"]]))
            kept.append(i)
    return epochs, kept


def main() -> None:
    for path in sorted(CURVES.glob("*.json.gz")):
        stored = json.loads(gzip.decompress(path.read_bytes()))
        curves = [{p["epoch"]: p for p in t["curve"]} for t in stored]
        points = [[(-a, e) for a, e in c[max(c)]["anytime"]] for c in curves]
        reference = (0.0, max(e for trial in points for _, e in trial) * 1.001)
        full = hypervolume([p for trial in points for p in trial], reference)
        total = sum(map(len, curves))
        print(f"{path.stem.removesuffix('.json')}: {len(curves)} configurations, {total} epochs, {ORDERS} orders")
        print("| confidence | epochs spent, median (5-95 %) | hypervolume kept, median | worst |\n|--:|--:|--:|--:|")
        for confidence in (0.5, 0.7, 0.8, 0.9, 0.95, 0.99):
            spent, kept = [], []
            for seed in range(ORDERS):
                order = np.random.default_rng(seed).permutation(len(curves))
                epochs, ends = replay(curves, FrontPruner(confidence=confidence), order)
                spent.append(epochs / total)
                kept.append(hypervolume([p for i in ends for p in points[i]], reference) / full)
            low, middle, high = np.quantile(spent, [0.05, 0.5, 0.95])
            print(
                f"| {confidence} | {middle:.1%} ({low:.1%} - {high:.1%}) | {np.median(kept):.2%} | {min(kept):.2%} |",
                flush=True,
            )


if __name__ == "__main__":
    record(*sys.argv[2:4]) if sys.argv[1:2] == ["record"] else main()
