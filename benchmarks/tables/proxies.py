"""What is known of a network before it trains, and how well that ranks what recorded trainings came to.

    python benchmarks/tables/proxies.py [digits …] [--raw DIR] [--configurations 256]

Ranks (Spearman) of each figure with final validation accuracy and joules; of accuracy also partial, given operations,
and among those alone that came to something. Figures:

- operations: that there would be if every neuron fired (what AutoST takes for accuracy, arXiv 2307.00293), parameters;
- of the batch before the first step, as recorded: firing rate, dead and saturated share, what logits differ by between
  samples, by classes, and the loss; operations times firing rate (AutoST's energy, from activation patterns);
- joules of a network as it is made, fed with noise instead of a batch (``spikefront.planning.untrained``);
- patterns: the log-determinant of how alike a batch's samples fire in an untrained network, by Hamming distance, as
  it is (NASWOT, arXiv 2006.04647) and by the distance that equal rates would have by chance (arXiv 2201.10355).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
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
from spikefront.planning import untrained  # noqa: E402

BATCH = 64
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


def unlike(of: Set, runs: list[dict[str, Any]]) -> np.ndarray:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["digits"], choices=list(SETS))
    parser.add_argument("--raw", type=Path, default=DEFAULT_RAW, metavar="DIR")
    parser.add_argument("--configurations", type=int, default=256)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.names:
        every = sorted(known(SETS[name], given.raw).values(), key=lambda r: r["number"])
        runs = [r for r in every if r["seed"] == 0 and r["early"] and not r["failed"]][: given.configurations]
        accuracy, joules = np.array([r["epochs"][-1]["anytime"][-1] for r in runs]).T
        bad = np.array([nothing(r, CLASSES[name]) for r in runs])
        operations = np.array([sum(r["operations"].values()) for r in runs])
        figures = {"operations": operations, "parameters": np.array([r["parameters"] for r in runs])}
        figures |= {k: np.array([read(r["early"][0]) for r in runs]) for k, read in EARLY.items()}
        figures["operations times firing rate"] = operations * figures["firing rate"]
        compose = Composer(SETS[name].overrides)
        noise = [untrained(compose(SETS[name].space.overrides(r["params"]))) for r in runs]
        figures["joules, fed with noise"] = np.array([report.total_joules for report in noise])
        alike = rank(np.array([report.firing_rate for report in noise]), figures["firing rate"])
        figures["patterns"], figures["patterns, by chance"] = unlike(SETS[name], runs).T
        print(f"\n{name}: {len(runs)} configurations, {bad.sum()} of which came to nothing")
        print(f"firing rates of untrained networks fed with noise rank as those of the first batch by {alike:.3f}\n")
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
