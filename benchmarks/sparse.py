"""Sparse execution beside dense, whole networks and single layers, in one run.

    python benchmarks/sparse.py [case ...] [--rates 0.05 0.13 0.25] [--rounds 3] [--bfloat16] [--training] [--json FILE]
    python benchmarks/sparse.py [case ...] --layers [--picture docs/sparse.png] [--json FILE]
    python benchmarks/sparse.py [case ...] --layers --training
    python benchmarks/sparse.py [case ...] --profile [--rates 0.13] [--one-thread]
    python benchmarks/sparse.py [case ...] --busy [--rates 0.13]
    python benchmarks/sparse.py --show --json FILE [--picture docs/sparse.png]

Networks: inference, batch 2. `published`, the same network written eagerly with spikingjelly's neurons; `floor`, its
convolutions and linear layers alone on dense inputs, each in the faster memory format (`--bfloat16`: also in bfloat16);
ours dense, sparse, sparse with bfloat16 weights, auto, and in whole numbers, all from `for_inference`. Weights are
random; all thresholds are scaled by one factor until the firing rate of what enters the synapses, weighted by
operations, is the wanted one. Columns take turns within a round; ratios are medians of rounds. Where the machine has an
energy counter (Linux's powercap, RAPL), joules are measured too.

`--layers`: the cases' layers one at a time at rates from 0.01 to 0.5, from bits, with the making of the lists, and the
rate up to which each pays; the same additions written with numba. With `--training` the gradients of their inputs,
dense and where a share of the places counts. `--json` keeps what FILE holds of other cases, rates and thread counts, so
that a long measurement can be made in parts; `--show` prints all of it as tables. `--profile`: where the time of one
inference goes, by kind. `--busy`: how long an inference takes (wall time, two threads) in a process alone on two cores
and in two processes on the same two. Needs `pip install spikefront[bench]`.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import model as networks
import numba
import numpy as np
import profiles
import torch
from model import Published, floor, take_turns, use_one_thread
from torch import Tensor, nn

import spikefront
from spikefront.nn import Rectangle, SpikeDrivenTransformer
from spikefront.nn.kernels import masked, sparse
from spikefront.nn.sparse_conv import SparseConv2d, add_sparsely

CASES: dict[str, dict[str, Any]] = {
    "sdt_8_384": networks.CASES["sdt_8_384"],
    "sdt_8_512": networks.CASES["sdt_8_512"],
    "sdt_8_768": {"depth": 8, "dim": 768, "image_size": 224, "timesteps": 4, "pooling": "1111"},
    "cifar10_dvs": networks.CASES["cifar10_dvs"],
    "gesture": networks.CASES["gesture"],
}
# in, out, kernel, side of the plane: what the cases' layers are, but for those as wide as another's
LAYERS: dict[str, list[tuple[int, int, int, int]]] = {
    "sdt_8_384": [
        *((384, 384, 1, 14), (384, 1536, 1, 14), (1536, 384, 1, 14)),
        *((48, 96, 3, 112), (96, 192, 3, 56), (192, 384, 3, 28), (384, 384, 3, 14)),
    ],
    "sdt_8_512": [(512, 2048, 1, 14)],
    "sdt_8_768": [(768, 3072, 1, 14), (3072, 768, 1, 14), (384, 768, 3, 28)],
    "cifar10_dvs": [(256, 256, 1, 16), (128, 256, 3, 32)],
    "gesture": [(256, 1024, 1, 16), (64, 128, 3, 64)],
}
SHARES = [0.05, 0.13, 0.2, 0.3]
RATES = [0.01, 0.02, 0.05, 0.1, 0.13, 0.2, 0.3, 0.4, 0.5]
FORMS: dict[str, dict[str, Any]] = {
    "dense": {"sparse": False},
    "sparse": {"sparse": True},
    "sparse bf16": {"sparse": True, "weights": "bfloat16"},
    "auto": {"sparse": "auto"},
    "int8": {"sparse": "auto", "weights": "int8"},
}
# of the additions, as the kernel counts its nanoseconds
PARTS = ("bits to lists", "lists of taps merged", "additions and the neurons on them")
BUSY_SECONDS = 5.0
FRAMES = 8
POWERCAP = Path("/sys/class/powercap")


class Firing:
    """A network whose thresholds are scaled by one factor until the operation-weighted firing rate is as wanted."""

    def __init__(self, case: str) -> None:
        self.model, self.x = network(case)
        self.neurons = [(m, m.threshold) for m in self.model.modules() if hasattr(m, "threshold")]
        self.known: dict[float, float] = {}  # factor: rate
        for norm in self.model.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.momentum = 1.0  # the statistics of the last batch

    def rate(self, factor: float) -> float:
        for neuron, threshold in self.neurons:
            neuron.threshold = threshold * factor
        with torch.no_grad():
            self.model.train()(self.x[:1])
        self.known[factor] = spikefront.measure_energy(self.model.eval(), self.x[:1]).firing_rate
        return self.known[factor]

    def at(self, wanted: float) -> float:
        """The rate reached, within 0.004 where it can be had."""
        for factor in (0.4, 1.2):
            if not self.known or len(self.known) < 2:
                self.rate(factor)
        for _ in range(8):
            best = min(self.known, key=lambda f: abs(self.known[f] - wanted))
            if abs(self.known[best] - wanted) < 0.004:
                break
            above = [f for f in self.known if self.known[f] > wanted]
            below = [f for f in self.known if self.known[f] <= wanted]
            if not above or not below:
                self.rate(min(self.known) / 2 if not above else max(self.known) * 2)
                continue
            low, high = max(above), min(below)  # the higher the thresholds, the fewer spikes
            share = (self.known[low] - wanted) / (self.known[low] - self.known[high])
            self.rate(low * (high / low) ** min(0.9, max(0.1, share)))
        return self.rate(min(self.known, key=lambda f: abs(self.known[f] - wanted)))


def published(ours: SpikeDrivenTransformer, case: str) -> nn.Module:
    """The baseline, with the same thresholds and weights of its own that fire about as often: its time is dense."""
    settings = CASES[case]
    model = Published(ours, settings["depth"], settings["dim"], settings["pooling"])
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.constant_(m.bias, 0.3)
    return model.eval()


def network(case: str) -> tuple[SpikeDrivenTransformer, Tensor]:
    if case in CASES:
        networks.CASES.setdefault(case, CASES[case])
    return networks.network(case)


def measure(case: str, rates: list[float], rounds: int, half: bool) -> list[dict[str, Any]]:
    results, firing = [], Firing(case)
    model, x = firing.model, firing.x
    alone = floor(model, x)
    baseline = published(model, case) if find_spec("spikingjelly") else None  # without it that column is left out
    dense = {"floor": alone}
    if half:

        def in_half(train: bool) -> None:
            with torch.autocast("cpu", torch.bfloat16):
                alone(train)

        dense["floor bf16"] = in_half
    for wanted in rates:
        reached = firing.at(wanted)
        forms: dict[str, nn.Module] = {} if baseline is None else {"published": baseline}
        forms |= {name: model.for_inference(**how) for name, how in FORMS.items()}
        runs = dense | {name: partial(infer, form, x) for name, form in forms.items()}
        seconds = take_turns(runs, False, rounds)
        layers = [m for m in forms["auto"].modules() if isinstance(m, SparseConv2d)]
        joules = {name: measured_joules(lambda run=run: run(False)) for name, run in runs.items()}  # type: ignore[misc]
        results.append(
            {
                "case": case,
                "kind": "inference",
                "wanted": wanted,
                "threads": torch.get_num_threads(),
                "rate": reached,
                "modelled_joules": spikefront.measure_energy(model, x).total_joules,
                "measured_joules": joules,
                "seconds": seconds,
                "sparse_layers": sum(bool(m.sparse) for m in layers),
                "layers": len(layers),
            }
        )
        show(results[-1])
    return results


def measure_training(case: str, rates: list[float], rounds: int) -> list[dict[str, Any]]:
    """A training step: the floor, ours dense, and ours with sparse forward passes and weight gradients.

    With a surrogate of bounded support, a rectangle, also with sparse and with dense gradients of the spikes.
    """
    results, firing = [], Firing(case)
    model, x = firing.model, firing.x
    alone = floor(model, x)
    for wanted in rates:
        reached = firing.at(wanted)
        summing = copy.deepcopy(model)
        add_sparsely(summing, True)
        runs = {"floor": alone, "dense": partial(learn, model, x), "sparse": partial(learn, summing, x)}
        bounded = copy.deepcopy(summing)
        for module in bounded.modules():
            if hasattr(module, "surrogate"):
                module.surrogate = Rectangle()
        runs |= {"rectangle": partial(learn, bounded, x), "unmasked": partial(learn_unmasked, bounded, x)}
        seconds = take_turns(runs, True, rounds)
        kind = {"kind": "training", "wanted": wanted, "threads": torch.get_num_threads()}
        results.append({"case": case, **kind, "rate": reached, "seconds": seconds})
        print(f"\n{case}, a training step, {torch.get_num_threads()} threads, firing rate {reached:.3f}")
        for name, times in seconds.items():
            middle = statistics.median(times) * 1e3
            print(
                f"  {name:<10}{middle:8.0f} ms   {networks.ratio(times, seconds['floor']):5.2f}x the floor", flush=True
            )
    return results


def profile(case: str, rates: list[float]) -> None:
    """Prints the time lines of one inference: dense, sparse, and sparse with bfloat16 weights."""
    firing = Firing(case)
    for wanted in rates:
        reached, columns = firing.at(wanted), {}
        for name in ("dense", "sparse", "sparse bf16", "int8"):
            run = partial(infer, firing.model.for_inference(**FORMS[name]), firing.x, False)
            line = profiles.time_line(run)
            before = kernel_times()
            run()
            spent = [b - a for a, b in zip(before, kernel_times(), strict=True)]
            added = line.pop("additions where spikes are", 0.0)
            parts = zip(PARTS, spent, strict=True)
            line |= {part: added * share / sum(spent) for part, share in parts if added}
            columns[name] = dict(sorted(line.items(), key=lambda item: -item[1]))
        profiles.show(f"{case}, batch {networks.BATCH}, firing rate {reached:.3f}", columns)


def kernel_times() -> list[int]:
    nanoseconds = (ctypes.c_int64 * len(PARTS))()
    sparse._library().time_line(nanoseconds)
    return list(nanoseconds)


def busy(case: str, rate: float) -> None:
    """Prints the wall time of an inference alone on two cores and beside another process on the same two."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    print(f"\n{case}, batch {networks.BATCH}, rate {rate}; {profiles.processor()}; two threads on cores {cores}")
    alone, beside = (inferences(case, rate, cores, processes) for processes in (1, 2))
    for name, (milliseconds,) in alone.items():
        slower = statistics.mean(beside[name]) / milliseconds
        times = " and ".join(f"{t:.0f}" for t in beside[name])
        print(f"  {name:<12}{milliseconds:6.0f} ms alone, {times} ms beside another: {slower:.2f}x", flush=True)


def inferences(case: str, rate: float, cores: list[int], processes: int) -> dict[str, list[float]]:
    """Milliseconds of an inference of each form, one for each of processes that run it at the same time."""
    command = [sys.executable, __file__, case, "--rates", str(rate), "--work"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    workers = [subprocess.Popen(command, **pipes) for _ in range(processes)]  # type: ignore[call-overload]
    found: dict[str, list[float]] = {}
    for worker in workers:
        os.sched_setaffinity(worker.pid, cores)
        assert worker.stdout.readline() == "ready\n"
    for name in FORMS:
        for worker in workers:
            worker.stdin.write("go\n")
        found[name] = [float(worker.stdout.readline()) for worker in workers]
    for worker in workers:
        worker.wait()
    return found


def work(case: str, rate: float) -> None:
    """What ``inferences`` starts: for every line read infers for some seconds and prints the median."""
    torch.set_num_threads(2)
    firing = Firing(case)
    firing.at(rate)
    runs = [partial(infer, firing.model.for_inference(**how), firing.x, False) for how in FORMS.values()]
    for run in runs:
        run(), run()
    print("ready", flush=True)
    for run in runs:
        if not sys.stdin.readline():  # whoever asked is gone
            return
        times, until = [], time.perf_counter() + BUSY_SECONDS
        while time.perf_counter() < until:
            started = time.perf_counter()
            run()
            times.append((time.perf_counter() - started) * 1e3)
        print(statistics.median(times), flush=True)


def learn(model: nn.Module, x: Tensor, train: bool) -> None:
    model.train().zero_grad(set_to_none=True)
    model(x).square().sum().backward()


def learn_unmasked(model: nn.Module, x: Tensor, train: bool) -> None:
    """With dense gradients of the spikes, whatever the surrogate."""
    with networks.without(masked, "runs", lambda: False):
        learn(model, x, train)


def infer(model: nn.Module, x: Tensor, train: bool) -> None:
    with torch.inference_mode():
        model(x)


def measured_joules(run: Callable[[], None]) -> float | None:
    """What the processor's own counters say one run took a sample, or None where it exposes none."""
    before = counters()
    if not before:
        return None
    run()
    after = counters()
    return sum((after[k] - before[k]) / 1e6 for k in before) / networks.BATCH


def counters() -> dict[str, int]:
    found = {}
    for file in sorted(POWERCAP.glob("intel-rapl:?/energy_uj")):
        try:
            found[str(file)] = int(file.read_text())
        except OSError:  # readable by root only
            continue
    return found


def show(result: dict[str, Any]) -> None:
    times = result["seconds"]
    print(
        f"\n{result['case']}, batch {networks.BATCH}, {profiles.processor()}; {torch.get_num_threads()} threads,"
        f" firing rate {result['rate']:.3f}; auto runs {result['sparse_layers']} of {result['layers']} layers sparsely"
    )
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        joules = result["measured_joules"][name]
        print(
            f"  {name:<11}{middle * 1e3:8.0f} ms   {networks.ratio(times['floor'], seconds):5.2f}x as fast as the floor"
            + "".join(
                f"   {networks.ratio(times[other], seconds):5.2f}x as fast as {other}"
                for other in ("floor bf16", "published")
                if other in times
            )
            + (f"   {joules:.3g} J a sample measured" if joules is not None else "")
        )
    print(
        f"  modelled energy: {result['modelled_joules'] * 1e3:.3g} mJ a sample (45 nm, published convention)",
        flush=True,
    )


@numba.njit(parallel=True, fastmath=True, cache=False)
def numba_linear(words: np.ndarray, weight: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    """The same additions as LLVM compiles them: a row's set bits, 128 output columns at a time."""
    rows, columns = out.shape
    for row in numba.prange(rows):
        listed = np.empty(weight.shape[0], np.int32)
        n = 0
        for i in range(words.shape[1]):
            word = words[row, i]
            for bit in range(64):
                if (word >> np.uint64(bit)) & np.uint64(1):
                    listed[n] = i * 64 + bit
                    n += 1
        for start in range(0, columns, 128):
            end = min(columns, start + 128)
            total = bias[start:end].copy()
            for j in range(n):
                total += weight[listed[j], start:end]
            out[row, start:end] = total


def measure_layers(cases: list[str], rounds: int) -> list[dict[str, Any]]:
    results = []
    for inputs, outputs, kernel, side in itertools.chain.from_iterable(LAYERS[case] for case in cases):
        torch.manual_seed(0)
        conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2).to(memory_format=torch.channels_last)
        layer, points = SparseConv2d(conv, True), []
        for rate in RATES:
            x = (torch.rand(FRAMES, inputs, side, side) < rate).float().contiguous(memory_format=torch.channels_last)
            bits = sparse.encode(x)
            runs: dict[str, Callable[[bool], None]] = {
                "dense": lambda train, x=x: conv(x),  # noqa: B023  # type: ignore[misc]
                "sparse": lambda train, bits=bits: layer(bits),  # noqa: B023  # type: ignore[misc]
            }
            if kernel == 1:
                weight = conv.weight.detach()[:, :, 0, 0].t().contiguous().numpy()
                out, words = np.empty((len(bits.bits), outputs), np.float32), bits.bits.numpy().view(np.uint64)
                bias = conv.bias.detach().numpy()
                runs["numba"] = lambda train, a=(words, weight, bias, out): numba_linear(*a)  # type: ignore[misc]
            with torch.inference_mode():
                seconds = {k: min(v) for k, v in take_turns(runs, False, rounds).items()}
            points.append({"rate": rate, **seconds})
        result = {"kind": "layer", "layer": [inputs, outputs, kernel, side], "threads": torch.get_num_threads()}
        results.append(result | {"points": points, "crossover": crossover(points)})
        show_layer(results[-1])
    return results


def measure_input_gradients(cases: list[str], rounds: int) -> None:
    """The gradient of what enters a layer, dense and at a share of the places, from their bits."""
    print("\n| | dense | " + " | ".join(str(share) for share in SHARES) + " |\n|---|" + "--:|" * (1 + len(SHARES)))
    for layer in itertools.chain.from_iterable(LAYERS[case] for case in cases):
        torch.manual_seed(0)
        inputs, outputs, kernel, side = layer
        shape = torch.Size((FRAMES, inputs, side, side))
        conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False).to(memory_format=torch.channels_last)
        weight, x = conv.weight.detach(), torch.rand(shape).contiguous(memory_format=torch.channels_last)
        grad = torch.randn_like(conv(x.detach()))
        runs: dict[str, Callable[[bool], Any]] = {"dense": lambda train, a=(grad, x, weight): input_gradient(*a)}  # type: ignore[misc]
        for share in SHARES:
            places = sparse.encode((torch.rand(shape) < share).float())
            mask = masked.Mask(lambda bits=places.bits: bits, 0)  # type: ignore[misc]
            runs[str(share)] = lambda train, a=(mask, grad, weight, shape): masked.gradient(*a)  # type: ignore[misc]
        with networks.without(masked, "MOST", 1):
            seconds = {k: min(v) for k, v in take_turns(runs, True, rounds).items()}
        speeds = (f"{seconds['dense'] / seconds[str(share)]:.1f}x" for share in SHARES)
        print(f"| {name_of(list(layer))} | {seconds['dense'] * 1e3:.1f} ms | " + " | ".join(speeds) + " |", flush=True)


def input_gradient(grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """As ``SparseConv2d`` has it where it is dense."""
    if weight.shape[-1] == 1:
        return (grad.permute(0, 2, 3, 1) @ weight.flatten(1)).permute(0, 3, 1, 2)
    arguments = (grad, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, False, False])
    return torch.ops.aten.convolution_backward(*arguments)[0]


def crossover(points: list[dict[str, float]]) -> float | None:
    """The rate at which sparse takes as long as dense, between measured rates; None: never in the range."""
    ratios = [p["sparse"] / p["dense"] for p in points]
    for (a, ra), (b, rb) in zip(
        zip(points, ratios, strict=True), list(zip(points, ratios, strict=True))[1:], strict=False
    ):
        if ra <= 1 < rb:
            return a["rate"] + (b["rate"] - a["rate"]) * (1 - ra) / (rb - ra)
    return None


def name_of(layer: list[int]) -> str:
    inputs, outputs, kernel, side = layer
    return f"{inputs} → {outputs}, {kernel}x{kernel} on {side}x{side}"


def show_layer(result: dict[str, Any]) -> None:
    points = result["points"]
    print(f"\n{name_of(result['layer'])}: dense {points[0]['dense'] * 1e3:.2f} ms, pays up to a rate of", end=" ")
    print(f"{result['crossover']:.2f}" if result["crossover"] else f"{RATES[-1]} and more")
    print("  rate    " + "".join(f"{p['rate']:7.2f}" for p in points))
    print("  sparse  " + "".join(f"{p['dense'] / p['sparse']:6.2f}x" for p in points))
    if "numba" in points[0]:
        print("  numba   " + "".join(f"{p['dense'] / p['numba']:6.2f}x" for p in points), flush=True)


def draw(results: list[dict[str, Any]], path: str) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, plots = plt.subplots(1, 2, figsize=(12, 4.6), sharey=True, layout="constrained")
    for plot, kernel, title in zip(plots, (1, 3), ("1x1 convolutions (linear)", "3x3 convolutions"), strict=True):
        for result in results:
            if result["layer"][2] == kernel:
                p = result["points"]
                speed = [v["dense"] / v["sparse"] for v in p]
                plot.plot([v["rate"] for v in p], speed, "o-", markersize=3, label=name_of(result["layer"]))
        plot.axhline(1, color="black", linewidth=0.8)
        plot.axvspan(0.05, 0.22, color="tab:green", alpha=0.08)
        plot.set_xscale("log"), plot.set_yscale("log")
        ticks, speeds = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5], [0.5, 1, 2, 4, 8, 16, 32]
        plot.set_xticks(ticks, [str(t) for t in ticks]), plot.set_yticks(speeds, [f"{s}x" for s in speeds])
        plot.minorticks_off(), plot.grid(alpha=0.3), plot.legend(fontsize=8)
        plot.set_xlabel("firing rate of the input"), plot.set_title(title)
    plots[0].set_ylabel("times as fast as dense, float32")
    figure.suptitle(
        f"{FRAMES} frames, threads: {torch.get_num_threads()}; shaded: the rates that published energies imply"
    )
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="case", help=", ".join(CASES))
    parser.add_argument("--rates", nargs="+", type=float, default=[0.05, 0.13, 0.25])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bfloat16", action="store_true", help="also the floor in bfloat16")
    parser.add_argument("--training", action="store_true", help="training steps instead of inference")
    parser.add_argument("--layers", action="store_true", help="single layers over firing rates instead of networks")
    parser.add_argument("--profile", action="store_true", help="where the time of one inference goes")
    parser.add_argument("--busy", action="store_true", help="an inference beside another process on the same cores")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)  # a process of --busy
    parser.add_argument("--picture", help="draw the layers' speeds into this file")
    parser.add_argument("--show", action="store_true", help="measure nothing, print what the JSON file holds")
    parser.add_argument(
        "--one-thread", action="store_true", help="CPU seconds of one thread, for a machine others use too"
    )
    parser.add_argument("--json", help="add the results to this file")
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(CASES):
        parser.error(f"no case {', '.join(sorted(unknown))}: choose from {', '.join(CASES)}")
    warnings.simplefilter("ignore")
    if arguments.one_thread:
        numba.set_num_threads(1)  # which starts its own, and sets OpenMP's back to all cores
        use_one_thread()
    file = Path(arguments.json) if arguments.json else None
    known = json.loads(file.read_text()) if file and file.exists() else []
    if arguments.work:
        work(arguments.cases[0], arguments.rates[0])
    elif arguments.busy or arguments.profile:
        for case in arguments.cases:
            busy(case, arguments.rates[0]) if arguments.busy else profile(case, arguments.rates)
    elif arguments.show:
        print_tables(known)
    elif arguments.layers and arguments.training:
        measure_input_gradients(arguments.cases, arguments.rounds)
    elif arguments.layers:
        known = merged(known, measure_layers(arguments.cases, arguments.rounds))
    else:
        if not counters():
            print("this machine exposes no energy counter (powercap, RAPL): joules are modelled only")
        for case in arguments.cases:
            if arguments.training:
                known = merged(known, measure_training(case, arguments.rates, arguments.rounds))
            else:
                known = merged(known, measure(case, arguments.rates, arguments.rounds, arguments.bfloat16))
    if arguments.picture:
        draw([r for r in known if r["kind"] == "layer"], arguments.picture)
    if file:
        file.write_text(json.dumps(known, indent=1))


def merged(known: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Everything, the newer of the same measurement."""

    def key(result: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(str(result.get(k)) for k in ("kind", "case", "layer", "wanted", "threads"))

    return list(({key(r): r for r in known} | {key(r): r for r in new}).values())


def print_tables(results: list[dict[str, Any]]) -> None:
    """In Markdown: milliseconds of each column, and ratios."""
    for kind in ("inference", "training"):
        rows = [r for r in results if r["kind"] == kind]
        for i, r in enumerate(rows):
            times = {k: statistics.median(v) for k, v in r["seconds"].items()}
            if i == 0:
                print(f"\n| {kind} | threads | rate | " + " | ".join(times) + " | sparse / floor | further |")
            better = min(times["dense"], times["sparse"])
            more = f"auto / better of both {times['auto'] / better:.2f}" if "auto" in times else ""
            if "published" in times:
                more = f"{times['published'] / times['sparse']:.1f}x as fast as published, {more}"
            cells = " | ".join(f"{t * 1e3:,.0f} ms" for t in times.values())
            against = times["sparse"] / times["floor"]
            print(f"| {r['case']} | {r['threads']} | {r['rate']:.3f} | {cells} | {against:.2f} | {more} |")
    layers = [r for r in results if r["kind"] == "layer"]
    for r in layers:
        speeds = " | ".join(f"{p['dense'] / p['sparse']:.1f}x" for p in r["points"])
        print(f"| {name_of(r['layer'])} | {r['threads']} | {speeds} | {r['crossover'] or 'above 0.5'} |")


if __name__ == "__main__":
    main()
