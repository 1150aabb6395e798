"""Does TPE find less when it is shown the best of a long study and a sample, in place of all its trials?

    python benchmarks/excerpt.py [--trials 1000] [--most 200] [--seeds 8]

A made-up network of seven parameters: accuracy rises with its size, falls with what is off its best, energy is size,
timesteps and firing rate. Each seed is searched twice, with ``sweeps/search/sampler/tpe.yaml`` shown all trials and
shown ``--most`` of them (``sweeping/search/excerpt.py``). Reported: the hypervolume of the front (accuracy from 0.5,
energy in decades up to 1e-4 J) after parts of the trials, the difference within each seed, and processor seconds.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import optuna

from spikefront.analysis.pareto import hypervolume
from spikefront.config import compose
from spikefront.sweeping.search.anytime import Shown
from spikefront.sweeping.search.excerpt import Excerpt
from spikefront.sweeping.search.optuna_internals import take_for_good
from spikefront.sweeping.search.samplers import seeded
from spikefront.sweeping.study import brought

OBJECTIVES = {"accuracy": "maximize", "energy": "minimize"}
PARTS = (0.4, 0.7, 1.0)
optuna.logging.set_verbosity(optuna.logging.WARNING)


def network(trial: optuna.Trial) -> tuple[float, float]:
    """Accuracy and joules."""
    width, depth = trial.suggest_int("width", 16, 1024, log=True), trial.suggest_int("depth", 1, 12)
    timesteps, neuron = trial.suggest_int("timesteps", 1, 8), trial.suggest_categorical("neuron", ["if", "lif", "plif"])
    threshold, decay = trial.suggest_float("threshold", 0.3, 2.0), trial.suggest_float("decay", 0.0, 1.0)
    rate = trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
    size = width * depth
    off = 0.1 * (threshold - 0.9) ** 2 + 0.1 * (decay - 0.6) ** 2 + 0.03 * (math.log10(rate) + 2.5) ** 2
    off += 0.01 * (depth - 2 * math.log2(width / 16) / 1.5) ** 2 / 10 + {"if": 0.03, "lif": 0.0, "plif": 0.01}[neuron]
    accuracy = 0.98 - 0.6 * (size / 16) ** -0.35 - 0.12 / timesteps - off
    spikes = 0.35 * math.exp(-threshold) * (0.6 if neuron == "if" else 1.0)
    return accuracy, 1e-10 * size**1.3 * timesteps * spikes


def search(seed: int, trials: int, most: int | None) -> tuple[list[float], float]:
    """The hypervolume after each part, and the processor's seconds."""
    cfg = compose(["search/sampler=tpe"], root="sweep").search.sampler
    options = {k: v for k, v in cfg.items() if k not in ("_target_", "seed")}
    inner = seeded(optuna.samplers.TPESampler(**options), seed)
    excerpt = None
    if most is not None:
        excerpt = Excerpt(OBJECTIVES, most)
        take_for_good(inner, excerpt.good)
    shown = Shown(inner, OBJECTIVES, brought.candidate, lambda study: [], anytime=False, excerpt=excerpt)
    study = optuna.create_study(directions=list(OBJECTIVES.values()), sampler=shown)
    began, points, volumes = time.process_time(), [], []
    for i in range(trials):
        trial = study.ask()
        accuracy, energy = network(trial)
        study.tell(trial, [accuracy, energy])
        points.append((-accuracy, math.log10(energy)))
        if i + 1 in [round(part * trials) for part in PARTS]:
            volumes.append(hypervolume(points, (-0.5, -4.0)))
    return volumes, time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--most", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=8)
    given = parser.parse_args()
    found: dict[int | None, list[list[float]]] = {None: [], given.most: []}
    for seed in range(given.seeds):
        for most, rows in found.items():
            volumes, cpu = search(seed, given.trials, most)
            rows.append([*volumes, cpu])
            print(
                f"seed {seed}, shown {most or 'all'}: {' '.join(f'{v:.4f}' for v in volumes)}, {cpu:.0f} s", flush=True
            )
    whole, some = (np.array(rows) for rows in found.values())
    for i, part in enumerate(PARTS):
        apart = 100 * (some[:, i] / whole[:, i] - 1)
        error = apart.std(ddof=1) / math.sqrt(len(apart)) if len(apart) > 1 else math.nan
        at = f"after {round(part * given.trials)} trials: all {whole[:, i].mean():.4f}"
        print(f"{at}, {given.most} {some[:, i].mean():.4f}: {apart.mean():+.2f} ± {error:.2f} %")
    print(f"processor: all {whole[:, -1].mean():.0f} s, {given.most} {some[:, -1].mean():.0f} s")


if __name__ == "__main__":
    main()
