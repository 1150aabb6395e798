"""What the energy meter costs, and what training for energy gains.

python benchmarks/energy.py overhead     # share of a training epoch that counting takes, paired in one run
python benchmarks/energy.py penalty      # accuracy and energy on digits with and without loss.energy_weight
python benchmarks/energy.py predict      # predict_cost's memory and time of a step beside what is measured
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from spikefront.commands.memory import keep_freed_memory  # noqa: E402
from spikefront.config import compose  # noqa: E402


def trained(job: tuple[str, int, int, str]) -> tuple[float, float, float]:
    """Accuracy, energy in µJ and firing rate of one training, on one thread."""
    from spikefront.training import train

    model, epochs, seed, extra = job
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as output, contextlib.redirect_stdout(None):
        fixed = [f"model={model}", "callbacks=quiet", "logger=none", "trainer=cpu", f"output_dir={output}"]
        r = train(compose([*fixed, f"trainer.max_epochs={epochs}", f"seed={seed}", *filter(None, [extra])]))
    return r.accuracy, r.energy_joules * 1e6, r.firing_rate


def penalty(model: str, epochs: int, seeds: int, weights: list[float], budget: float, picture: Path | None) -> None:
    """Train on digits under several weights and a budget; print one line a run and, of all seeds, one a setting."""
    settings = ["", *(f"loss.energy_weight={w:g}" for w in weights), f"loss.energy_budget={budget:g}"]
    print("| loss | seed | test accuracy | energy, µJ | firing rate |\n|---|--:|--:|--:|--:|", flush=True)
    runs: dict[str, list[tuple[float, float]]] = {extra: [] for extra in settings}
    jobs = [(model, epochs, seed, extra) for seed in range(seeds) for extra in settings]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        for (_, _, seed, extra), (accuracy, energy, rate) in zip(jobs, pool.map(trained, jobs), strict=True):
            runs[extra].append((energy, accuracy))
            name = extra.removeprefix("loss.") or "cross-entropy alone"
            print(f"| {name} | {seed} | {accuracy:.4f} | {energy:.4f} | {rate:.4f} |", flush=True)
    print("\n| loss | test accuracy, mean of seeds | from – to | energy, µJ | from – to |\n|---|--:|--:|--:|--:|")
    for extra, points in runs.items():
        energies, accuracies = zip(*points, strict=True)
        print(
            f"| {extra.removeprefix('loss.') or 'cross-entropy alone'} | {statistics.mean(accuracies):.3f}"
            f" | {min(accuracies):.3f} – {max(accuracies):.3f} | {statistics.mean(energies):.3f}"
            f" | {min(energies):.3f} – {max(energies):.3f} |"
        )
    if picture is not None:
        picture.write_text(drawn(runs))


def drawn(runs: dict[str, list[tuple[float, float]]]) -> str:
    """Energy and accuracy of every run as SVG, a colour a setting, its mean larger."""
    colours = 2 * ("#1f2937", "#2563eb", "#0891b2", "#16a34a", "#ca8a04", "#dc2626")
    energies = [e for points in runs.values() for e, _ in points]
    accuracies = [a for points in runs.values() for _, a in points]
    right, low = 1.1 * max(energies), math.floor(10 * min(accuracies)) / 10

    def at(energy: float, accuracy: float) -> tuple[float, float]:
        return 60 + 420 * energy / right, 20 + 260 * (1 - accuracy) / (1 - low)

    def text(x: float, y: float, words: str, anchor: str = "middle", more: str = "") -> str:
        return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{words}</text>'

    parts = ['<rect width="680" height="340" fill="#fff"/>']
    for i in range(round((1 - low) * 10) + 1):
        _, y = at(0, low + i / 10)
        parts += [f'<path d="M60 {y:.1f}H480" stroke="#e5e7eb"/>', text(52, y + 4, f"{low + i / 10:.1f}", "end")]
    for i in range(6):
        x, _ = at(right * i / 5, 1)
        parts.append(text(x, 298, f"{right * i / 5:.2f}"))
    parts.append('<path d="M60 20V280H480" stroke="#6b7280" fill="none"/>')
    parts.append(text(270, 325, "energy, µJ a sample (paper, first layer per timestep)"))
    parts.append(text(16, 150, "test accuracy", more=' transform="rotate(-90 16 150)"'))
    for i, (extra, points) in enumerate(runs.items()):
        mean = statistics.mean(e for e, _ in points), statistics.mean(a for _, a in points)
        for size, opacity, point in (*((3.5, 0.45, p) for p in points), (7, 1, mean)):
            x, y = at(*point)
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" fill="{colours[i]}" fill-opacity="{opacity}"/>')
        parts.append(f'<circle cx="500" cy="{36 + 22 * i}" r="6" fill="{colours[i]}"/>')
        parts.append(text(512, 40 + 22 * i, extra.removeprefix("loss.") or "cross-entropy alone", "start"))
    head = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 680 340" font-family="sans-serif" font-size="12">'
    return "\n".join([head, *parts, "</svg>"]) + "\n"


def overhead(pairs: int) -> None:
    """Passes of a network without a meter and of its copy with one that counts, alternating; weighed as in an epoch.

    CPU seconds, of which the meter waits for none: other programs on the machine then add little to them.
    """
    import copy

    import spikefront
    from spikefront.energy import EnergyMeter

    print("| model | training step | counted | evaluation pass | counted | share of an epoch (1 in 10 counted) |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, data, batch, side, some in (
        ("sdt_tiny", "digits", 64, 8, pairs),
        ("sdt_2_256", "cifar10", 4, 32, pairs),
        ("sdt_8_384", "imagenet", 1, 224, pairs // 4),
    ):
        plain = spikefront.create_model(name, data=data)
        metered = copy.deepcopy(plain)
        x = torch.rand(batch, plain.in_channels, side, side)
        meter = EnergyMeter(metered)
        meter.survey(x)
        meter.start()
        times: dict[tuple[str, bool], list[float]] = {}
        for pair in range(some + 1):
            for kind in ("train", "eval"):
                for counts in ((False, True), (True, False))[pair % 2]:
                    model = (metered if counts else plain).train(kind == "train")
                    started = time.process_time()
                    with torch.set_grad_enabled(kind == "train"):
                        y = model(x)
                        if kind == "train":
                            y.sum().backward()
                    times.setdefault((kind, counts), []).append(time.process_time() - started)
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


CIFAR = "data=digits data.image_size=32 data.channels=3 data.pooling=0011"
DVS = "data=digits_dvs data.image_size=64 data.pooling=0011 data.timesteps=10"
UNSEEN = [  # configurations of which the calibration times none
    "model=sdt_1_16 data.batch_size=16",
    "model=sdt_tiny",
    "model=sdt_2_256 data.batch_size=16",
    "model=sdt_1_32 model.timesteps=8 data.batch_size=128",
    "model=sdt_4_128 model.timesteps=2",
    "model=sdt_2_96 neuron=plif optimizer=lamb",
    "model=sdt_tiny neuron=alif",
    "model=sdt_tiny neuron=ilif surrogate=atan",
    "model=sdt_2_64 data=digits_dvs data.batch_size=32",
    "model=sdt_1_128 data=digits_dvs loss=tet data.batch_size=16",
    f"model=sdt_2_128 {DVS} data.batch_size=1",
    "model=sdt_2_192 data=digits_dvs data.image_size=128 data.pooling=0111 data.timesteps=8 data.batch_size=1",
    f"model=sdt_2_256 {CIFAR} data.batch_size=4",
    f"model=sdt_2_512 {CIFAR} data.batch_size=1",
    f"model=sdt_2_128 {CIFAR} attention=ssa data.batch_size=4",
    f"model=sdt_2_128 {CIFAR} attention=sdsa3 residual=pre_spike data.batch_size=4",
    f"model=sdt_2_192 {CIFAR} attention=qkta model.mlp_ratio=2 data.batch_size=4",
    f"model=sdt_1_128 {CIFAR} embedding=conv_stem data.batch_size=4",
    f"model=sdt_3_128 {CIFAR} neuron=relu attention=softmax model.timesteps=1 data.batch_size=16",
    f"model=sdt_2_256 {CIFAR} neuron=if neuron.threshold=0.5 model.timesteps=1 data.batch_size=16",
    "model=sdt_4_256 data=imagenet data.image_size=128 data.batch_size=2",
    "model=sdt_2_128 data=imagenet data.image_size=96 data.batch_size=8",
    "model=sdt_4_384 data=imagenet data.batch_size=1 model.timesteps=1",
    "model=sdt_2_512 data=imagenet data.image_size=160 data.batch_size=1",
    "model=sdt_8_256 data=imagenet data.image_size=64 data.batch_size=4",
    "model=sdt_2_768 data=imagenet data.image_size=96 data.batch_size=1 model.timesteps=2",
]


def predict(passes: int) -> None:
    """Predict every configuration, then measure it: peak of the allocator, and the fastest step of several passes.

    The passes go over all configurations, minutes apart, so that what else the machine does meets few of them twice.
    """
    from spikefront.planning import calibration, prediction

    started = time.perf_counter()
    machine = calibration.Machine(calibration.calibrate("cpu"))
    print(f"calibration: {time.perf_counter() - started:.1f} s, {torch.get_num_threads()} threads\n", flush=True)
    prediction.machine = lambda device: machine  # type: ignore[assignment]
    cfgs = {name: compose(name.split()) for name in UNSEEN}
    costs = {name: prediction.predict_cost(cfg) for name, cfg in cfgs.items()}
    memory = {name: allocated(lambda cfg=cfg: calibration.trainer(cfg)) for name, cfg in cfgs.items()}
    times: dict[str, list[float]] = {name: [] for name in UNSEEN}
    for _ in range(passes):
        for name, cfg in cfgs.items():
            step = calibration.trainer(cfg)
            step()
            times[name].append(calibration.fastest(step, 0.5, least=3))
    print("| configuration | memory, MiB | predicted | ratio | step, ms | predicted | ratio |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    ratios: list[tuple[float, float]] = []
    for name in UNSEEN:
        cost, seconds = costs[name], min(times[name])
        ratios.append((cost.memory / memory[name], (cost.step_time or 0.0) / seconds))
        print(
            f"| {name} | {memory[name] / 2**20:.1f} | {cost.memory / 2**20:.1f} | {ratios[-1][0]:.3f}"
            f" | {seconds * 1e3:.1f} | {(cost.step_time or 0.0) * 1e3:.1f} | {ratios[-1][1]:.2f} |"
        )
    for what, bound, which in (("memory", 0.15, 0), ("time", 0.30, 1)):
        within = sum(abs(r[which] - 1) <= bound for r in ratios)
        print(f"{what}: {within} of {len(ratios)} within {bound:.0%}")


def allocated(trainer: Callable[[], Callable[[], None]]) -> int:
    """Bytes that the allocator has given at the peak of two training steps of a network, the network included."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        step = trainer()
        step()
        step()
    events = [e for e in run.profiler.kineto_results.events() if e.name() == "[memory]"]
    return max(itertools.accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["overhead", "penalty", "predict"])
    parser.add_argument("--model", default="sdt_1_32")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--weights", type=float, nargs="+", default=[0.25, 0.5, 1, 2])
    parser.add_argument("--budget", type=float, default=0.15e-6, help="joules a sample")
    parser.add_argument("--picture", type=Path, help="draw penalty's runs there, as SVG")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--passes", type=int, default=2)
    options = parser.parse_args()
    keep_freed_memory()
    if options.what == "overhead":
        overhead(options.pairs)
    elif options.what == "penalty":
        penalty(options.model, options.epochs, options.seeds, options.weights, options.budget, options.picture)
    else:
        predict(options.passes)
