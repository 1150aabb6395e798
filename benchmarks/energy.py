"""What the energy meter costs, and what training for energy gains.

python benchmarks/energy.py overhead     # share of a training epoch that counting takes, paired in one run
python benchmarks/energy.py penalty      # accuracy and energy on digits with and without loss.energy_weight
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from spikefront.config import compose  # noqa: E402


def penalty(epochs: int, seeds: int) -> None:
    """Train sdt_tiny on digits under several weights and one budget; print one line a run."""
    from spikefront.training import train

    print("| loss | seed | test accuracy | energy, µJ | firing rate |\n|---|--:|--:|--:|--:|", flush=True)
    settings = [[], *([f"loss.energy_weight={w}"] for w in (0.5, 2.0, 8.0)), ["loss.energy_budget=0.6e-6"]]
    for seed in range(seeds):
        for extra in settings:
            with tempfile.TemporaryDirectory() as output:
                common = ["callbacks=quiet", "logger=none", "trainer=cpu", f"trainer.max_epochs={epochs}"]
                cfg = compose([*common, *extra, f"seed={seed}", f"output_dir={output}"])
                r = train(cfg)
            name = extra[0] if extra else "cross-entropy alone"
            print(
                f"| {name} | {seed} | {r.accuracy:.4f} | {r.energy_joules * 1e6:.3f} | {r.firing_rate:.4f} |",
                flush=True,
            )


def overhead(pairs: int) -> None:
    """Time the same passes with the meter counting and not, alternating; weigh them as an epoch does."""
    import spikefront
    from spikefront.energy import EnergyMeter

    print("| model | training step | counted | evaluation pass | counted | share of an epoch (1 in 10 counted) |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, data, batch in (("sdt_tiny", "digits", 64), ("sdt_2_256", "cifar10", 8), ("sdt_8_384", "imagenet", 1)):
        model = spikefront.create_model(name, data=data)
        side = {"digits": 8, "cifar10": 32, "imagenet": 224}[data]
        x = torch.rand(batch, model.in_channels, side, side)
        meter = EnergyMeter(model)
        meter.survey(x)
        times: dict[tuple[str, bool], list[float]] = {}
        for _ in range(pairs + 1):
            for counting in (False, True):
                for kind in ("train", "eval"):
                    model.train(kind == "train")
                    if counting:
                        meter.start()
                    started = time.perf_counter()
                    with torch.set_grad_enabled(kind == "train"):
                        y = model(x)
                        if kind == "train":
                            y.sum().backward()
                    times.setdefault((kind, counting), []).append(time.perf_counter() - started)
                    meter.stop()
        # the first pair warms up; ratios of neighbours cancel what else the machine does
        ratio = {
            k: statistics.median(b / a for a, b in zip(times[k, False][1:], times[k, True][1:], strict=True)) - 1
            for k in ("train", "eval")
        }
        base = {k: statistics.median(times[k, False][1:]) for k in ("train", "eval")}
        # an epoch: nine parts of training to one of validation, as on digits
        share = (0.9 * base["train"] * ratio["train"] / 10 + 0.1 * base["eval"] * ratio["eval"]) / (
            0.9 * base["train"] + 0.1 * base["eval"]
        )
        print(
            f"| {name} | {base['train'] * 1e3:.0f} ms | {100 * ratio['train']:+.1f} % | {base['eval'] * 1e3:.0f} ms"
            f" | {100 * ratio['eval']:+.1f} % | {100 * share:+.2f} % |",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["overhead", "penalty"])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=15)
    options = parser.parse_args()
    if options.what == "overhead":
        overhead(options.pairs)
    elif options.what == "penalty":
        penalty(options.epochs, options.seeds)
