"""Forward and training steps of whole networks, side by side in one run.

    python benchmarks/model.py [case ...] [--rounds 3] [--levers] [--bfloat16] [--one-thread] [--columns ours …]
    python benchmarks/model.py [case ...] --profile [--one-thread]

Columns: `baseline`, the same network written eagerly with spikingjelly's own neurons (torch backend), one convolution a
projection, heads reshaped as published; `floor`, its convolutions and linear layers alone on dense inputs of the same
shapes, each in the faster of the two memory formats; ours without compiled kernels, with them, and `for_inference()`.
`--bfloat16` adds floor, ours and `for_inference()` under autocast. `--levers` measures ours with one lever after the
other switched off. `--profile` says where the time of a training step goes, by kind. Columns take turns within a
round; ratios are medians of rounds. Memory is the growth of a fresh process's peak over its first training step. Any
ImageNet model of `conf/model` is a case too, without a baseline: its floor is of the layers that it trains with and of
those it deploys. Needs `pip install spikefront[bench]`.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import itertools
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import profiles
import torch
from torch import Tensor, nn

import spikefront.nn.network
from spikefront.api import create_model, home, list_models
from spikefront.commands import memory
from spikefront.nn import SpikeDrivenTransformer, kernels
from spikefront.nn.attentions import SelfAttention
from spikefront.nn.kernels import build
from spikefront.nn.layers import over_frames
from spikefront.nn.network import SpikingNetwork
from spikefront.nn.operators import SDSA1Op
from spikefront.nn.projections import RepConv

CASES: dict[str, dict[str, Any]] = {
    "sdt_8_384": {"depth": 8, "dim": 384, "image_size": 224, "timesteps": 4, "pooling": "1111"},
    "sdt_8_512": {"depth": 8, "dim": 512, "image_size": 224, "timesteps": 4, "pooling": "1111"},
    "cifar10_dvs": {"depth": 2, "dim": 256, "image_size": 64, "timesteps": 10, "pooling": "0011", "event_mode": True},
    "gesture": {"depth": 2, "dim": 256, "image_size": 128, "timesteps": 16, "pooling": "0111", "event_mode": True},
}
BATCH = 2
M_MMAP_THRESHOLD = -3  # of mallopt(3)
COLUMNS = ("baseline", "floor", "plain", "ours", "deployed")
HALF = ("floor bf16", "ours bf16", "deployed bf16")


def lif(threshold: float = 1.0) -> nn.Module:
    from spikingjelly.activation_based import neuron  # the baseline's alone

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
        from spikingjelly.activation_based import functional

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


def products(model: nn.Module, x: Tensor) -> list[tuple[nn.Module, tuple[int, ...]]]:
    """Every convolution and linear layer of a network, and the shape of what it reads."""
    found: list[tuple[nn.Module, tuple[int, ...]]] = []

    def keep(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        found.append((module.dwconv if isinstance(module, RepConv) else module, tuple(args[0].shape)))

    kinds = nn.Conv2d | nn.Linear | RepConv  # whose depthwise convolution is not called as a layer
    hooks = [m.register_forward_pre_hook(keep) for m in model.modules() if isinstance(m, kinds)]
    with torch.no_grad():
        model.eval()(x)
    for hook in hooks:
        hook.remove()
    return found


def floor(model: nn.Module, x: Tensor) -> Callable[[bool], None]:
    """Every convolution and linear layer alone, T times each, on dense inputs."""
    frames = model.timesteps * len(x)

    def run(layer: nn.Module, dense: Tensor, train: bool) -> None:
        with nullcontext() if train else torch.inference_mode():
            y = layer(dense)
        if train:
            y.backward(torch.ones_like(y))

    chosen: dict[bool, list[tuple[nn.Module, Tensor]]] = {True: [], False: []}
    deployed = model if isinstance(model, SpikeDrivenTransformer) else model.for_inference()  # chains are one there
    for train, network in ((True, model), (False, deployed)):
        for i, (layer, shape) in enumerate(products(network, x)):
            size = (frames, *shape[1:]) if len(shape) == 4 else shape
            dense = torch.rand(size).requires_grad_(train and i > 0)
            formats = [(layer, dense)]
            if len(size) == 4:
                last = copy.deepcopy(layer).to(memory_format=torch.channels_last)
                like = dense.detach().contiguous(memory_format=torch.channels_last).requires_grad_(train and i > 0)
                formats.append((last, like))
                for choice in formats:
                    run(*choice, train)
            chosen[train].append(min(formats, key=lambda f: min(clock(lambda: run(*f, train)) for _ in range(2))))  # noqa: B023

    def step(train: bool) -> None:
        for layer, dense in chosen[train]:
            dense.grad = None
            run(layer, dense, train)

    return step


now = time.perf_counter


def clock(step: Callable[[], None]) -> float:
    started = now()
    step()
    return now() - started


def use_one_thread() -> None:
    """From here on measure the CPU seconds of one thread, which other processes of the machine hardly change."""
    global now
    now = time.process_time
    torch.set_num_threads(1)


def network(case: str) -> tuple[SpikingNetwork, Tensor]:
    torch.manual_seed(0)
    if case not in CASES:
        return create_model(case), torch.rand(BATCH, 3, 224, 224)
    settings = CASES[case]
    events, size = settings.get("event_mode", False), settings["image_size"]
    model = SpikeDrivenTransformer(**settings, in_channels=2 if events else 3, num_classes=10 if events else 1000)
    x = torch.rand(BATCH, 3, size, size)
    if events:
        x = (torch.rand(BATCH, settings["timesteps"], 2, size, size) < 0.1).float()
    return model, x


def steps(case: str, column: str, lever: str | None = None) -> Callable[[bool], None]:
    """``run(train)``: one inference or one training step of a column, one lever switched off."""
    settings = CASES.get(case, {})
    ours, x = network(case)
    half = torch.autocast("cpu", torch.bfloat16) if column.endswith("bf16") else nullcontext()
    column = column.removesuffix(" bf16")
    if column == "floor":
        dense = floor(ours, x)

        def floor_step(train: bool) -> None:
            with half:
                dense(train)

        return floor_step
    model: nn.Module = ours
    if column == "baseline":
        model = Published(ours, settings["depth"], settings["dim"], settings["pooling"])
    for m in model.modules():  # an untrained deep network is silent: shift it until it fires
        if isinstance(m, nn.BatchNorm2d):
            nn.init.constant_(m.bias, 0.3)
    off = LEVERS[lever] if lever else (lambda model: nullcontext())
    with off(model):
        deployed = ours.for_inference() if column == "deployed" else None

    def run(train: bool) -> None:
        with half, off(deployed or model), kernels.switched(column != "plain"):
            if train:
                model.train().zero_grad(set_to_none=True)
                model(x).square().sum().backward()
            else:
                with torch.no_grad() if lever == "inference mode" else torch.inference_mode():
                    (deployed or model.eval())(x)

    return run


@contextmanager
def without(owner: Any, name: str, replacement: Any) -> Iterator[None]:
    """``owner.name`` replaced for a while."""
    kept = getattr(owner, name)
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        setattr(owner, name, kept)


def apart(model: nn.Module) -> Any:
    """Neurons and the pools after them in two passes."""
    return without(kernels, "fire_pooled", lambda *_: None)


@contextmanager
def plain_pools(model: nn.Module) -> Iterator[None]:
    with apart(model), without(kernels.MaxPool, "forward", nn.MaxPool2d.forward):
        yield


@contextmanager
def plain_norms(model: nn.Module) -> Iterator[None]:
    def normalise(x: Tensor, norm: nn.Module, onto: Tensor | None = None) -> Tensor:
        return over_frames(x, norm) if onto is None else onto + over_frames(x, norm)

    with without(kernels, "normalise", normalise), without(kernels, "normalise_pooled", lambda *_: None):
        yield


@contextmanager
def slow_neurons(model: nn.Module) -> Iterator[None]:
    neurons = [m for m in model.modules() if hasattr(m, "surrogate")]
    kept = [m.surrogate for m in neurons]
    for m in neurons:
        m.surrogate = SimpleNamespace(derivative=m.surrogate.derivative)
    try:
        with apart(model):
            yield
    finally:
        for m, surrogate in zip(neurons, kept, strict=True):
            m.surrogate = surrogate


@contextmanager
def first_convolution_often(model: nn.Module) -> Iterator[None]:
    hook = model.patch_embed.register_forward_pre_hook(lambda m, a: (a[0].expand(a[1], *a[0].shape[1:]), a[1]))
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def memory_given_back(model: nn.Module) -> Iterator[None]:
    """As malloc is once it has seen large tensors: what is above 32 MiB is mapped anew each time."""
    libc = ctypes.CDLL(None)
    for option, value in ((memory.M_MMAP_MAX, 65536), (M_MMAP_THRESHOLD, 2**25), (memory.M_TRIM_THRESHOLD, 2**26)):
        libc.mallopt(option, value)
    try:
        yield
    finally:
        memory.keep_freed_memory()


def with_heads(op: SDSA1Op, q: Tensor, k: Tensor, v: Tensor, gate: nn.Module) -> Tensor:
    T, B, C, H, W = q.shape
    parts = (T, B, H * W, op.num_heads, C // op.num_heads)
    q, k, v = (s.flatten(3).transpose(-1, -2).reshape(parts).permute(0, 1, 3, 2, 4).contiguous() for s in (q, k, v))
    kv = op.kv_pool((k * v).flatten(0, 1)).unflatten(0, (T, B)) if op.event_mode else k * v
    out = q * gate(kv.sum(dim=-2, keepdim=True))
    out = op.mask_pool(out.flatten(0, 1)).unflatten(0, (T, B)) if op.event_mode else out
    return out.transpose(3, 4).reshape(T, B, C, H, W).contiguous()


# What makes it fast: how to do without it. Each takes the model and is entered around building and running.
LEVERS: dict[str, Callable[[nn.Module], Any]] = {
    "batch norm and neuron in one kernel": slow_neurons,
    "first convolution once": first_convolution_often,
    "channels-last frames": lambda m: without(spikefront.nn.network, "over_frames", lambda x, layer: x),
    "attention without heads": lambda m: without(SDSA1Op, "forward", with_heads),
    "max-pooling kernel": plain_pools,
    "neuron and pool in one pass": apart,
    "batch norm in a kernel": plain_norms,
    "freed memory kept": memory_given_back,
    "spikes kept as bits": lambda m: without(spikefront.nn.network, "packed_spikes", nullcontext),
    "query, key, value joined": lambda m: without(SelfAttention, "join", lambda attention: None),
    "inference mode": lambda m: nullcontext(),
}
TRAINING_ONLY = {"spikes kept as bits", "batch norm in a kernel"}
INFERENCE_ONLY = {"query, key, value joined", "inference mode", "neuron and pool in one pass"}


def peak(case: str, column: str, lever: str | None = None) -> float:
    """MiB by which a fresh process's peak grows over one training step, after a step's worth of set-up is behind it."""
    code = f"import sys; sys.argv[0] = ''; import model; model.print_peak({case!r}, {column!r}, {lever!r})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=sys.path[0])
    return float(out.stdout.split()[-1])


def print_peak(case: str, column: str, lever: str | None) -> None:
    run = steps(case, column, lever)
    before = high_water()
    run(True)
    print(high_water() - before)


def high_water() -> float:
    """Peak of this process's memory, MiB. (getrusage's survives exec: a child would begin at its parent's.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def measure(case: str, rounds: int, columns: tuple[str, ...]) -> dict[str, Any]:
    runs = {column: steps(case, column) for column in columns}
    times: dict[str, dict[str, list[float]]] = {}
    for kind, train in (("inference", False), ("training", True)):
        times[kind] = take_turns({c: r for c, r in runs.items() if not (train and "deployed" in c)}, train, rounds)
    memory = {c: peak(case, c) for c in ("baseline", "plain", "ours") if c in columns}
    return {"case": case, "threads": torch.get_num_threads(), "seconds": times, "peak_MiB": memory}


def measure_levers(case: str, rounds: int) -> dict[str, Any]:
    """Ours with everything and with one lever less; inference as deployed."""
    seconds = {}
    for kind, train in (("inference", False), ("training", True)):
        skip = INFERENCE_ONLY if train else TRAINING_ONLY
        column = "ours" if train else "deployed"
        runs = {lever or "everything": steps(case, column, lever) for lever in (None, *LEVERS) if lever not in skip}
        if not train:
            runs["batch norms folded, q, k, v joined"] = steps(case, "ours")
        seconds[kind] = take_turns(runs, train, rounds)
    memory = {
        lever or "everything": peak(case, "ours", lever) for lever in (None, *LEVERS) if lever not in INFERENCE_ONLY
    }
    return {"case": case, "seconds": seconds, "peak_MiB": memory}


def take_turns(runs: dict[str, Callable[[bool], None]], train: bool, rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {column: [] for column in runs}
    for run in runs.values():
        run(train)
    for _ in range(rounds):
        for column, run in runs.items():
            times[column].append(clock(lambda: run(train)))  # noqa: B023
    return times


def show_profile(case: str, rounds: int) -> None:
    """Where the time of a training step goes, in float32 and under autocast to bfloat16."""
    lines = {}
    for name, column in (("float32", "ours"), ("bfloat16", "ours bf16")):
        run = steps(case, column)
        with torch.autocast("cpu", torch.bfloat16, enabled=name == "bfloat16"):
            lines[name] = profiles.time_line(lambda: run(True), rounds)  # noqa: B023
    profiles.show(f"{case}, batch {BATCH}, a training step without its optimizer", lines)


def ratio(a: list[float], b: list[float]) -> float:
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def show(result: dict[str, Any]) -> None:
    print(f"\n{result['case']}, batch {BATCH}, {torch.get_num_threads()} threads")
    known = result["seconds"]["inference"]
    before = next(column for column in ("baseline", "plain", "floor") if column in known)
    for kind, columns in result["seconds"].items():
        for column, seconds in columns.items():
            to_floor = f"   {ratio(seconds, columns['floor']):5.2f}x the floor"
            theirs = f"   {ratio(columns[before], seconds):5.2f}x as fast as the {before}"
            print(f"  {kind:<10}{column:<14}{statistics.median(seconds) * 1e3:8.0f} ms{to_floor}{theirs}")
    memory = result["peak_MiB"]
    print("  peak memory of a training step: " + ", ".join(f"{c} {m:.0f} MiB" for c, m in memory.items()), flush=True)
    if before in memory and "ours" in memory:
        print(f"  ours / {before}: {memory['ours'] / memory[before]:.2f}", flush=True)


def show_levers(result: dict[str, Any]) -> None:
    print(f"\n{result['case']}, batch {BATCH}, {torch.get_num_threads()} threads: without …")
    print("\n| without | inference | training | peak memory of training |\n|---|---|---|---|")
    inference, training, memory = result["seconds"]["inference"], result["seconds"]["training"], result["peak_MiB"]
    for name in dict.fromkeys((*inference, *training)):
        cells = []
        for seconds in (inference, training):
            if name in seconds:
                middle = statistics.median(seconds[name]) * 1e3
                cells.append(f"{middle:.0f} ms ({ratio(seconds[name], seconds['everything']):.2f}x)")
            else:
                cells.append("–")
        cells.append(f"{memory[name]:.0f} MiB" if name in memory else "–")
        print(f"| {name if name != 'everything' else 'nothing: everything on'} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    others = [name for name in list_models() if home(name) == "imagenet" and name not in CASES]
    parser.add_argument(
        "cases", nargs="*", default=list(CASES), metavar="case", help=f"{', '.join(CASES)}, or any ImageNet model"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--levers", action="store_true", help="each lever switched off in turn")
    parser.add_argument("--profile", action="store_true", help="where the time of a training step goes, by kind")
    parser.add_argument(
        "--bfloat16", action="store_true", help="columns under autocast; slow without such instructions"
    )
    parser.add_argument(
        "--one-thread", action="store_true", help="CPU seconds of one thread, for a machine others use too"
    )
    parser.add_argument(
        "--columns", nargs="+", choices=COLUMNS + HALF, metavar="column", help="these alone, beside the floor"
    )
    parser.add_argument("--json")
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - {*CASES, *others}:
        parser.error(f"no case {', '.join(sorted(unknown))}: choose from {', '.join((*CASES, *others))}")
    if arguments.one_thread:
        use_one_thread()
    memory.keep_freed_memory()
    print("compiled kernels:", "yes" if build.library("neuron") else "no", "on", profiles.processor())
    warnings.simplefilter("ignore")
    results = []
    for case in arguments.cases:
        if arguments.profile:
            show_profile(case, arguments.rounds)
        elif arguments.levers:
            results.append(measure_levers(case, arguments.rounds))
            show_levers(results[-1])
        else:
            columns = COLUMNS + HALF if arguments.bfloat16 else COLUMNS
            columns = columns if case in CASES else tuple(c for c in columns if c != "baseline")
            columns = tuple(c for c in columns if c in ("floor", *(arguments.columns or columns)))
            results.append(measure(case, arguments.rounds, columns))
            show(results[-1])
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
