"""The sweep engine beside Hydra's stock Optuna sweeper, and what it costs by itself.

python benchmarks/sweep.py compare    # same space, trials, cores and seeds: wall time, hypervolume over time, a plot
python benchmarks/sweep.py overhead   # engine time of a trial that trains nothing
python benchmarks/sweep.py scale      # the same with 64 workers, on an empty storage and on one of 10,000 trials

``compare`` makes an environment for the stock sweeper (hydra-optuna-sweeper 1.3, Optuna 2.10, joblib launcher) in
``build/stock``: that needs PyPI once. Both train real networks on the digits, two at a time. ``--seeds``, ``--trials``;
``--minutes=5`` ends a call early, what it has measured stays in ``build`` and the next call goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from spikefront.analysis.pareto import hypervolume  # noqa: E402
from spikefront.config import compose  # noqa: E402

STOCK = ROOT / "build" / "stock"
PLOT = ROOT / "docs" / "sweep-over-time.svg"
RUN = ("model=sdt_1_16", "data=digits", "trainer=cpu", "trainer.max_epochs=8", "logger=none", "callbacks=quiet")
SPACE = (
    "model.timesteps=choice(1,2,4)",
    "neuron.threshold=interval(0.5,1.5)",
    "model.depth=choice(1,2)",
    "model.dim=choice(16,32,64)",
    "optimizer.lr=tag(log,interval(1e-3,2e-2))",
)
WORKERS = 2
FORK = multiprocessing.get_context("forkserver")  # forks a process that has imported torch and runs no threads
FORK.set_forkserver_preload(["spikefront.sweeping.worker.worker"])
os.environ["PYTHONPATH"] = str(ROOT / "src")  # for the preloading, which looks nowhere else
COLOURS = ("#0b6e99", "#d9730d")  # of the engines in the plot
Curve = list[tuple[float, float, float]]  # seconds since the command began, accuracy, joules


class Kept:
    """What was measured, by name, in a file: a call that is cut short loses nothing, the next one goes on.

    Args:
        minutes: after which nothing more is begun.
    """

    def __init__(self, name: str, minutes: float) -> None:
        self._path, self._end = ROOT / "build" / f"sweep-{name}.json", time.monotonic() + 60 * minutes
        self.values: dict[str, Any] = json.loads(self._path.read_text()) if self._path.exists() else {}

    def measure(self, name: str, measure: Callable[[], Any]) -> bool:
        """Whether the value is there by now."""
        if name not in self.values and time.monotonic() < self._end:
            self.values[name] = measure()
            self._path.parent.mkdir(exist_ok=True)
            self._path.write_text(json.dumps(self.values))
        return name in self.values

    def forget(self) -> None:
        """All is measured and said: the next call measures anew."""
        self._path.unlink(missing_ok=True)


def compare(seeds: int, trials: int, minutes: float) -> None:
    """Print a row an engine, and draw the hypervolume over time."""
    python = stock_environment()
    kept = Kept(f"compare-{trials}", minutes)
    engines: dict[str, Callable[..., Curve]] = {"spikefront": ours, "stock": stock}
    for seed in range(seeds):
        for engine in sorted(engines, reverse=bool(seed % 2)):  # who begins changes
            name = f"{engine} {seed}"
            if not kept.measure(name, partial(timed, engines[engine], seed, trials, python)):
                sys.exit(f"{len(kept.values)} of {len(engines) * seeds} sweeps are measured; the same command goes on")
            wall, points = kept.values[name]
            print(f"seed {seed}: {engine} {wall:.1f} s, {len(points)} trials trained to their end", flush=True)
    walls = {e: [kept.values[f"{e} {s}"][0] for s in range(seeds)] for e in engines}
    curves = {e: [kept.values[f"{e} {s}"][1] for s in range(seeds)] for e in engines}
    worst = max(e for some in curves.values() for c in some for _, _, e in c)
    volumes = {k: [over_time(c, worst) for c in some] for k, some in curves.items()}
    half = statistics.median(walls["stock"]) / 2
    print(f"| engine | wall time, s | hypervolume at the end | after {half:.0f} s |\n|---|--:|--:|--:|")
    for engine, some in volumes.items():
        figures = (walls[engine], [v[-1][1] for v in some], [at(v, half) for v in some])
        shown = (f"{statistics.median(f):.3g} ({min(f):.3g} - {max(f):.3g})" for f in figures)
        print(f"| {engine} | {' | '.join(shown)} |")
    print(f"medians over {seeds} seeds (range); wall time and hypervolume against stock, seed by seed:")
    ratios = [a / b for a, b in zip(walls["spikefront"], walls["stock"], strict=True)]
    more = [a[-1][1] - b[-1][1] for a, b in zip(volumes["spikefront"], volumes["stock"], strict=True)]
    print(", ".join(f"{r:.2f} {v:+.3f}" for r, v in zip(ratios, more, strict=True)))
    draw(volumes, PLOT)
    print(f"plot: {PLOT}")
    kept.forget()


def timed(run: Callable[..., Curve], seed: int, trials: int, python: Path) -> tuple[float, Curve]:
    """Seconds of one sweep's command, and its trials' ends."""
    with tempfile.TemporaryDirectory() as directory:
        began = time.time()
        points = run(seed, trials, Path(directory), python)
        return time.time() - began, [(t - began, a, e) for t, a, e in sorted(points)]


def ours(seed: int, trials: int, directory: Path, python: Path) -> Curve:
    from spikefront.sweeping.study.sources import read_study

    options = [f"search.dir={directory}", "search.study=s", f"search.n_trials={trials}", f"search.workers={WORKERS}"]
    options += ["search.default_first=false", f"search.sampler.seed={seed}", f"seed={seed}"]
    command(sys.executable, ROOT / "src" / "sweep.py", *RUN, *SPACE, *options)
    (study,) = read_study("s", str(directory))
    from datetime import datetime

    return [
        (datetime.fromisoformat(t["finished"]).timestamp(), t["values"]["accuracy"], t["values"]["energy"])
        for t in study["trials"]
        if t["state"] == "complete"
    ]


def stock(seed: int, trials: int, directory: Path, python: Path) -> Curve:
    options = ["hydra/sweeper=optuna", "hydra/launcher=joblib", f"hydra.launcher.n_jobs={WORKERS}"]
    options += [f"hydra.sweeper.n_jobs={WORKERS}", f"hydra.sweeper.n_trials={trials}", f"seed={seed}"]
    options += ["hydra.sweeper.direction=[maximize,minimize]", f"hydra.sweeper.sampler.seed={seed}"]
    options += [f"hydra.sweep.dir={directory}", "output_dir=${hydra:runtime.output_dir}"]
    log = directory / "trials.jsonl"
    command(python, ROOT / "benchmarks" / "stock_sweep.py", *RUN, *SPACE, *options, TRIALS=str(log))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [(p["time"], p["accuracy"], p["energy"]) for p in lines]


def command(python: object, script: Path, *arguments: str, **environment: str) -> None:
    """One sweep with a thread a worker on both sides."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    done = subprocess.run(
        [str(python), str(script), "-m", *arguments],
        env={**os.environ, **threads, **environment},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{script.name} failed:\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}")


def stock_environment() -> Path:
    """The stock sweeper's Python; everything but Optuna and Hydra comes from this environment."""
    python = STOCK / "bin" / "python"
    if not python.exists():
        venv.create(STOCK, with_pip=True, clear=True)
        packages = (
            "hydra-optuna-sweeper==1.3.0",
            "hydra-joblib-launcher==1.2.0",
            "hydra-core>=1.3,<1.4",
            "optuna<3",
            "sqlalchemy<2",
        )
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        import torch

        where = subprocess.check_output([python, "-c", "import site; print(site.getsitepackages()[0])"], text=True)
        own = Path(where.strip())
        (own / "ours.pth").write_text(str(Path(torch.__file__).parents[1]) + "\n")
    return python


def over_time(curve: Curve, worst: float) -> list[tuple[float, float]]:
    """Seconds and the hypervolume reached by then, as a share of the largest possible."""
    volumes, seen = [(0.0, 0.0)], []
    for t, accuracy, energy in curve:
        seen.append((-accuracy, energy / worst))
        volumes.append((t, hypervolume(seen, (0.0, 1.001))))
    return volumes


def at(volumes: Sequence[tuple[float, float]], t: float) -> float:
    return max(v for s, v in volumes if s <= t)


def draw(volumes: dict[str, list[list[tuple[float, float]]]], path: Path) -> None:
    """Hypervolume over time: a thin line a seed, a thick one for the median."""
    width, height, left, bottom, top = 720, 360, 60, 40, 20
    end = max(v[-1][0] for some in volumes.values() for v in some) * 1.02
    high = max(v[-1][1] for some in volumes.values() for v in some) * 1.05
    x = lambda t: left + (width - left - 20) * t / end
    y = lambda v: height - bottom - (height - bottom - top) * v / high

    def line(points: Sequence[tuple[float, float]], colour: str, thick: float) -> str:
        steps = [f"M{x(points[0][0]):.1f},{y(points[0][1]):.1f}"]
        steps += [f"H{x(t):.1f}V{y(v):.1f}" for t, v in points[1:]]
        return f'<path d="{"".join(steps)}H{x(end):.1f}" fill="none" stroke="{colour}" stroke-width="{thick}"/>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"',
        ' font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<path d="M{left},{top}V{height - bottom}H{width - 20}" fill="none" stroke="#444"/>',
        f'<text x="{width / 2}" y="{height - 8}" text-anchor="middle">seconds since the command began</text>',
        f'<text transform="translate(16,{height / 2}) rotate(-90)" text-anchor="middle">hypervolume</text>',
    ]
    for i in range(6):
        t, v = end * i / 5, high * i / 5
        parts.append(f'<text x="{x(t):.0f}" y="{height - bottom + 15}" text-anchor="middle">{t:.0f}</text>')
        parts.append(f'<text x="{left - 6}" y="{y(v) + 4:.0f}" text-anchor="end">{v:.2f}</text>')
    for i, ((engine, some), colour) in enumerate(zip(volumes.items(), COLOURS, strict=True)):
        parts += [line(v, colour, 0.7) for v in some]
        grid = [end * k / 300 for k in range(301)]
        parts.append(line([(t, statistics.median(at(v, t) for v in some)) for t in grid], colour, 3))
        parts.append(
            f'<text x="{left + 14}" y="{top + 14 + 18 * i}" fill="{colour}" font-weight="bold">{engine}</text>'
        )
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")


def nothing(cfg: object, callbacks: Sequence[object] = ()):
    """A training that trains nothing."""
    from spikefront.training import Evaluation, Result

    t, threshold = cfg.model.timesteps, cfg.neuron.threshold
    accuracy, energy = 1 - 0.3 / t - 0.1 * (threshold - 1) ** 2, 1e-6 * t / threshold
    Path(cfg.output_dir).mkdir(parents=True, exist_ok=True)
    validation = Evaluation(accuracy, energy, 0.1, [])
    return Result(accuracy, energy, 0.1, 1000, 0.0, [], "none", "test", 10, validation, 1)


def study(directory: Path, storage: str, trials: int) -> list[str]:
    """Make an empty study; the overrides of its workers."""
    from spikefront.commands.sweep import sweep

    address = f"sqlite:///{directory}/study.db" if storage == "sqlite" else f"journal://{directory}/study.log"
    options = ["logger=none", "search/sampler=random", f"search.dir={directory}", "search.study=s"]
    options += [f"search.storage={address}", f"search.n_trials={trials}", "search.default_first=false"]
    found: list[list[str]] = []
    with open(os.devnull, "w") as silence:
        out, sys.stdout = sys.stdout, silence
        try:
            arguments = [*options, *SPACE[:2]]
            sweep(compose(options, root="sweep", with_hydra=True), arguments, lambda group: [], found.extend)
        finally:
            sys.stdout = out
    return found[0]


def work(overrides: list[str], times: Any, barrier: Any = None) -> None:
    """A worker whose training does nothing; puts its seconds and CPU seconds into ``times``."""
    from spikefront.sweeping.worker.worker import Worker

    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    worker = Worker(compose(overrides, root="sweep"), overrides, train=nothing)
    worker.study.get_trials(deepcopy=False)  # what it has read it keeps
    if barrier is not None:
        barrier.wait()
    wall, cpu = time.perf_counter(), time.process_time()
    worker.run()
    times.put((time.perf_counter() - wall, time.process_time() - cpu))


def overhead(trials: int = 100) -> None:
    """One worker, trials that train nothing: all that is measured is the engine."""
    print("| storage | seconds of engine a trial | of those CPU |\n|---|--:|--:|")
    for storage in ("sqlite", "journal"):
        with tempfile.TemporaryDirectory() as directory:
            times = FORK.SimpleQueue()
            overrides = study(Path(directory), storage, trials)
            process = FORK.Process(target=work, args=(overrides, times))
            process.start()
            wall, cpu = times.get()
            process.join()
            print(f"| {storage} | {wall / trials:.4f} | {cpu / trials:.4f} |", flush=True)


def scale(workers: int, minutes: float, trials: int = 256, full: int = 10_000) -> None:
    """Trials a second of many workers on an empty storage and on one that holds almost 10,000 trials."""
    kept = Kept(f"scale-{workers}", minutes)
    print("| storage | trials held | workers | all have read them after, s | trials a second | slower than empty |")
    print("|---|--:|--:|--:|--:|--:|")
    for storage in ("sqlite", "journal"):
        for team in (1, workers):
            empty = None
            for held in (0, full - trials):
                name = f"{storage} {team} {held}"
                if not kept.measure(name, partial(rate, storage, held, team, trials)):
                    sys.exit(f"{len(kept.values)} of 8 cases are measured; the same command goes on")
                read, pace = kept.values[name]
                empty = empty or pace
                print(f"| {storage} | {held} | {team} | {read:.1f} | {pace:.1f} | {empty / pace:.2f}x |", flush=True)
    kept.forget()


def rate(storage: str, held: int, workers: int, trials: int) -> tuple[float, float]:
    """Seconds until all workers are up, and trials a second from then on."""
    with tempfile.TemporaryDirectory() as directory:
        overrides = study(Path(directory), storage, held + trials)
        fill(Path(directory), storage, held)
        barrier, times = FORK.Barrier(workers + 1), FORK.SimpleQueue()
        processes = [FORK.Process(target=work, args=(overrides, times, barrier), daemon=True) for _ in range(workers)]
        began = time.perf_counter()
        for process in processes:
            process.start()
        barrier.wait()
        ready = time.perf_counter()
        for process in processes:
            process.join()
        return ready - began, trials / (time.perf_counter() - ready)


def fill(directory: Path, storage: str, held: int) -> None:
    """Finished trials such as a sweep leaves, written by one process."""
    import optuna

    from spikefront.sweeping.study.study import load

    address = f"sqlite:///{directory}/study.db" if storage == "sqlite" else f"journal://{directory}/study.log"
    opened, _ = load({"dir": directory, "study": "s", "storage": address})
    space = {
        "model.timesteps": optuna.distributions.CategoricalDistribution((1, 2, 4)),
        "neuron.threshold": optuna.distributions.FloatDistribution(0.5, 1.5),
    }
    attributes = {"metrics": {"accuracy": 0.5, "energy": 1e-6}, "seed": 0, "parameters": 1000, "anytime": []}
    trials = [
        optuna.create_trial(
            values=[0.5 + i / 3e4, 1e-6],
            params={"model.timesteps": (1, 2, 4)[i % 3], "neuron.threshold": 0.5 + i / 1e4},
            distributions=space,
            user_attrs=attributes,
        )
        for i in range(held)
    ]
    opened.add_trials(trials)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["overhead", "scale", "compare"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--workers", type=int, default=64, help="of scale")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin nothing more after so many")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and the workers end with it
    for part in arguments.parts:
        if part == "overhead":
            overhead()
        elif part == "scale":
            scale(arguments.workers, arguments.minutes)
        elif part == "compare":
            compare(arguments.seeds, arguments.trials, arguments.minutes)
        else:
            sys.exit(f"no part {part!r}: overhead, scale, compare")
