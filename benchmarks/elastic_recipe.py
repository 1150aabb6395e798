"""What the settings of an elastic training are worth, and how true the accuracies are that its networks inherit.

    python benchmarks/elastic_recipe.py [variant ...] [--data digits] [--seeds 3] [--epochs 16] [--json FILE] [--list]
    python benchmarks/elastic_recipe.py --alone [--data digits]       # the same 40 networks, each trained by itself
    python benchmarks/elastic_recipe.py --table [--data digits]       # what is known so far

Each variant of the recipe trains one elastic network (depth {1,2}, width {16,32,48,64}, T {1,2,4}, threshold 0.4-1.4;
16 epochs, or `--epochs`; one thread) from each seed; then 40 networks of the space, the same for all, are evaluated
with what they inherit, on all images that nobody trained on (a third of the training part and the test part).
Reported: CPU seconds of the training, the networks' mean accuracy, the hypervolume of their front (reference accuracy 0
and the dearest network's energy, energies as they are and in decades), and Kendall's tau between the accuracies that
are inherited and those of the networks trained alone (24 epochs each, one seed). FILE (`build/elastic_recipe.jsonl`)
gets a line a training, and the same command goes on where it was stopped.

No settings of spikefront, but tried here alone: `random` (no smallest network in each step), `norms_sliced` (the
largest network's statistics), and `ordered` (once the largest network has had four epochs alone its channels are sorted
by the weight on them, as Once-for-All does, so that slices get the most important ones).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytorch_lightning as pl

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]

EPOCHS, ALONE, NETWORKS = 16, 24, 40
TIMESTEPS = {"digits": (1, 2, 4), "digits_dvs": (1, 2, 4)}
LARGEST = ["model.depth=2", "model.dim=64", "model.timesteps=4"]
SMALLEST = ["model.depth=1", "model.dim=16", "model.timesteps=1"]
# what differs from the recipe: `elastic` settings, and what is tried here alone
VARIANTS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "distillation_0": {"distillation": 0.0},
    "distillation_1": {"distillation": 1.0},
    "random": {"sandwich": False, "random": 3},
    "random_1": {"random": 1},
    "random_4": {"random": 4},
    "warmup_4": {"warmup_epochs": 4},
    "ordered": {"warmup_epochs": 4, "ordered": True},
    "rates_0": {"rate_weight": 0},
    "rates_10": {"rate_weight": 10},
    "threshold_fixed": {"threshold": 1.0},
    "slopes_none": {"scalars": {}},
    "slopes_T": {"scalars": {"neuron.threshold": 1.0, "model.timesteps": 4.0}},
    "pool_16": {"pool": 16},
    "pool_256": {"pool": 256},
    "norms_1": {"norm_batches": 1, "of": "recipe"},
    "norms_16": {"norm_batches": 16, "of": "recipe"},
    "norms_sliced": {"norm_batches": 0, "of": "recipe"},
}


def base(data: str) -> list[str]:
    own = ["data.val_fraction=0.3", "trainer=cpu", "logger=none", "callbacks.progress=null", "threads=1"]
    return [f"data={data}", *own]


def networks(number: int, seed: int, threshold: float | None = None) -> list[list[str]]:
    """Points of the space, every combination of sizes as often as the others."""
    draw = random.Random(seed)
    sizes = [(d, w, t) for d in (1, 2) for w in (16, 32, 48, 64) for t in (1, 2, 4)]
    draw.shuffle(sizes)
    found = []
    for i in range(number):
        depth, dim, timesteps = sizes[i % len(sizes)]
        own = draw.uniform(0.4, 1.4) if threshold is None else threshold
        found.append(
            [f"model.depth={depth}", f"model.dim={dim}", f"model.timesteps={timesteps}", f"neuron.threshold={own:.3f}"]
        )
    return found


JUDGED = networks(NETWORKS, seed=1)


def train_elastic(data: str, seed: int, epochs: int, directory: str, settings: dict[str, Any]) -> tuple[Path, float]:
    """The elastic checkpoint, and its CPU seconds."""
    from omegaconf import open_dict

    from spikefront.config import Composer
    from spikefront.training import train
    from spikefront.training.supernet import ElasticClassifier

    cfg = Composer(base(data))([*LARGEST, f"trainer.max_epochs={epochs}", f"seed={seed}"])
    settings = {"distillation": 0.5, "rate_weight": 1, "warmup_epochs": 0, "norm_batches": 4, **settings}
    pool = networks(settings.pop("pool", 64), seed=2, threshold=settings.pop("threshold", None))
    sandwich = settings.pop("sandwich", True)
    scalars = settings.pop("scalars", {"neuron.threshold": 1.0})
    warm = settings["warmup_epochs"] if settings.pop("ordered", False) else None
    with open_dict(cfg):
        cfg.output_dir, cfg.callbacks.best = directory, None
        cfg.elastic = {"base": base(data), "largest": LARGEST, "smallest": SMALLEST, "pool": pool, "random": 2}
        cfg.elastic.scalars = scalars
        cfg.elastic.update(settings)
    drawn = ElasticClassifier._drawn
    began = time.process_time()
    with ExitStack() as tried:
        if not sandwich:
            tried.enter_context(patch.object(ElasticClassifier, "_drawn", lambda own, index: drawn(own, index)[1:]))
        train(cfg, [] if warm is None else [Order(data, warm)])
    return Path(directory) / "checkpoints" / "last.ckpt", time.process_time() - began


class Order(pl.Callback):
    """Once, at the given epoch, sorts the largest network's channels by the weight on them; its answers stay."""

    def __init__(self, data: str, epoch: int) -> None:
        self.data, self.epoch = data, epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, module: Any) -> None:
        if trainer.current_epoch != self.epoch:
            return
        import torch
        from hydra.utils import instantiate

        from spikefront.config import Composer

        narrow = instantiate(Composer(base(self.data))([*LARGEST, "model.dim=32"]).model).state_dict()
        state, parameters = module.model.state_dict(keep_vars=True), dict(module.model.named_parameters())
        scaled = {
            (name, axis)
            for name, tensor in state.items()
            for axis, (n, half) in enumerate(zip(tensor.shape, narrow[name].shape, strict=True))
            if n == 2 * half
        }
        weight: dict[int, Any] = {}  # on each channel, by how many there are: those of one number are one stream
        for name, axis in scaled & {(n, a) for n in parameters for a in range(parameters[n].dim())}:
            size = state[name].shape[axis]
            on = state[name].detach().abs().movedim(axis, 0).reshape(size, -1).sum(1)
            weight[size] = weight.get(size, 0) + on / on.mean()
        order = {size: on.argsort(descending=True) for size, on in weight.items()}
        images = next(iter(trainer.val_dataloaders or module.trainer.datamodule.val_dataloader()))[0]
        moments = trainer.optimizers[0].state
        with torch.no_grad():
            was = module.model.eval()(images)
            for name, axis in scaled:
                own = state[name]
                slopes = [p for of in module.slopes.of for n, p in of.items() if n.replace("/", ".") == name]
                for parameter in (own, *slopes):
                    for tensor in (parameter, *moments.get(parameter, {}).values()):
                        if tensor.shape == own.shape:
                            tensor.copy_(tensor.index_select(axis, order[own.shape[axis]]))
            error = (module.model(images) - was).abs().max()
        module.model.train()
        assert error < 1e-3, f"sorting changed the logits by {error}"


def judge(checkpoint: Path, batches: int) -> list[tuple[float, float]]:
    """Accuracy and joules a sample of the judged networks as they inherit, on validation and test part together."""
    import torch
    from omegaconf import open_dict

    from spikefront.config import Composer
    from spikefront.nn.elastic import estimate_norms
    from spikefront.training import Heirs, inheritance

    heirs = Heirs(checkpoint)
    heirs.settings["norm_batches"] = batches
    compose, found = Composer(heirs.settings["base"]), []
    sliced = (lambda model, images: None) if batches == 0 else estimate_norms
    with patch.object(inheritance, "estimate_norms", sliced), tempfile.TemporaryDirectory() as directory:
        for own in JUDGED:
            cfg = compose(own)
            with open_dict(cfg):
                cfg.output_dir = directory
            torch.set_num_threads(1)
            model, validation = heirs.evaluate(cfg)
            tested, samples = test_accuracy(model, heirs, cfg)
            every = validation.samples + samples
            accuracy = (validation.accuracy * validation.samples + tested * samples) / every
            found.append((accuracy, validation.energy_joules))
    return found


def test_accuracy(model: Any, heirs: Any, cfg: Any) -> tuple[float, int]:
    import torch

    right = seen = 0
    with torch.no_grad():
        for images, labels in heirs._of(cfg)[0].test_dataloader():
            right += int((model(images).argmax(-1) == labels).sum())
            seen += len(labels)
    return right / seen, seen


def alone(data: str, place: int) -> dict[str, Any]:
    """One of the judged networks trained by itself."""
    from omegaconf import open_dict

    from spikefront.config import Composer
    from spikefront.training import train

    cfg = Composer(base(data))([*JUDGED[place], f"trainer.max_epochs={ALONE}"])
    began = time.process_time()
    with tempfile.TemporaryDirectory() as directory, open_dict(cfg):
        cfg.output_dir, cfg.callbacks.best = directory, None
        result = train(cfg)
    validation = result.validation
    assert validation is not None
    every = validation.samples + result.samples
    accuracy = (validation.accuracy * validation.samples + result.accuracy * result.samples) / every
    cpu = time.process_time() - began
    return {"place": place, "accuracy": accuracy, "energy": validation.energy_joules, "cpu": cpu}


def volumes(points: list[tuple[float, float]], worst: float) -> tuple[float, float]:
    """Hypervolume with energy as a share of the dearest network's, and in decades below it, a thousandth the least."""
    from spikefront.analysis.pareto import hypervolume

    linear = hypervolume([(-a, e / worst) for a, e in points], (0.0, 1.0))
    decades = hypervolume([(-a, max(np.log10(e / worst), -3.0)) for a, e in points], (0.0, 0.0))
    return linear, decades


def read(file: Path) -> Iterator[dict[str, Any]]:
    if file.is_file():
        for line in file.read_text().splitlines():
            yield json.loads(line)


def table(file: Path, data: str, epochs: int) -> None:
    from scipy.stats import kendalltau

    lines = [r for r in read(file) if r["data"] == data]
    known = {r["place"]: r for r in lines if r["what"] == "alone"}
    print(f"\n{data}: {len(known)} networks trained alone, {sum(r['cpu'] for r in known.values()):.0f} CPU s\n")
    runs: dict[str, list[dict[str, Any]]] = {}
    for r in lines:
        if r["what"] == "elastic" and r.get("epochs", EPOCHS) == epochs:
            runs.setdefault(r["variant"], []).append(r)
    worst = max(e for rs in runs.values() for r in rs for _, e in r["points"])
    print("| variant | seeds | CPU s | mean accuracy | hypervolume | in decades | Kendall's tau |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for variant in VARIANTS:
        rows = []
        for r in runs.get(variant, []):
            points = r["points"]
            both = [(points[i][0], known[i]["accuracy"]) for i in known]
            tau = kendalltau(*zip(*both, strict=True)).statistic if len(both) > 1 else float("nan")
            rows.append((r["cpu"], np.mean([a for a, _ in points]), *volumes(points, worst), tau))
        if rows:
            told = [spread(values) for values in zip(*rows, strict=True)]
            print(f"| {variant} | {len(rows)} | {told[0].split(' ')[0]} | {' | '.join(told[1:])} |")
    if len(known) == NETWORKS:
        points = [(r["accuracy"], r["energy"]) for r in known.values()]
        linear, decades = volumes(points, worst)
        mean = np.mean([a for a, _ in points])
        cpu = sum(r["cpu"] for r in known.values())
        print(f"| each alone | 1 | {cpu:.0f} | {mean:.3f} | {linear:.3f} | {decades:.3f} | |")


def spread(values: Any) -> str:
    form = "{:.0f}" if np.mean(values) > 10 else "{:.3f}"
    several = f" ± {form.format(np.std(values, ddof=1))}" if len(values) > 1 else ""
    return form.format(np.mean(values)) + several


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", default=list(VARIANTS))
    parser.add_argument("--data", default="digits", choices=sorted(TIMESTEPS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of an elastic training")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "elastic_recipe.jsonl")
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    if given.list:
        print("\n".join(VARIANTS))
        return
    if given.table:
        table(given.json, given.data, given.epochs)
        return
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    import torch

    torch.set_num_threads(1)
    given.json.parent.mkdir(parents=True, exist_ok=True)

    def note(**line: Any) -> None:
        with given.json.open("a") as file:
            file.write(json.dumps({"data": given.data, "machine": platform.processor(), **line}) + "\n")

    done = {
        (r["what"], r.get("variant", r.get("place")), r.get("seed"))
        for r in read(given.json)
        if r["data"] == given.data and (r["what"] == "alone" or r.get("epochs", EPOCHS) == given.epochs)
    }
    if given.alone:
        for place in range(NETWORKS):
            if ("alone", place, None) not in done:
                note(what="alone", **alone(given.data, place))
    for seed in range(0 if given.alone else given.seeds):
        for variant in given.variants:
            if ("elastic", variant, seed) in done or "of" in VARIANTS[variant]:
                continue
            settings = dict(VARIANTS[variant])
            with tempfile.TemporaryDirectory() as directory:
                checkpoint, cpu = train_elastic(given.data, seed, given.epochs, directory, settings)
                for name in (variant, *(v for v, s in VARIANTS.items() if s.get("of") == variant)):
                    points = judge(checkpoint, VARIANTS[name].get("norm_batches", 4))
                    note(what="elastic", variant=name, seed=seed, epochs=given.epochs, cpu=cpu, points=points)
    table(given.json, given.data, given.epochs)


if __name__ == "__main__":
    main()
