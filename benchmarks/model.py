"""Forward and training steps of whole networks, side by side in one run.

    python benchmarks/model.py [case ...] [--rounds 3] [--json FILE]

Columns: `baseline`, the same network written eagerly with spikingjelly's own neurons (torch backend), one convolution a
projection, heads reshaped as published; `floor`, its convolutions and linear layers alone on dense inputs of the same
shapes, in the faster of the two memory formats; ours without compiled kernels, with them, and `for_inference()`.
Columns take turns within a round; ratios are medians of rounds. Memory is the growth of a process's peak over one step.
Needs `pip install spikefront[bench]`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

from spikefront.nn import SpikeDrivenTransformer, kernels
from spikefront.nn.kernels.build import library

CASES: dict[str, dict[str, Any]] = {
    "sdt_8_384": {"depth": 8, "dim": 384, "image_size": 224, "timesteps": 4, "pooling": "1111"},
    "sdt_8_512": {"depth": 8, "dim": 512, "image_size": 224, "timesteps": 4, "pooling": "1111"},
    "cifar10_dvs": {"depth": 2, "dim": 256, "image_size": 64, "timesteps": 10, "pooling": "0011", "event_mode": True},
    "gesture": {"depth": 2, "dim": 256, "image_size": 128, "timesteps": 16, "pooling": "0111", "event_mode": True},
}
BATCH = 2
COLUMNS = ("baseline", "floor", "plain", "ours", "deployed")


def lif(threshold: float = 1.0) -> nn.Module:
    return neuron.LIFNode(tau=2.0, v_threshold=threshold, detach_reset=True, step_mode="m")


class Published(nn.Module):
    """The network as its users have it: eager, spikingjelly's neurons, every tensor reshaped into heads."""

    def __init__(self, ours: SpikeDrivenTransformer, depth: int, dim: int, pooling: str) -> None:
        super().__init__()
        self.T, self.dim, self.pooling, self.events = ours.timesteps, dim, pooling, ours.event_mode
        widths = [ours.in_channels, dim // 8, dim // 4, dim // 2, dim]
        convs = [nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in itertools.pairwise(widths)]
        self.convs = nn.ModuleList([*convs, nn.Conv2d(dim, dim, 3, padding=1, bias=False)])
        self.bns = nn.ModuleList(nn.BatchNorm2d(c.out_channels) for c in self.convs)
        self.lifs = nn.ModuleList(lif() for _ in range(4))
        self.pool, self.plane_pool = nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(3, 1, 1)
        sizes = {"q": (dim, dim), "k": (dim, dim), "v": (dim, dim), "proj": (dim, dim)}
        sizes |= {"fc1": (dim, 4 * dim), "fc2": (4 * dim, dim)}
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {f"{n}_conv": nn.Conv2d(a, b, 1, bias=n not in "qkv") for n, (a, b) in sizes.items()}
                | {f"{n}_bn": nn.BatchNorm2d(b) for n, (_, b) in sizes.items()}
                | {f"{n}_lif": lif(0.5 if n == "gate" else 1.0) for n in ("s", "q", "k", "v", "gate", "fc1", "fc2")}
            )
            for _ in range(depth)
        )
        self.head_lif, self.head = lif(), nn.Linear(dim, ours.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self)
        x = x.transpose(0, 1).contiguous() if x.dim() == 5 else x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
        T, B = x.shape[:2]
        for i in range(4):
            y = self.bns[i](self.convs[i](x.flatten(0, 1)))
            if i == 3:
                y = self.pool(y) if self.pooling[3] == "1" else y
                x = y.reshape(T, B, *y.shape[1:])
                break
            y = self.lifs[i](y.reshape(T, B, *y.shape[1:]).contiguous()).flatten(0, 1)
            y = self.pool(y) if self.pooling[i] == "1" else y
            x = y.reshape(T, B, *y.shape[1:])
        y = self.bns[4](self.convs[4](self.lifs[3](x).flatten(0, 1)))
        x = x + y.reshape(x.shape)
        for b in self.blocks:
            x = x + self.attention(b, b["s_lif"](x))
            y = self.layer(b, "fc1", b["fc1_lif"](x))
            x = x + self.layer(b, "fc2", b["fc2_lif"](y))
        return self.head(self.head_lif(x.flatten(3).mean(3))).mean(0)

    def layer(self, b: Any, name: str, x: Tensor) -> Tensor:
        y = b[f"{name}_bn"](b[f"{name}_conv"](x.flatten(0, 1)))
        return y.reshape(*x.shape[:2], *y.shape[1:]).contiguous()

    def planes(self, x: Tensor) -> Tensor:
        return self.plane_pool(x.flatten(0, 1)).reshape(x.shape) if self.events else x

    def attention(self, b: Any, s: Tensor) -> Tensor:
        T, B, C, H, W = s.shape
        heads = []
        for name in "qkv":
            y = b[f"{name}_lif"](self.layer(b, name, s))
            if self.events and name != "q":
                y = self.plane_pool(y.flatten(0, 1)).reshape(s.shape)
            heads.append(
                y.flatten(3).transpose(-1, -2).reshape(T, B, H * W, 8, C // 8).permute(0, 1, 3, 2, 4).contiguous()
            )
        q, k, v = heads
        gate = b["gate_lif"](self.planes(k * v).sum(dim=-2, keepdim=True))
        x = self.planes(q * gate).transpose(3, 4).reshape(T, B, C, H, W).contiguous()
        return self.layer(b, "proj", x)


def floor(model: nn.Module, x: Tensor) -> Callable[[bool], None]:
    """Every convolution and linear layer alone, T times each, on dense inputs."""
    layers: list[tuple[nn.Module, tuple[int, ...]]] = []
    hooks = [
        m.register_forward_pre_hook(lambda m, a: layers.append((m, tuple(a[0].shape))))
        for m in model.modules()
        if isinstance(m, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        model.eval()(x)
    for hook in hooks:
        hook.remove()
    frames = model.timesteps * len(x)
    tensors = []
    for m, shape in layers:
        size = (frames, *shape[1:]) if len(shape) == 4 else shape
        dense = torch.rand(size)
        tensors.append((m, dense, dense.contiguous(memory_format=torch.channels_last) if len(size) == 4 else dense))

    def run(train: bool, last: int) -> None:
        for m, *formats in tensors:
            y = m(formats[last].detach().requires_grad_(train))
            if train:
                y.backward(torch.ones_like(y))

    def faster(train: bool) -> None:
        best = chosen.setdefault(train, min((0, 1), key=lambda last: clock(lambda: run(train, last))))
        run(train, best)

    chosen: dict[bool, int] = {}
    return faster


def clock(step: Callable[[], None]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def steps(case: str, column: str) -> Callable[[bool], None]:
    """``run(train)``: one inference or one training step of a column."""
    torch.manual_seed(0)
    settings = CASES[case]
    events = settings.get("event_mode", False)
    ours = SpikeDrivenTransformer(**settings, in_channels=2 if events else 3, num_classes=10 if events else 1000)
    size = settings["image_size"]
    x = (
        (torch.rand(BATCH, settings["timesteps"], 2, size, size) < 0.1).float()
        if events
        else torch.rand(BATCH, 3, size, size)
    )
    if column == "floor":
        return floor(ours, x)
    model: nn.Module = ours
    if column == "baseline":
        model = Published(ours, settings["depth"], settings["dim"], settings["pooling"])
    for m in model.modules():  # an untrained deep network is silent: shift it until it fires
        if isinstance(m, nn.BatchNorm2d):
            nn.init.constant_(m.bias, 0.3)
    deployed = ours.for_inference() if column == "deployed" else None

    def run(train: bool) -> None:
        usable = kernels.usable
        if column == "plain":
            kernels.usable = lambda x: False  # type: ignore[assignment]
        try:
            if train:
                model.train().zero_grad(set_to_none=True)
                model(x).square().sum().backward()
            else:
                with torch.inference_mode():
                    (deployed or model.eval())(x)
        finally:
            kernels.usable = usable

    return run


def peak(case: str, column: str) -> float:
    """MiB by which a fresh process's peak grows over one training step, after a step's worth of set-up is behind it."""
    code = f"import sys; sys.argv[0] = ''; import model; model.print_peak({case!r}, {column!r})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=sys.path[0])
    return float(out.stdout.split()[-1])


def print_peak(case: str, column: str) -> None:
    run = steps(case, column)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(True)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def measure(case: str, rounds: int) -> dict[str, Any]:
    runs = {column: steps(case, column) for column in COLUMNS}
    times: dict[str, dict[str, list[float]]] = {}
    for kind, train in (("inference", False), ("training", True)):
        columns = [c for c in COLUMNS if not (train and c == "deployed")]
        for column in columns:
            runs[column](train)
        times[kind] = {c: [] for c in columns}
        for _ in range(rounds):
            for column in columns:
                times[kind][column].append(clock(lambda: runs[column](train)))  # noqa: B023
    memory = {c: peak(case, c) for c in ("baseline", "plain", "ours")}
    return {"case": case, "seconds": times, "peak_MiB": memory}


def show(result: dict[str, Any]) -> None:
    print(f"\n{result['case']}, batch {BATCH}, {torch.get_num_threads()} threads")
    for kind, columns in result["seconds"].items():
        for column, seconds in columns.items():
            ratios = [
                statistics.median(a / b for a, b in zip(seconds, columns[of], strict=True))
                for of in ("floor", "baseline")
            ]
            print(
                f"  {kind:<10}{column:<10}{statistics.median(seconds) * 1e3:8.0f} ms"
                f"   {ratios[0]:5.2f}x the floor   {1 / ratios[1]:5.2f}x as fast as the baseline"
            )
    memory = result["peak_MiB"]
    print("  peak memory of a training step: " + ", ".join(f"{c} {m:.0f} MiB" for c, m in memory.items()))
    print(f"  ours / baseline: {memory['ours'] / memory['baseline']:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="case", help=", ".join(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(CASES):
        parser.error(f"no case {', '.join(sorted(unknown))}: choose from {', '.join(CASES)}")
    print("compiled kernels:", "yes" if library("neuron") else "no")
    results = []
    for case in arguments.cases:
        results.append(measure(case, arguments.rounds))
        show(results[-1])
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
