"""Why firing rates made with the authors' firing_num.py differ: its four effects, each alone, on a small network.

By what is known of that script (public threads; its code is not here): it adds up a mean a batch under the keys t = 0 …
3, divides by one batch too few, gives a small last batch the weight of a full one, and every rank prints its own share.

python benchmarks/firing_num.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from spikefront.commands.energy import settle  # noqa: E402
from spikefront.config import compose  # noqa: E402
from spikefront.energy import EnergyMeter  # noqa: E402

KEYS = 4  # timesteps that have one
SAMPLES, BATCH, RANKS, STEPS = 21, 8, 2, 6
LAYER = "block.0.mlp.fc1_conv"


def rates(samples: int = SAMPLES, timesteps: int = STEPS, layer: str = LAYER) -> np.ndarray:
    """Firing rates of what enters a layer, ``(T, samples)``; frames grow brighter from sample to sample and in time."""
    torch.manual_seed(0)
    overrides = ["model=sdt_1_16", "data=digits", f"model.timesteps={timesteps}"]
    model = instantiate(compose(overrides).model)
    by_sample, in_time = torch.linspace(0.2, 3, samples), torch.linspace(0.5, 2, timesteps)
    brighter = torch.outer(by_sample, in_time)[..., None, None, None]
    frames = torch.rand(samples, timesteps, 1, 8, 8) * brighter
    settle(model, frames)
    meter = EnergyMeter(model, per_sample=True)
    with torch.inference_mode(), meter.recording():
        model.eval()(frames)
    meter.remove()
    return next(x.rates for x in meter.sample_counts() if x.name == layer)


def mean(each: np.ndarray) -> float:
    """What is meant: every sample and timestep counts once."""
    return float(each.mean())


def one_batch_too_few(each: np.ndarray, batch: int) -> float:
    """Sums over batches, full ones all, divided by their number less one."""
    count = each.shape[1] // batch
    full = each[:, : count * batch]
    return float(sum(part.mean() for part in np.split(full, count, axis=1)) / (count - 1))


def first_keys(each: np.ndarray) -> float:
    """Timesteps without a key are left out."""
    return float(each[:KEYS].mean())


def small_batch_like_a_full_one(each: np.ndarray, batch: int) -> float:
    """A mean over batches, whatever is in them."""
    places = range(batch, each.shape[1], batch)
    return float(np.mean([part.mean() for part in np.split(each, places, axis=1)]))


def one_rank(each: np.ndarray, ranks: int, rank: int) -> float:
    """What one process prints, which sees every ``ranks``-th sample."""
    return float(each[:, rank::ranks].mean())


def together(each: np.ndarray, batch: int, ranks: int, rank: int) -> float:
    """All four at once."""
    own = each[:KEYS, rank::ranks]
    parts = np.split(own, range(batch, own.shape[1], batch), axis=1)
    return float(sum(part.mean() for part in parts) / (len(parts) - 1))


def main() -> None:
    each = rates()
    true, full = mean(each), each[:, : SAMPLES // BATCH * BATCH]
    rows = [
        ("sum divided by one batch too few", mean(full), one_batch_too_few(each, BATCH)),
        ("keys for t < 4 only", true, first_keys(each)),
        ("a last small batch weighed like a full one", true, small_batch_like_a_full_one(each, BATCH)),
        *((f"rank {r} of {RANKS} prints its share", true, one_rank(each, RANKS, r)) for r in range(RANKS)),
        ("all together, rank 0", true, together(each, BATCH, RANKS, 0)),
    ]
    print("| effect | firing rate, every sample once | as the script has it | off by |\n|---|--:|--:|--:|")
    for what, right, wrong in rows:
        print(f"| {what} | {right:.4f} | {wrong:.4f} | {100 * (wrong / right - 1):+.1f} % |")


if __name__ == "__main__":
    main()
