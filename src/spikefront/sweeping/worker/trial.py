"""One trial's training: every seed of its configuration, each to its end once, however often it is interrupted."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, open_dict

from spikefront.analysis.schema import EpochPoint, Step, Tested
from spikefront.errors import UserError, one_line
from spikefront.files import write_atomically
from spikefront.sweeping.study.attributes import Outcome
from spikefront.sweeping.worker.callback import TrialCallback
from spikefront.training import Diverged, Evaluation, Result
from spikefront.training.devices import threads_each
from spikefront.training.preemption import LAST

DONE = "trial.json"


def run(
    train: Callable[..., Result],
    cfg: DictConfig,
    output: Path,
    seeds: int,
    label: Callable[[DictConfig, str], None],
    report: Callable[[TrialCallback, int, EpochPoint], None],
    check: Callable[[], None],
    judge: Callable[[Outcome], bool | None],
    stop: Callable[[Path], pl.Callback],
) -> Outcome:
    """Train a configuration once a seed; what is to be known of the trial, means over the seeds.

    Continues from the checkpoints in ``output``, or only reads what a worker wrote that died before it told.

    Args:
        label: names a run for its logger; gets its configuration and ``-<seed's place>`` if there are several.
        report: gets each epoch's point of the first seed.
        check: called after each batch; raises to end the run, nothing saved.
        judge: whether what a whole trial came to is on the front as it ends, to be logged beside it.
        stop: from a checkpoint's path the callback that interrupts a run, checkpointed.
    """
    outcomes: list[Outcome] = []
    for i in range(seeds):
        seeded, directory = (cfg, output) if seeds == 1 else (cfg.copy(), output / f"seed_{i}")
        with open_dict(seeded):
            seeded.seed = cfg.seed + i
            seeded.threads = cfg.get("threads") or threads_each(cfg.trainer)  # its checkpoint says with how many
            seeded.output_dir = str(directory)
            if (directory / LAST).is_file():
                seeded.resume = str(directory / LAST)
            label(seeded, f"-{i}" if seeds > 1 else "")
        if not (directory / DONE).is_file():
            outcome = _once(
                train,
                seeded,
                directory,
                report if i == 0 else _nothing,
                check,
                judge if seeds == 1 else _unjudged,
                stop,
            )
            write_atomically(directory / DONE, json.dumps(outcome))
        outcomes.append(json.loads((directory / DONE).read_text(encoding="utf-8")))
    return outcomes[0] if seeds == 1 else _together(outcomes)


def _once(
    train: Callable[..., Result],
    cfg: DictConfig,
    output: Path,
    report: Callable[[TrialCallback, int, EpochPoint], None],
    check: Callable[[], None],
    judge: Callable[[Outcome], bool | None],
    stop: Callable[[Path], pl.Callback],
) -> Outcome:
    callback = TrialCallback(report, check, lambda result: judge(_outcome(result, callback, cfg.seed)))
    result = train(cfg, [callback, stop(output / LAST)])
    return {**_outcome(result, callback, cfg.seed), "front_then": callback.on_front}


def _nothing(*_: Any) -> None: ...


def _unjudged(_: Any) -> None: ...


def _outcome(result: Result, callback: TrialCallback, seed: int) -> Outcome:
    validation = result.validation
    assert validation is not None
    if result.latency_seconds is not None:  # of the deployed network, in place of the last evaluation's
        callback.metrics["latency"] = result.latency_seconds
    tested: Tested = {
        "accuracy": result.accuracy,
        "energy_joules": result.energy_joules,
        "samples": result.samples,
        "anytime": _steps(result.anytime),
    }
    if result.confused:
        tested |= {"confused": result.confused, "wrong": result.wrong}
    return {
        **outcome(validation, callback, result.parameters, result.seconds, seed),
        "test": tested,
        "epochs": result.epochs,
        "threads": result.threads,
        **({"described": result.data} if result.data else {}),
    }


def outcome(validation: Evaluation, callback: TrialCallback, parameters: int, seconds: float, seed: int) -> Outcome:
    """What is known of a network once it is evaluated on the validation part, which ``callback`` has watched."""
    metrics = {
        **callback.metrics,
        "accuracy": validation.accuracy,
        "energy": validation.energy_joules,
        "firing_rate": validation.firing_rate,
        "parameters": parameters,
        "seconds": seconds,
    }
    return {
        "metrics": {k: v for k, v in metrics.items() if math.isfinite(v)},
        "undefined": sorted(k for k, v in metrics.items() if not math.isfinite(v)),
        "anytime": _steps(validation.anytime),
        "samples": validation.samples,
        "firing_rate": validation.firing_rate,
        "parameters": parameters,
        "seconds": seconds,
        "convention": callback.convention,
        "twin_joules": callback.twin_joules,
        "energy_groups": callback.groups,
        "energy_layers": callback.layers,
        "seed": seed,
    }


def check_defined(came: Outcome, objectives: Iterable[str]) -> None:
    """Raise Diverged if an objective came to no number."""
    if undefined := set(came.get("undefined", ())) & set(objectives):
        raise Diverged(f"{', '.join(sorted(undefined))} came to no finite number")


def _steps(points: Sequence[Mapping[str, float]]) -> list[Step]:
    return [{"t": int(p["t"]), "accuracy": p["accuracy"], "energy_joules": p["energy_joules"]} for p in points]


def _together(outcomes: Sequence[Outcome]) -> Outcome:
    """Means over the seeds; ``seeds`` keeps each one's metrics and ``spread`` their standard deviations."""
    metrics = [o["metrics"] for o in outcomes]
    means: Outcome = _mean([{k: v for k, v in o.items() if k != "undefined"} for o in outcomes])
    for step, own in zip(means["anytime"], zip(*(o["anytime"] for o in outcomes), strict=True), strict=True):
        step["accuracies"] = [s["accuracy"] for s in own]
    return {
        **means,
        "seconds": sum(o["seconds"] for o in outcomes),
        "epochs": sum(o["epochs"] for o in outcomes),
        "undefined": sorted({name for o in outcomes for name in o["undefined"]}),
        "seed": outcomes[0]["seed"],
        "seeds": [{"seed": o["seed"], **o["metrics"]} for o in outcomes],
        "spread": {k: float(np.std([m[k] for m in metrics], ddof=1)) for k in _common(metrics)},
    }


def _mean(values: Sequence[Any]) -> Any:
    """Of numbers, and of lists and mappings of them; the first of anything else."""
    first = values[0]
    if isinstance(first, Mapping):
        return {k: _mean([v[k] for v in values]) for k in _common(values)}
    if isinstance(first, list):
        return [_mean(v) for v in zip(*values, strict=True)]
    if isinstance(first, int | float) and not isinstance(first, bool):
        mean = sum(values) / len(values)
        return int(mean) if all(isinstance(v, int) for v in values) and mean == int(mean) else mean
    return first


def _common(mappings: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    return (k for k in mappings[0] if all(k in m for m in mappings))


def reason(error: BaseException) -> str:
    """Why a trial failed, in a line."""
    memory = isinstance(error, torch.OutOfMemoryError | MemoryError) or "out of memory" in str(error)
    if memory and not isinstance(error, UserError):
        return "out of memory"
    return one_line(error)
