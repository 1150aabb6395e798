"""How cost grows: time and memory of a forward pass against tokens N, width D, timesteps T and batch B, on one plot.

    python benchmarks/scaling.py [--picture docs/scaling.png] [--json FILE] [--rounds 3]

Three attention operators alone (SDSA as published, Spikformer's SSA, softmax; 8 heads, spikes at a rate of 0.15 in)
and one whole block of the published network. While one of N = 196, D = 256, T = 4, B = 2 varies, the others stay. Time
is the fastest of some rounds, 0.3 s of them at least. Memory is the peak of what the pass allocates through PyTorch
beyond its inputs. The slope is the exponent of a power law fitted through the upper half of the points: 1 is linear.
Needs `pip install spikefront[bench]`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would report its own start and stop
import torch
from model import clock, use_one_thread
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from spikefront.nn import LIF
from spikefront.nn.attentions import SDSA1
from spikefront.nn.families.sdt import MLP, Block
from spikefront.nn.operators import SDSA1Op, SoftmaxOp, SSAOp
from spikefront.nn.residuals import MembraneResidual

BASE = {"N": 196, "D": 256, "T": 4, "B": 2}
AXES = {
    "N": [49, 100, 196, 400, 784, 1600],
    "D": [64, 128, 256, 512, 1024],
    "T": [1, 2, 4, 8, 16],
    "B": [1, 2, 4, 8, 16],
}
NAMES = {"N": "tokens N", "D": "width D", "T": "timesteps T", "B": "batch B"}
HEADS = 8
LEAST = 0.3  # seconds that a point is measured for
SUBJECTS = ("SDSA", "SSA", "softmax", "block")


def subject(name: str, size: dict[str, int]) -> Callable[[], Any]:
    torch.manual_seed(0)
    side = math.isqrt(size["N"])
    shape = (size["T"], size["B"], size["D"], side, side)
    if name == "block":
        residual = MembraneResidual(LIF)
        block = Block(SDSA1(size["D"], HEADS, LIF), residual, MLP(size["D"], 4 * size["D"], LIF, residual), 0.0).eval()
        x = last(torch.randn(shape) + 1)
        return lambda: block(x)
    q, k, v = (last((torch.rand(shape) < 0.15).float()) for _ in range(3))
    op: nn.Module = {"SDSA": SDSA1Op(HEADS, False), "SSA": SSAOp(HEADS, 0.125), "softmax": SoftmaxOp(HEADS)}[name]
    gate = LIF(threshold=0.5)
    return lambda: op(q, k, v, gate)


def last(x: Tensor) -> Tensor:
    """Frames in channels-last memory, as they are in the network."""
    return x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, x.shape[:2])


def measure(name: str, size: dict[str, int], rounds: int) -> dict[str, float]:
    run = subject(name, size)
    with torch.inference_mode():
        run()
        times = [clock(run) for _ in range(rounds)]
        while sum(times) < LEAST:
            times.append(clock(run))
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            run()
    # every allocation and release in order: the peak of their running sum
    held = most = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return {"seconds": min(times), "MiB": most / 2**20}


def slope(sizes: list[int], values: list[float]) -> float:
    """Exponent of the power law through the upper half of the points."""
    half = len(sizes) // 2
    x, y = ([math.log(v) for v in vs[half:]] for vs in (sizes, values))
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)


def draw(results: dict[str, dict[str, list[dict[str, float]]]], path: str) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, rows = plt.subplots(2, 4, figsize=(14, 6.4), sharey="row", sharex="col", layout="constrained")
    for column, (axis, sizes) in enumerate(AXES.items()):
        for row, (quantity, factor) in enumerate((("seconds", 1e3), ("MiB", 1))):
            plot = rows[row][column]
            for subject_name, style in zip(SUBJECTS, ("o-", "s--", "^-", "d:"), strict=True):
                values = [m[quantity] * factor for m in results[axis][subject_name]]
                plot.plot(sizes, values, style, label=f"{subject_name}, slope {slope(sizes, values):.1f}", markersize=4)
            plot.set_xscale("log", base=2), plot.set_yscale("log")
            plot.set_xticks(sizes, [str(s) for s in sizes]), plot.minorticks_off()
            plot.grid(alpha=0.3), plot.legend(fontsize=7)
        rows[1][column].set_xlabel(NAMES[axis])
    rows[0][0].set_ylabel("milliseconds")
    rows[1][0].set_ylabel("peak memory, MiB")
    base = ", ".join(f"{k} = {v}" for k, v in BASE.items())
    figure.suptitle(f"One forward pass in float32, threads: {torch.get_num_threads()}; what does not vary is {base}")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--picture")
    parser.add_argument(
        "--one-thread", action="store_true", help="CPU seconds of one thread, for a machine others use too"
    )
    parser.add_argument("--json")
    arguments = parser.parse_args()
    if arguments.one_thread:
        use_one_thread()
    results: dict[str, dict[str, list[dict[str, float]]]] = {}
    for axis, sizes in AXES.items():
        print(f"\n{axis} = {', '.join(map(str, sizes))}")
        results[axis] = {}
        for name in SUBJECTS:
            points = [measure(name, {**BASE, axis: size}, arguments.rounds) for size in sizes]
            results[axis][name] = points
            for quantity, unit in (("seconds", "ms"), ("MiB", "MiB")):
                values = [p[quantity] * (1e3 if unit == "ms" else 1) for p in points]
                shown = "".join(f"{v:9.2f}" for v in values)
                print(f"  {name:<8}{unit:>4}{shown}   slope {slope(sizes, values):.2f}", flush=True)
    if arguments.picture:
        draw(results, arguments.picture)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
