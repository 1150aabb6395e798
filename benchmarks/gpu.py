"""Neurons and whole networks on one CUDA device, each part under a minute.

    python benchmarks/gpu.py [part ...] [--json FILE] [--profile] [--list] [--batch 32] [--again]

A part is `<network>/<precision>/<column>` or `neuron/<column>`; `*` stands for any. Parts run in order of importance,
those that share an environment in one process; each row is printed and written as soon as it is measured, a part that
fails is told and left behind, and rows that FILE already has are not measured again. Columns:

- `floor`: the network's convolutions and linear layers alone, channels-last, weights in the precision itself, as one
  CUDA graph: no waiting for the host
- `ours`, `graphed` (`model.compile=true`: CUDA graphs), `compiled` (`torch.compile`), `deployed` (`for_inference()`,
  with the graphs it makes by itself)
- `published`: the same network with SpikingJelly's neurons, as that picks their kernels; `published-compiled`;
  `zoo`: SpikingJelly's own Spike-driven Transformer

Training is forward and backward, without an optimizer. `--profile` prints what a step's time went into instead.
"""

from __future__ import annotations

import argparse
import fnmatch
import itertools
import json
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

CASES: dict[str, dict[str, Any]] = {
    "sdt_8_384": {"depth": 8, "dim": 384, "image_size": 224, "timesteps": 4, "pooling": "1111"},
    "sdt_8_512": {"depth": 8, "dim": 512, "image_size": 224, "timesteps": 4, "pooling": "1111"},
    "sdt_8_768": {"depth": 8, "dim": 768, "image_size": 224, "timesteps": 4, "pooling": "1111"},
    "cifar10_dvs": {"depth": 2, "dim": 256, "image_size": 64, "timesteps": 10, "pooling": "0011", "event_mode": True},
    "gesture": {"depth": 2, "dim": 256, "image_size": 128, "timesteps": 16, "pooling": "0111", "event_mode": True},
    "tiny": {"depth": 1, "dim": 16, "image_size": 16, "timesteps": 2, "pooling": "0011", "num_heads": 2},
    "digits": {"depth": 2, "dim": 64, "image_size": 8, "timesteps": 4, "pooling": "0001", "in_channels": 1},
}
PRECISIONS = ("bf16", "fp16", "tf32", "fp32")
COLUMNS = ("floor", "graphed", "deployed", "published", "ours", "compiled", "published-compiled")
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
NEURONS = ("copy", "ours", "ours-norm", "plain", "spikingjelly", "spikingjelly-compiled")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # without a GPU only --dry-run, so that this file can't rot
SECONDS = 60  # a part may take
MEASURED = 1.0  # seconds a figure is measured for


def parts() -> list[str]:
    """All of them, the most important first."""
    first = [f"sdt_8_384/bf16/{c}" for c in COLUMNS]
    neurons = [f"neuron/{c}" for c in NEURONS]
    nets = [f"{n}/bf16/{c}" for n in ("sdt_8_512", "sdt_8_768") for c in COLUMNS[:5]]
    events = [f"{n}/bf16/{c}" for n in ("gesture", "cifar10_dvs", "digits") for c in COLUMNS[:5]]
    rest = [f"sdt_8_384/{p}/{c}" for p in PRECISIONS[1:] for c in COLUMNS[:5]]
    return [*first, *neurons, "sdt_8_384/bf16/zoo", *nets, *events, *rest, "digits/bf16/compiled"]


# --- one part ---------------------------------------------------------------------------------------------------------


def network(case: str, batch: int, fast: bool = False) -> tuple[nn.Module, Tensor]:
    from spikefront.nn import SpikeDrivenTransformer

    torch.manual_seed(0)
    settings = {"compile": fast, "in_channels": 2 if "event_mode" in CASES[case] else 3, "num_classes": 1000}
    settings |= CASES[case]
    model = SpikeDrivenTransformer(**settings)
    size, channels = settings["image_size"], settings["in_channels"]
    x = torch.rand(batch, channels, size, size)
    if settings.get("event_mode"):
        x = (torch.rand(batch, settings["timesteps"], channels, size, size) < 0.1).float()
    return model, x


def build(case: str, column: str, batch: int) -> tuple[nn.Module, Tensor]:
    """On the device, shifted until it fires: an untrained deep network is silent."""
    model, x = network(case, batch, column == "graphed")
    if column.startswith("published"):
        from model import Published

        settings = CASES[case]
        model = Published(model, settings["depth"], settings["dim"], settings["pooling"])
    elif column == "zoo":
        from spikingjelly.activation_based import functional
        from spikingjelly.activation_based.model.spike_driven_transformer import sdt_8_384

        zoo = sdt_8_384(T=4)
        zoo.register_forward_pre_hook(lambda module, _: functional.reset_net(module))
        model = zoo
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.constant_(m.bias, 0.3)
    model = model.to(DEVICE)
    if column == "deployed":
        model = model.for_inference()  # type: ignore[operator]
    elif not column.startswith("published") and column != "zoo":
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if column.endswith("compiled"):
        model = torch.compile(model)  # type: ignore[assignment]
    return model, x.to(DEVICE)


def floor(case: str, batch: int, dtype: torch.dtype) -> Callable[[bool], None]:
    model, x = network(case, batch)
    model, x = model.to(DEVICE).eval(), x.to(DEVICE)
    layers: list[tuple[nn.Module, tuple[int, ...]]] = []
    for m in model.modules():
        if isinstance(m, nn.Conv2d | nn.Linear):
            m.register_forward_pre_hook(lambda m, a: layers.append((m, tuple(a[0].shape))))
    with torch.no_grad(), torch.autocast(DEVICE, torch.bfloat16):
        model(x[:1])
    frames = model.timesteps * batch
    dense: list[tuple[nn.Module, Tensor]] = []
    for i, (layer, shape) in enumerate(layers):
        size = (batch if shape[0] == 1 else frames, *shape[1:]) if len(shape) == 4 else (shape[0], batch, shape[2])
        layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
        layer._forward_pre_hooks.clear()
        layer.to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        data = (torch.rand(size, device=DEVICE, dtype=dtype) < 0.2).to(dtype).contiguous(memory_format=layout)
        dense.append((layer, data.requires_grad_(i > 0)))

    def step(train: bool) -> None:
        for layer, data in dense:
            data.grad = layer.weight.grad = None
            y = layer(data)
            if train:
                y.backward(torch.ones_like(y))

    return step


def steps(case: str, precision: str, column: str, batch: int) -> Callable[[bool], Any]:
    """``run(train)``: one inference or one training step."""
    half = HALVES.get(precision)
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True
    if column == "floor":
        return as_graph(floor(case, batch, half or torch.float32))
    model, x = build(case, column, batch)
    scaler = torch.amp.GradScaler(DEVICE, enabled=precision == "fp16")
    context = (lambda: torch.autocast(DEVICE, half)) if half else nullcontext

    def step(train: bool) -> None:
        model.train(train)
        if train:
            for p in model.parameters():
                p.grad = None
        with context():  # type: ignore[operator]
            y = model(x)
        if train:
            scaler.scale(y.float().square().mean()).backward()

    return step


def as_graph(step: Callable[[bool], Any]) -> Callable[[bool], Any]:
    """``step`` as a CUDA graph for either phase."""
    if DEVICE == "cpu":
        return step
    graphs: dict[bool, torch.cuda.CUDAGraph] = {}

    def graphed(train: bool) -> None:
        if train not in graphs:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    step(train)
            torch.cuda.current_stream().wait_stream(side)
            graphs[train] = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graphs[train]):
                step(train)
        graphs[train].replay()

    return graphed


def neuron_steps(column: str) -> Callable[[bool], Any]:
    """On ``(4, 32, 96, 112, 112)`` bf16 currents, channels-last: the second layer of sdt_8_384."""
    size = (4 * 32, 96, 112, 112) if DEVICE == "cuda" else (4 * 32, 16, 4, 4)
    x = (torch.randn(size, device=DEVICE, dtype=torch.bfloat16) + 0.3).contiguous(memory_format=torch.channels_last)
    x = x.unflatten(0, (4, 32)).requires_grad_()
    grad = torch.randn_like(x)
    forward: Callable[[Tensor], Tensor]
    if column == "copy":
        forward = torch.clone
    elif column.startswith("spikingjelly"):
        from model import lif
        from spikingjelly.activation_based import functional

        node = lif().to(DEVICE)
        run = torch.compile(node) if column.endswith("compiled") else node

        def forward(x: Tensor) -> Tensor:
            functional.reset_net(node)
            return run(x)
    else:
        from spikefront.nn.neurons import LIF, IntegrateAndFire

        neuron, norm = LIF(), nn.BatchNorm2d(x.shape[2]).to(DEVICE)
        of_plain = (0.5, 0.5, 1.0, False, True, neuron.surrogate)
        forward = {
            "ours": neuron,
            "ours-norm": lambda x: neuron(x, norm),
            "plain": lambda x: IntegrateAndFire.apply(x, *of_plain),
        }[column]

    def step(train: bool) -> None:
        x.grad = None
        y = forward(x)
        if train:
            y.backward(grad)

    return step


def measure(run: Callable[[bool], Any], train: bool) -> dict[str, float]:
    """Milliseconds a step (median) and the peak of memory above what the network and its input take, MiB."""
    if DEVICE == "cpu":
        run(train)
        return {"ms": float("nan"), "spread_ms": float("nan"), "peak_MiB": float("nan")}
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    with nullcontext() if train else torch.inference_mode():
        for _ in range(3):  # the second records a graph
            run(train)
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() - before
        run(train)
        torch.cuda.synchronize()
        started = time.perf_counter()
        run(train)
        torch.cuda.synchronize()
        count = min(max(int(MEASURED / (time.perf_counter() - started)), 5), 200)
        events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
        events[0].record()
        for event in events[1:]:
            run(train)
            event.record()
        torch.cuda.synchronize()
    times = [a.elapsed_time(b) for a, b in itertools.pairwise(events)]
    return {"ms": statistics.median(times), "spread_ms": max(times) - min(times), "peak_MiB": peak / 2**20}


def inside(names: list[str], arguments: argparse.Namespace) -> None:
    """Measure parts in this process, each row written at once."""

    def late(*_: object) -> None:
        raise TimeoutError(f"more than {SECONDS} s")

    signal.signal(signal.SIGALRM, late)
    for name in names:
        case, *of_network = name.split("/")
        signal.alarm(SECONDS)
        try:
            if case == "neuron":
                run, batch, phases = neuron_steps(of_network[0]), 32, (True, False)
            else:
                batch = (
                    arguments.batch
                    if arguments.dry_run or case.startswith("sdt")
                    else max(arguments.batch, 16 if case != "digits" else 64)
                )
                run = steps(case, *of_network, batch)
                phases = (False,) if of_network[1] == "deployed" else (True, False)
            for train in phases:
                if arguments.profile:
                    profile(run, train, name)
                    continue
                row = measure(run, train)
                row["images_per_s"] = batch / row["ms"] * 1000
                write(arguments.json, {"part": name, "phase": "training" if train else "inference", **row})
        except (Exception, TimeoutError) as error:
            write(arguments.json, {"part": name, "error": f"{type(error).__name__}: {str(error)[:300]}"})
            if "CUDA error" in str(error):
                raise
        signal.alarm(0)
        run = None  # type: ignore[assignment]
        torch.compiler.reset()
        if DEVICE == "cuda":
            torch.cuda.empty_cache()


def profile(run: Callable[[bool], Any], train: bool, name: str) -> None:
    with nullcontext() if train else torch.inference_mode():
        for _ in range(3):
            run(train)
        torch.cuda.synchronize()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as found:
            started = time.perf_counter()
            run(train)
            issued = time.perf_counter() - started
            torch.cuda.synchronize()
            took = time.perf_counter() - started
    print(f"\n{name} {'training' if train else 'inference'}: issued in {issued * 1e3:.1f} ms, done in {took * 1e3:.1f}")
    kernels = [e for e in found.key_averages() if e.device_type == torch.autograd.DeviceType.CUDA]
    total = sum(e.self_device_time_total for e in kernels)
    print(f"{total / 1e3:8.2f} ms of kernels")
    for e in sorted(kernels, key=lambda e: -e.self_device_time_total)[:32]:
        print(f"{e.self_device_time_total / 1e3:8.3f} ms {e.count:5}x  {e.key[:110]}")
    sys.stdout.flush()


# --- all parts --------------------------------------------------------------------------------------------------------


def write(path: str, row: dict[str, Any]) -> None:
    with open(path, "a") as file:
        file.write(json.dumps(row) + "\n")
    print(shown(row), flush=True)


def shown(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"{row['part']:<34} failed: {row['error']}"
    return (
        f"{row['part']:<34}{row['phase']:<10}{row['ms']:9.2f} ms  {row['images_per_s']:9.0f} images/s"
        f"  {row['peak_MiB']:8.0f} MiB"
    )


def done(path: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    if Path(path).exists():
        for line in Path(path).read_text().splitlines():
            row = json.loads(line)
            found.setdefault(row.get("part", ""), []).append(row)
    return found


def machine() -> dict[str, str]:
    import triton

    versions = {"torch": torch.__version__, "triton": triton.__version__, "python": platform.python_version()}
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        versions["driver"] = subprocess.run(query, capture_output=True, text=True).stdout.strip()
    except OSError:
        pass
    return {"card": torch.cuda.get_device_name(), **versions}


def summary(rows: dict[str, list[dict[str, Any]]]) -> None:
    """Ratios to the floor and to the published way."""
    of = {(r["part"], r["phase"]): r for found in rows.values() for r in found if "ms" in r}
    for (part, phase), row in of.items():
        if part.count("/") != 2:
            continue
        start = part.rsplit("/", 1)[0]
        ratios = []
        for other in ("floor", "published", "published-compiled"):
            if base := of.get((f"{start}/{other}", phase)):
                memory = row["peak_MiB"] / max(base["peak_MiB"], 1)
                ratios.append(f"{row['ms'] / base['ms']:5.2f}x {other} time, {memory:4.2f}x memory")
        print(f"{part:<34}{phase:<10}" + "; ".join(ratios))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["*"])
    parser.add_argument("--json", default="outputs/gpu.jsonl")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--dry-run", action="store_true", help="a tiny network on the CPU: does it run?")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--again", action="store_true", help="measure what FILE already has, too")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    known = parts()
    if arguments.dry_run:
        known = [f"tiny/bf16/{c}" for c in ("floor", "ours", "deployed", "published")] + [
            f"neuron/{c}" for c in NEURONS[:4]
        ]
    chosen = [p for pattern in arguments.parts for p in known if fnmatch.fnmatchcase(p, pattern)]
    chosen = list(dict.fromkeys(chosen if arguments.parts != ["*"] else known))
    if not chosen:
        parser.error(f"no part {' '.join(arguments.parts)}: --list shows them")
    if arguments.list:
        print("\n".join(chosen))
        return
    if DEVICE == "cpu" and not arguments.dry_run:
        sys.exit("benchmarks/gpu.py: no CUDA device here")
    Path(arguments.json).parent.mkdir(parents=True, exist_ok=True)
    if arguments.inside:
        inside(chosen, arguments)
        return
    if DEVICE == "cuda":
        print("  ".join(f"{k} {v}" for k, v in machine().items()), flush=True)
    have = set() if arguments.again or arguments.profile else set(done(arguments.json))
    left = [p for p in chosen if p not in have]
    while left:
        together = left
        command = [sys.executable, __file__, *together, "--inside", "--json", arguments.json]
        command += [
            "--batch",
            str(arguments.batch),
            *(f"--{f}" for f in ("profile", "dry-run") if vars(arguments)[f.replace("-", "_")]),
        ]
        before = len(done(arguments.json))
        code = subprocess.run(command).returncode
        finished = set(done(arguments.json)) if code else set(together)
        if code and len(done(arguments.json)) == before:  # died before it could say why
            write(arguments.json, {"part": together[0], "error": f"process ended with code {code}"})
            finished.add(together[0])
        left = [p for p in left if p not in finished]
    if not arguments.profile:
        summary(done(arguments.json))


if __name__ == "__main__":
    main()
