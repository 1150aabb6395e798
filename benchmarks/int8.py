"""Networks in whole numbers beside dense ones: their speed, and what becomes of accuracy and energy.

    python benchmarks/int8.py [case ...] [--rates 0.13] [--rounds 5] [--one-thread]
    python benchmarks/int8.py --accuracy [--seeds 3] [--epochs 30]

Speed: inference, batch 2. `floor`, a network's convolutions and linear layers alone, dense, in float32, in bfloat16
(autocast), and in oneDNN's int8 (activations of 8 bits, as they would be quantised; nothing between the layers); ours
dense, sparse with float32 and with bfloat16 weights, and `for_inference(sparse="auto", weights="int8")`. Weights are
random, thresholds as in `sparse.py`. Any ImageNet model of `conf/model` is a case too.

`--accuracy`: trains `sdt_tiny` on digits and digits_dvs, and evaluates on their test parts the network and the one in
whole numbers, with joules under `chip_8bit` (weights of 32 and of 8 bits). A test part of 360 samples tells 0.3 points
from none: six noisy copies of each sample tell more.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import model as networks
import sparse
import torch
from model import floor, products, ratio, take_turns, use_one_thread
from omegaconf import OmegaConf
from profiles import processor
from torch import Tensor, nn

from spikefront.errors import UserError
from spikefront.exporting.origin import Origin
from spikefront.nn.fixed.running import IntegerConv
from spikefront.nn.sparse_conv import SparseConv2d

ROOT = Path(__file__).resolve().parents[1]
DATA = ("digits", "digits_dvs")
BOUNDS = (0.01, 0.03, 0.1)  # on the change of logits
COPIES, NOISE = 6, 0.03  # of each test sample; the share of its values that are 0 instead, or an event more


def dense_int8(model: nn.Module, x: Tensor) -> Callable[[bool], None]:
    """Every convolution and linear layer of a deployed network alone, as oneDNN runs it on 8 bits."""
    torch.backends.quantized.engine = "onednn"
    frames, calls = model.timesteps * len(x), []
    for layer, shape in products(model.for_inference(), x):
        size = (frames, *shape[1:]) if len(shape) == 4 else shape
        dense = torch.rand(size)
        if len(size) == 4:
            dense = dense.contiguous(memory_format=torch.channels_last)
        given = torch.quantize_per_tensor(dense, 1 / 255, 0, torch.quint8)
        weight, bias = layer.weight.detach(), layer.bias
        scales = weight.abs().flatten(1).amax(1).clamp_min(1e-9) / 127
        zeros = torch.zeros(len(weight), dtype=torch.long)
        whole = torch.quantize_per_channel(weight.float().contiguous(), scales.double(), zeros, 0, torch.qint8)
        if isinstance(layer, nn.Conv2d):
            settings = [list(v) for v in (layer.stride, layer.padding, layer.dilation)]
            packed = torch.ops.quantized.conv2d_prepack(whole, bias, *settings, layer.groups)
            calls.append(partial(torch.ops.quantized.conv2d, given, packed, 0.1, 0))
        else:
            calls.append(
                partial(torch.ops.quantized.linear, given, torch.ops.quantized.linear_prepack(whole, bias), 0.1, 0)
            )

    def step(train: bool) -> None:
        for call in calls:
            call()

    return step


def measure(case: str, rates: list[float], rounds: int) -> None:
    firing = sparse.Firing(case)
    model, x = firing.model, firing.x
    alone = floor(model, x)

    def in_half(train: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            alone(train)

    for wanted in rates:
        reached = firing.at(wanted)
        forms = {"dense": model.for_inference(), "sparse": model.for_inference(sparse=True)}
        forms["bfloat16"] = model.for_inference(sparse=True, weights="bfloat16")
        try:
            forms["int8"] = model.for_inference(sparse="auto", weights="int8", batch=x)
        except UserError as error:
            print(error)
        runs = {"floor float32": alone, "floor bfloat16": in_half, "floor int8": dense_int8(model, x)}
        runs |= {name: partial(sparse.infer, form, x) for name, form in forms.items()}
        seconds = take_turns(runs, False, rounds)
        layers = [m for form in forms.values() for m in form.modules() if isinstance(m, IntegerConv)]
        print(
            f"\n{case}, batch {networks.BATCH}, firing rate {reached:.3f}, {torch.get_num_threads()} threads, CPU:"
            f" {processor()}\nin whole numbers {sum(bool(m.sparse) for m in layers)} of {len(layers)} layers are sparse"
        )
        for name, times in seconds.items():
            print(
                f"  {name:<15}{statistics.median(times) * 1e3:8.0f} ms"
                + "".join(
                    f"{ratio(seconds[f'floor {kind}'], times):8.2f}x {kind}" for kind in ("float32", "bfloat16", "int8")
                ),
                flush=True,
            )


def accuracy(seeds: int, epochs: int) -> None:
    print("| | seed | float32 | int8 | noisy: float32 | int8 | joules, 32-bit weights | 8-bit weights |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    chosen: list[str] = []
    for data in DATA:
        lost = []
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as folder:
                figures, noisy, choices = trained(data, seed, epochs, Path(folder))
            chosen += [f"| {data} | {seed} | {choice} |" for choice in choices]
            both = [figures[kind]["test"] for kind in ("float", "int8")]
            lost.append([both[0]["accuracy"] - both[1]["accuracy"], noisy[0] - noisy[1]])
            cells = [f"{a:.4f}" for a in (*(b["accuracy"] for b in both), *noisy)]
            cells += [f"{b['energy_joules'] * 1e6:.1f} µJ" for b in both]
            print(f"| {data} | {seed} | {' | '.join(cells)} |", flush=True)
        means = [f"{-100 * statistics.mean(column):+.2f} points" for column in zip(*lost, strict=True)]
        print(f"| {data} | all | | {means[0]} | | {means[1]} | | |", flush=True)
    print("\n| | seed | within | layers | change of logits | accuracy |\n|---|--:|--:|---|--:|--:|")
    print("\n".join(chosen))


def trained(data: str, seed: int, epochs: int, folder: Path) -> tuple[Any, list[float], list[str]]:
    """What `export format=int8` says of a network that was just trained, both accuracies on noisy test samples, and
    what `weights="auto"` chooses on calibration samples and does to the test part."""
    given = [f"data={data}", f"seed={seed}", "trainer=cpu", f"trainer.max_epochs={epochs}", "logger=none"]
    command("train", *given, f"hydra.run.dir={folder}/train")
    checkpoint = f"{folder}/train/checkpoints/best.ckpt"
    command(
        "export", f"checkpoint={checkpoint}", "format=int8", f"directory={folder}/int8", f"hydra.run.dir={folder}/log"
    )
    told = json.loads((folder / "int8" / "export.json").read_text())
    origin = Origin(OmegaConf.create({"checkpoint": checkpoint, "output_dir": str(folder), "trust": False}))
    model, batch = origin.model(), origin.training(64)
    whole = model.for_inference(sparse=True, weights="int8", batch=batch)
    parts = [(x, y) for x, y, *_ in origin.data.test_dataloader()]
    images, labels = (torch.cat(part) for part in zip(*parts, strict=True))
    choices = [choice(model, batch, images, labels, within) for within in BOUNDS]
    images, labels = (t.repeat_interleave(COPIES, 0) for t in (images, labels))
    hit = torch.rand(images.shape, generator=torch.Generator().manual_seed(0)) < NOISE
    images = torch.where(hit, images + 1 if data == "digits_dvs" else torch.zeros_like(images), images)
    right = [float(logits(form, images).argmax(1).eq(labels).double().mean()) for form in (model, whole)]
    return told["figures"], right, choices


def choice(model: Any, batch: Tensor, images: Tensor, labels: Tensor, within: float) -> str:
    form = model.for_inference(sparse="auto", weights="auto", batch=batch, within=within)
    found, expected = logits(form, images), logits(model, images)
    layers = [m for m in form.modules() if isinstance(m, SparseConv2d)]
    kinds = Counter(f"{m.weights} {'added' if m.sparse else 'multiplied'}" for m in layers)
    changed = float((found - expected).norm() / expected.norm())
    names = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
    return f"{within} | {names} | {changed:.3f} | {float(found.argmax(1).eq(labels).double().mean()):.4f}"


def logits(form: Any, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.cat([form(part) for part in images.split(256)])


def command(verb: str, *arguments: str) -> None:
    subprocess.run([sys.executable, ROOT / "src" / f"{verb}.py", *arguments], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=["sdt_8_384"], metavar="case")
    parser.add_argument("--rates", nargs="+", type=float, default=[0.13])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one-thread", action="store_true", help="CPU seconds of one thread")
    parser.add_argument("--accuracy", action="store_true", help="what whole numbers do to accuracy and energy")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.one_thread:
        use_one_thread()
    if arguments.accuracy:
        accuracy(arguments.seeds, arguments.epochs)
        return
    for case in arguments.cases:
        measure(case, arguments.rates, arguments.rounds)


if __name__ == "__main__":
    main()
