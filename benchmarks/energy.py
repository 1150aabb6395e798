"""What the energy meter costs, and what training for energy gains.

python benchmarks/energy.py overhead     # share of a training epoch that counting takes, paired in one run
python benchmarks/energy.py penalty      # accuracy and energy on digits with and without loss.energy_weight
python benchmarks/energy.py predict      # predict_cost's memory and time of a step beside what is measured
"""

from __future__ import annotations

import argparse
import gc
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

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
    from spikefront.energy import calibration, prediction

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
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--passes", type=int, default=2)
    options = parser.parse_args()
    if options.what == "overhead":
        overhead(options.pairs)
    elif options.what == "penalty":
        penalty(options.epochs, options.seeds)
    else:
        predict(options.passes)
