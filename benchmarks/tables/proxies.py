"""What is known of a network before it trains, and how well that ranks what recorded trainings came to.

    python benchmarks/tables/proxies.py [digits …] [--raw DIR] [--configurations 256]
    python benchmarks/tables/proxies.py digits --start [--seeds 8] [--workers 1]    # what a start chosen by them gains

Ranks (Spearman) of each figure with final validation accuracy and joules; of accuracy also partial, given operations,
and among those alone that came to something. Figures:

- operations: that there would be if every neuron fired (what AutoST takes for accuracy, arXiv 2307.00293), parameters;
- of the batch before the first step, as recorded: firing rate, dead and saturated share, what logits differ by between
  samples, by classes, and the loss; operations times firing rate (AutoST's energy, from activation patterns);
- patterns: the log-determinant of how alike a batch's samples fire in an untrained network, by Hamming distance, as
  it is (NASWOT, arXiv 2006.04647) and by the distance that equal rates would have by chance (arXiv 2201.10355).

With ``--start`` our front sampler is replayed as in benchmarks/search.py, its four trials after the default chosen from
32 recorded configurations: at random; of evenly spread operations; of evenly spread operations times firing rate, those
left out that hardly fire in the first batch. Medians of the hypervolume after an eighth, quarter, half and all of the
seconds, in joules and in decades, and in how many seeds the end is higher than after the random start.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from hydra.utils import instantiate
from scipy.stats import rankdata

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "src"), str(HERE.parent), str(HERE)]

from record import DEFAULT_RAW, known  # noqa: E402
from silence import CLASSES, nothing  # noqa: E402
from spaces import SETS, Set  # noqa: E402

from spikefront.config import Composer  # noqa: E402
from spikefront.data import build_data  # noqa: E402
from spikefront.nn.neurons import SpikingNeuron  # noqa: E402

BATCH = 64
POOL, PLACES = 32, (0.1, 0.4, 0.7, 1.0)  # configurations that are looked at, and which in order of a figure are taken
AWAKE = 0.0055  # spikes a neuron and timestep in the first batch; with fewer most come to nothing (silence.py)
EARLY = {
    "firing rate": lambda e: e["firing_rate"],
    "dead share": lambda e: e["dead"],
    "saturated share": lambda e: e["saturated"],
    "logits between samples": lambda e: e["logits_between"],
    "logits between classes": lambda e: e["logits_within"],
    "loss": lambda e: e["loss"],
}


def patterns(model: torch.nn.Module, images: torch.Tensor) -> tuple[float, float]:
    """Log-determinants of the samples' likeness: by Hamming distance, and by it as a share of what chance gives."""
    spikes: list[np.ndarray] = []
    hooks = [
        m.register_forward_hook(lambda m, i, out: spikes.append((out.detach() > 0).transpose(0, 1).flatten(1).numpy()))
        for m in model.modules()
        if isinstance(m, SpikingNeuron)
    ]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    plain, weighed = np.zeros((len(images), len(images))), np.zeros((len(images), len(images)))
    for layer in spikes:
        fired = layer.astype(np.float32)
        neurons, rates = fired.shape[1], fired.mean(1)
        apart = (fired @ (1 - fired).T) + ((1 - fired) @ fired.T)
        chance = np.maximum(rates[:, None] * (1 - rates) + (1 - rates[:, None]) * rates, 1e-6)
        plain += neurons - apart
        weighed += neurons - 0.5 * apart / chance
    eye = 1e-3 * np.eye(len(images))
    return tuple(float(np.linalg.slogdet(k / k.diagonal().mean() + eye)[1]) for k in (plain, weighed))  # type: ignore[return-value]


def untrained(of: Set, runs: list[dict[str, Any]]) -> np.ndarray:
    """``patterns`` of each run's network as its seed makes it, of one first batch."""
    compose, found, images = Composer(of.overrides), [], dict[int, torch.Tensor]()
    for run in runs:
        cfg = compose(of.space.overrides(run["params"]))
        timesteps = cfg.model.timesteps
        if timesteps not in images:
            data = build_data(cfg.data, timesteps=timesteps)
            data.prepare_data()
            data.setup("fit")
            torch.manual_seed(0)
            images[timesteps] = next(iter(data.train_dataloader()))[0][:BATCH]
        torch.manual_seed(run["seed"])
        found.append(patterns(instantiate(cfg.model).train(), images[timesteps]))
    return np.array(found)


def rank(x: np.ndarray, y: np.ndarray, given: np.ndarray | None = None) -> float:
    """Spearman's correlation, partial where something is given."""
    columns = [rankdata(v) for v in (x, y)]
    if given is not None:
        line = np.stack([np.ones(len(x)), rankdata(given)], axis=1)
        columns = [v - line @ np.linalg.lstsq(line, v, rcond=None)[0] for v in columns]
    spread = [v.std() for v in columns]
    return float(np.corrcoef(*columns)[0, 1]) if min(spread) > 1e-9 else 0.0


def first(how: str, runs: list[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """The configurations that a search is to begin with."""
    pool = random.Random(seed).sample(runs, POOL)
    if how == "random":
        return [r["params"] for r in pool[: len(PLACES)]]
    rated = how.endswith("rate")
    rate = lambda r: r["early"][0]["firing_rate"] if rated else 1.0
    pool = [r for r in pool if rate(r) > AWAKE]
    pool.sort(key=lambda r: sum(r["operations"].values()) * rate(r))
    return [pool[int(place * (len(pool) - 1))]["params"] for place in PLACES]


def start(name: str, raw: Path, seeds: int, workers: int) -> None:
    """Print what a search comes to by how it begins."""
    import search  # which plays, and imports much

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    table = search.Table.load(name, raw)
    runs, budget = [r for r in table.runs if r["seed"] == 0], 64 * search.mean_seconds(table) / workers
    print(f"\n{name}: {len(table.runs)} runs, {workers} workers, {seeds} seeds\n")
    print("| first four | hypervolume after 12%, 25%, 50%, 100% | in decades | ends higher |\n|---|---|---|---|")
    ends: dict[str, np.ndarray] = {}
    for how in ("random", "operations", "operations times rate"):
        found = np.zeros((seeds, 2, len(search.SHARES)))
        for seed in range(seeds):
            peer = search.ours("search/sampler=front")(table.space, table.epochs, workers, seed)
            for params in first(how, runs, seed):
                search.attributes.enqueue(peer.study, params, how)
            history = vars(search.simulate(peer, search.cache_of(table, seed), workers, budget))
            for place, decades in enumerate((False, True)):
                curve = search.volumes(history, table.worst, table.epochs, True, decades, "at")
                found[seed, place] = [search.at(curve, share * budget) for share in search.SHARES]
        ends[how] = found[..., -1]
        linear, decades = (", ".join(f"{v:.3f}" for v in np.median(found[:, i], 0)) for i in (0, 1))
        higher = (ends[how] > ends["random"]).sum(0)
        print(f"| {how} | {linear} | {decades} | {higher[0]}, {higher[1]} of {seeds} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["digits"], choices=list(SETS))
    parser.add_argument("--raw", type=Path, default=DEFAULT_RAW, metavar="DIR")
    parser.add_argument("--configurations", type=int, default=256)
    parser.add_argument("--start", action="store_true")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.names:
        if given.start:
            start(name, given.raw, given.seeds, given.workers)
            continue
        every = sorted(known(SETS[name], given.raw).values(), key=lambda r: r["number"])
        runs = [r for r in every if r["seed"] == 0 and r["early"] and not r["failed"]][: given.configurations]
        accuracy, joules = np.array([r["epochs"][-1]["anytime"][-1] for r in runs]).T
        bad = np.array([nothing(r, CLASSES[name]) for r in runs])
        operations = np.array([sum(r["operations"].values()) for r in runs])
        figures = {"operations": operations, "parameters": np.array([r["parameters"] for r in runs])}
        figures |= {k: np.array([read(r["early"][0]) for r in runs]) for k, read in EARLY.items()}
        figures["operations times firing rate"] = operations * figures["firing rate"]
        figures["patterns"], figures["patterns, by chance"] = untrained(SETS[name], runs).T
        print(f"\n{name}: {len(runs)} configurations, {bad.sum()} of which came to nothing\n")
        print("| figure | accuracy | given operations | given operations, of those that learn | joules |")
        print("|---|--:|--:|--:|--:|")
        for figure, values in figures.items():
            learn = ~bad
            ranks = (
                rank(values, accuracy),
                rank(values, accuracy, operations),
                rank(values[learn], accuracy[learn], operations[learn]),
                rank(values, joules),
            )
            print(f"| {figure} | " + " | ".join(f"{r:.2f}" for r in ranks) + " |")


if __name__ == "__main__":
    main()
