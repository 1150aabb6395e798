"""Record real trainings, a run a configuration and seed: what a search is replayed on without training anything.

    python benchmarks/tables/record.py digits [--minutes 30]   # train what is missing; the same command goes on
    python benchmarks/tables/record.py pack                    # raw lines into benchmarks/tables/<set>.json.gz
    python benchmarks/tables/record.py status                  # how many runs there are of each

Sets: digits, digits_dvs, patches (patches.py says why). Each run is `spikefront.training.train` on one thread, as a
sweep's trial trains. Of every run are kept: each epoch's validation accuracy and energy after t = 1 … T timesteps,
firing rate, dead and saturated share, losses and seconds (of the process, and by the clock); what the first batches
show of the network (rates by layer, dead and saturated share, spread of the logits); operations, parameters; the test
part's figures at the end; and the pace of the machine around it, which others' work changes.

Raw lines go to DIR (`build/tables`), one each, written at once: a killed process loses the run it was in. Several
processes, of one machine, may share the work. What is packed isn't trained again: an empty DIR is as good.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import gzip
import io
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "src"), str(HERE)]

import pytorch_lightning as pl  # noqa: E402
import torch  # noqa: E402
from filelock import FileLock, Timeout  # noqa: E402
from omegaconf import open_dict  # noqa: E402
from spaces import SETS, Set  # noqa: E402

from spikefront.config import Composer  # noqa: E402
from spikefront.energy import EnergyMeter  # noqa: E402
from spikefront.errors import UserError  # noqa: E402
from spikefront.sweeping.worker.callback import TrialCallback  # noqa: E402
from spikefront.training import Result, train  # noqa: E402

DEFAULT_RAW = ROOT / "build" / "tables"
EARLY = (0, 1, 2, 4, 8)  # training steps before the batch that is looked at
DIGITS = 5  # significant ones that are kept


class Early(pl.Callback):
    """What the first batches show of a network, and what each epoch takes.

    ``seen``: a record of each batch of ``EARLY``. ``marks``: seconds of the process and by the clock, once training
    begins and after every epoch's evaluation.
    """

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.marks: list[tuple[float, float]] = []
        self.operations: dict[str, float] = {}
        self._meter: EnergyMeter | None = None
        self._steps: torch.Tensor | None = None

    def mark(self) -> None:
        self.marks.append((time.process_time(), time.perf_counter()))

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._meter = EnergyMeter(pl_module.model)
        self._hook = pl_module.model.register_forward_hook(self._look)
        self.mark()

    def _look(self, module: torch.nn.Module, args: Any, steps: torch.Tensor) -> None:
        self._steps = steps.detach()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self._meter is not None and batch_idx in EARLY:
            self._meter.reset()
            self._meter.start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self._meter is None or batch_idx not in EARLY:
            return
        self._meter.stop()
        report, logits = self._meter.report(), self._steps.mean(0)  # type: ignore[union-attr]
        self.seen.append(
            {
                "step": batch_idx,
                "loss": float(outputs["loss"]),
                "firing_rate": report.firing_rate,
                "dead": report.dead,
                "saturated": report.saturated,
                "rates": [x.rate for x in report.layers if x.kind in ("spikes", "attention")],
                "logits_between": float(logits.std(0).mean()),  # between samples: 0 where all get one answer
                "logits_within": float(logits.std(1).mean()),  # between classes
            }
        )
        if not self.operations:
            kinds = {"multiply_accumulates": ("analog",), "additions": ("spikes", "attention")}
            self.operations = {
                name: sum(x.potential * x.timesteps for x in report.layers if x.kind in kind)
                for name, kind in kinds.items()
            }
        if batch_idx == EARLY[-1]:
            self._hook.remove()
            self._meter.remove()
            self._meter = None


def run(compose: Composer, of: Set, number: int, params: dict[str, Any], seed: int) -> dict[str, Any]:
    """One training's record. One that diverges or can't be measured has ``failed``, and the epochs until then."""
    cfg, early, epochs = compose(of.space.overrides(params)), Early(), []

    def report(callback: TrialCallback, epoch: int, point: Any) -> None:
        early.mark()
        shown = {k: callback.metrics[f"val/{k}"] for k in ("loss", "dead", "saturated")}
        epochs.append({**{k: point[k] for k in ("anytime", "firing_rate")}, **shown})

    before = pace()
    record: dict[str, Any] = {"of": of.digest, "number": number, "seed": seed, "params": params}
    began, result, failed = (time.process_time(), time.perf_counter()), None, None
    with tempfile.TemporaryDirectory() as directory, quiet():
        with open_dict(cfg):
            cfg.seed, cfg.output_dir = seed, directory
        try:
            result = train(cfg, [TrialCallback(report, lambda: None), early])
        except UserError as error:
            failed = str(error)
    ended = (time.process_time(), time.perf_counter())
    paces = (before, pace())
    marks = early.marks or [ended]
    for i, epoch in enumerate(epochs):
        epoch["cpu"], epoch["wall"] = (marks[i + 1][k] - marks[i][k] for k in (0, 1))
    record |= {"epochs": epochs, "early": early.seen, "operations": early.operations, "failed": failed}
    record["before"] = {"cpu": marks[0][0] - began[0], "wall": marks[0][1] - began[1]}
    record["after"] = {"cpu": ended[0] - marks[-1][0], "wall": ended[1] - marks[-1][1]}
    return {**record, **_end(result), "pace": sum(paces) / 2, "machine": machine()}


def pace() -> float:
    """Seconds of the process that a fixed piece of work takes just now: more when others use the processor's caches and
    the other half of its core, as long as they do."""
    images, layers = torch.ones(64, 16, 8, 8), torch.nn.Sequential(*(torch.nn.Conv2d(16, 16, 3) for _ in range(3)))
    began = time.process_time()
    for _ in range(12):
        layers(images).sum().backward()
    return time.process_time() - began


def _end(result: Result | None) -> dict[str, Any]:
    if result is None:
        return {}
    test = {"anytime": [[p["accuracy"], p["energy_joules"]] for p in result.anytime], "firing_rate": result.firing_rate}
    return {"parameters": result.parameters, "test": test}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What a training says is not what a thousand of them are to say."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), platform.processor())
    return f"{model}, PyTorch {torch.__version__}"


def rounded(value: Any) -> Any:
    """Numbers to as many digits as are kept, in whatever holds them."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {k: v if k == "params" else rounded(v) for k, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, list | tuple) else value


def seconds_of(record: dict[str, Any]) -> float:
    """Of the process, in all."""
    return float(sum(part["cpu"] for part in (record["before"], *record["epochs"], record["after"])))


def raw(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file of raw records."""
    found = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        with contextlib.suppress(json.JSONDecodeError):  # a process was killed as it wrote
            found.append(json.loads(line))
    return found


@functools.cache
def packed(name: str) -> list[dict[str, Any]]:
    """What ``benchmarks/tables/<name>.json.gz`` holds; nothing where there is none."""
    path = HERE / f"{name}.json.gz"
    return json.loads(gzip.decompress(path.read_bytes())) if path.is_file() else []


def known(of: Set, directory: Path) -> dict[tuple[int, int], dict[str, Any]]:
    """Every run that is recorded, by configuration's number and seed.

    Raises:
        SystemExit: some are of another space or other settings.
    """
    every = [*packed(of.name), *raw(directory / f"{of.name}.jsonl")]
    if any(r["of"] != of.digest for r in every):
        sys.exit(f"{of.name}: there are runs of another space or other settings than spaces.py has; move them away")
    return {(r["number"], r["seed"]): r for r in every}


def append(path: Path, record: dict[str, Any]) -> None:
    """A line, whole or not at all but for a kill in the middle of one write, after which the next begins anew."""
    torn = path.is_file() and path.stat().st_size and path.read_bytes()[-1:] != b"\n"
    with path.open("ab", buffering=0) as file:
        file.write((b"\n" if torn else b"") + json.dumps(rounded(record)).encode() + b"\n")


def record(of: Set, directory: Path, minutes: float) -> None:
    """Train what is missing, in order, for so long."""
    end, path = time.monotonic() + 60 * minutes, directory / f"{of.name}.jsonl"
    claims = directory / "claims"
    claims.mkdir(parents=True, exist_ok=True)
    pace()  # the first takes longer
    configurations, compose, there = of.configurations(), Composer(of.overrides), known(of, directory)
    for number, seed in of.jobs():
        if time.monotonic() > end:
            break
        if (number, seed) in there:
            continue
        with contextlib.suppress(Timeout), FileLock(claims / f"{of.name}-{number}-{seed}", timeout=0):
            there = known(of, directory)
            if (number, seed) in there:  # meanwhile, by another process
                continue
            found = run(compose, of, number, configurations[number], seed)
            append(path, found)
            accuracy, energy = found["epochs"][-1]["anytime"][-1] if found["epochs"] else (float("nan"),) * 2
            said = found["failed"] or f"accuracy {accuracy:.3f}, {energy:.3g} J"
            print(
                f"{time.strftime('%H:%M:%S')} {of.name} {number} seed {seed}: {seconds_of(found):.1f} s, {said}",
                flush=True,
            )
            gc.collect()


def pack(directory: Path) -> None:
    for of in SETS.values():
        if every := known(of, directory):
            content = json.dumps([every[job] for job in sorted(every)], separators=(",", ":"))
            with gzip.GzipFile(HERE / f"{of.name}.json.gz", "wb", mtime=0) as file:  # the same runs are the same bytes
                file.write(content.encode())
            packed.cache_clear()
    status(directory)


def status(directory: Path) -> None:
    for of in SETS.values():
        every = known(of, directory)
        first = sum(seed == 0 for _, seed in every)
        thrice = sum(all((n, s) in every for s in range(3)) for n in {n for n, _ in every})
        size = (HERE / f"{of.name}.json.gz").stat().st_size / 1e6 if (HERE / f"{of.name}.json.gz").is_file() else 0.0
        print(f"{of.name}: {len(every)} runs, {first} configurations, {thrice} on three seeds; {size:.2f} MB packed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*SETS, "pack", "status"])
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no training begins")
    parser.add_argument("--raw", type=Path, default=DEFAULT_RAW, metavar="DIR")
    given = parser.parse_args()
    try:
        if given.what in SETS:
            record(SETS[given.what], given.raw, given.minutes)
        else:
            {"pack": pack, "status": status}[given.what](given.raw)
    except KeyboardInterrupt:
        sys.exit("\nstopped; what was recorded stays, the same command goes on")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
