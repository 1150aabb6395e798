"""One point of a study trained again with other seeds: python src/study.py study=demo action=take trial=4 t=1 seeds=5

What a search found best it also chose for its luck. Other seeds say what the configuration gives, and leave a
checkpoint to be used.
"""

from __future__ import annotations

import contextlib
import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from optuna.study import Study
from rich import box
from rich.console import Console
from rich.table import Table

from spikefront import start
from spikefront.analysis.confidence import spread
from spikefront.analysis.schema import Point, StudyRecord, Taken, TrialRecord
from spikefront.cluster.stores import is_address, local
from spikefront.commands.cli import plain
from spikefront.config import compose, override
from spikefront.errors import UserError
from spikefront.sweeping.search.space import Space
from spikefront.sweeping.study import attributes
from spikefront.sweeping.study import storage as storages
from spikefront.sweeping.study import study as studies
from spikefront.sweeping.study.records import records, taking
from spikefront.units import figure

SEEDS = 1000  # that may ever be asked for
WAYS = {"search.workers": "workers", "hydra/launcher": "launcher"}
RESERVED = ("search.study", "search.dir", "search.n_trials", "search.warm_start", "search.space", "seed")


def take(study: Study, cfg: Mapping[str, Any], console: Console) -> None:
    """Train one trial's configuration with other seeds than chose it, as a study of its own, and tell what its point
    is worth: mean and deviation over the seeds beside what the sweep said, and a checkpoint that stops at its t.

    Raises:
        UserError: no such trial or point, none with a result, a sweep of the seeds that failed.
        KeyboardInterrupt: stopped; the same command goes on.
    """
    from spikefront.sweeping.worker.stored import check_study

    found, wanted = records(study, volumes=False), cfg["seeds"]
    if not isinstance(wanted, int) or not 1 <= wanted <= SEEDS:
        raise UserError(f"seeds={wanted}: give a whole number from 1 to {SEEDS}")
    if not cfg["trust"]:
        check_study(study, compose([], root="sweep"), [], "trust")
    point = chosen(found, cfg["trial"], cfg["t"])
    trial = found["trials"][point["number"]]
    whole = studies.record(study)["path"]
    place = _place(study, f"{study.study_name}-trial-{trial['number']}", cfg["storage"])
    arguments = _arguments(study, trial, place, wanted, cfg)
    try:
        _train(arguments, trial, wanted)
    finally:  # whoever looks at the seeds' study is told this command, not the sweep's
        with contextlib.suppress(UserError):
            more = [f"seeds={wanted}", *([] if point["t"] is None else [f"t={point['t']}"])]
            attributes.LINE.set(studies.load(place)[0], taking(whole, trial["number"], *more))
    seeds = studies.load(place)[0]
    other = records(seeds, volumes=False)
    taken = _taken(point, other, wanted)
    kept = [t for t in attributes.TAKEN.get(study) if (t["number"], t["t"]) != (taken["number"], taken["t"])]
    attributes.TAKEN.set(study, [*kept, taken])
    _log(study, arguments)
    console.print(_table(point, taken))
    console.print(_curse(point, taken, found))
    checkpoint = _checkpoint(seeds, other, taken)
    console.print(f"checkpoint: {checkpoint}")
    console.print(start.typed("evaluate", override("checkpoint", str(checkpoint))))


def chosen(found: StudyRecord, number: int | None, t: int | None) -> Point:
    """The point of a study that is meant: the most accurate of the front, that of a trial on the front, or any named.

    Raises:
        UserError: there is none.
    """
    if not found["points"]:
        raise UserError(f"the study '{found['study']}' has no finished trial yet")
    own = [p for p in found["points"] if number in (None, p["number"])]
    if not own:
        there = sorted({p["number"] for p in found["points"]})
        raise UserError(f"trial={number} has no result; these have: {', '.join(map(str, there))}")
    there = sorted({p["t"] for p in own if p["t"]})
    own = [p for p in own if t in (None, p["t"])]
    if not own:
        whose = "the trials" if number is None else f"trial {number}"
        has = f"are those of t = {', '.join(map(str, there))}" if there else "have no t: leave it out"
        raise UserError(f"t={t}: the points of {whose} {has}")
    return next((p for p in reversed(found["front"]) if p in own), own[-1])


def _place(study: Study, name: str, storage: str | None) -> dict[str, str | None]:
    """Where the seeds' study lies: beside this one, and at an address, where there is no database, in its storage."""
    folder, _, _ = studies.record(study)["path"].rstrip("/").rpartition("/")
    if is_address(folder) and storage is None:
        storage = storages.url({"study": study.study_name, "dir": folder})
    return {"study": name, "dir": folder, "storage": storage}


def _arguments(
    study: Study, trial: TrialRecord, place: Mapping[str, Any], wanted: int, cfg: Mapping[str, Any]
) -> list[str]:
    """Of ``sweep.py``."""
    more = [cfg["sweep"]] if isinstance(cfg["sweep"], str) else cfg["sweep"] or []
    given = [override(k, cfg[v]) for k, v in WAYS.items() if cfg[v] is not None] + [str(o) for o in more]
    if reserved := [o for o in given if o.lstrip("+").partition("=")[0] in RESERVED]:
        raise UserError(f"sweep={reserved}: {', '.join(RESERVED)} are what action=take decides itself")
    made = studies.record(study)
    params = {k: v for k, v in trial["params"].items() if k != "seed"}
    threads = trial["threads"]
    shared = studies.retraining(made, Space.stored(made["space"]), params, threads)
    shared = [o for o in shared if not o.startswith("seed=")]
    first = 1 + max([int(s["seed"]) for s in trial["seeds"]] or [trial["seed"] or 0])
    own = {**{f"search.{k}": v for k, v in place.items() if v}, "search.objectives": made["objectives"]}
    own |= {
        "search.n_trials": wanted,
        "search.default_first": False,
        "search.warm_start": _queue(study, trial, first, wanted),
    }
    return [
        *shared,
        f"seed=range({first},{first + SEEDS})",
        "search/sampler=grid",
        *(override(k, v) for k, v in own.items()),
        *given,
    ]


def _queue(study: Study, trial: TrialRecord, first: int, wanted: int) -> str:
    """A file with the seeds in their order, as a grid draws from all."""
    path = local(studies.record(study)["path"]) / "taken" / f"trial-{trial['number']}-{wanted}-seeds.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["seed"], *([seed] for seed in range(first, first + wanted))])
    return str(path)


def _train(arguments: Sequence[str], trial: TrialRecord, wanted: int) -> None:
    """Run the sweep, in a process of its own as any is."""
    from spikefront.sweeping.worker.processes import run_sweep

    if run_sweep([*start.another("sweep"), "-m", *arguments]):
        raise UserError(f"trial {trial['number']} could not be trained with {wanted} seeds: see above")


def _log(study: Study, arguments: Sequence[str]) -> None:
    """Have the study's W&B run show what was taken, if the seeds' trainings are logged there."""
    from spikefront.tracking.wandb.study_run import StudyRun  # wandb takes its time to import

    logger = plain(compose([o for o in arguments if re.match(r"\+*logger\b", o)], root="sweep").get("logger"))
    where = local(studies.record(study)["path"])
    if (run := StudyRun.of(logger, study.study_name, studies.wandb_id(study, ""), where)) is not None:
        run.tell(records(study, importance=True))


def _taken(point: Point, other: StudyRecord, wanted: int) -> Taken:
    """What the seeds came to at the point's timestep."""
    own = [p for p in other["points"] if (p["final"] if point["t"] is None else p["t"] == point["t"])]
    own = sorted(own, key=lambda p: int(p["params"]["seed"]))[:wanted]
    if not own:
        raise UserError(f"no seed of trial {point['number']} has a result: see study={other['study']}")
    return {
        "number": point["number"],
        "t": point["t"],
        "study": other["study"],
        "seeds": [int(p["params"]["seed"]) for p in own],
        "trials": [p["number"] for p in own],
        "values": {n: [p["values"][n] for p in own] for n in point["values"]},
        "tested": [a for p in own if (a := p["test"].get("accuracy")) is not None],
    }


def _table(point: Point, taken: Taken) -> Table:
    names = list(point["values"])
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False, title_justify="left")
    stop = "" if point["t"] is None or point["final"] else f", stopped at t = {point['t']}"
    table.title = f"trial {point['number']}{stop}"
    table.add_column("")
    for name in (*names, "test accuracy"):
        table.add_column(name, justify="right", no_wrap=True)
    tested = point["test"].get("accuracy")
    table.add_row("the sweep said", *(figure(n, v) for n, v in point["values"].items()), _one("accuracy", tested))
    seeds = taken["seeds"]
    several = f"{len(seeds)} other seeds" if len(seeds) > 1 else f"seed {seeds[0]}"
    table.add_row(several, *(_spread(n, taken["values"][n]) for n in names), _spread("accuracy", taken["tested"]))
    return table


def _one(name: str, value: float | None) -> str:
    return "" if value is None else figure(name, value)


def _spread(name: str, values: Sequence[float]) -> str:
    if not values:
        return ""
    mean_, deviation = spread(values)
    return figure(name, mean_) + (f" ± {figure(name, deviation)}" if len(values) > 1 else "")


def _curse(point: Point, taken: Taken, found: StudyRecord) -> str:
    """How much of the sweep's accuracy was luck."""
    if "accuracy" not in point["values"]:
        return ""
    above = point["values"]["accuracy"] - mean(taken["values"]["accuracy"])
    among = sum(t["state"] == "complete" for t in found["trials"])
    if above > 0 and not point["member"]:
        return f"the sweep's one training was {above:.4f} more accurate than other seeds are"
    if above > 0:
        return f"chosen as one of the best of {among} trials, it was {above:.4f} more accurate than other seeds are"
    return f"other seeds are {-above:.4f} more accurate: the sweep's figure was not luck"


def _checkpoint(seeds: Study, other: StudyRecord, taken: Taken) -> Path:
    """The best seed's network as one that ends at the point's timestep, whoever evaluates or deploys it."""
    import torch

    from spikefront.nn.checkpoints import configuration, read_checkpoint

    first = other["objectives"][0]
    sign = 1.0 if first["direction"] == "maximize" else -1.0
    best = max(range(len(taken["seeds"])), key=lambda i: sign * taken["values"][first["name"]][i])
    studies.bring(seeds, taken["trials"][best])
    directory = studies.trial_directory(studies.record(seeds), taken["trials"][best])
    trained = Path(json.loads((directory / "result.json").read_text(encoding="utf-8"))["checkpoint"])
    own = directory / "checkpoints" / trained.name  # the same, where another machine trained it
    content = read_checkpoint(own if own.is_file() else trained)
    config = configuration(content)
    assert config is not None
    if taken["t"] is not None:
        if "frames" in config["data"]:
            config["data"]["frames"] = config["data"]["frames"] or config["model"]["timesteps"]
        config["model"]["timesteps"] = taken["t"]
    path = Path(other["path"]) / (f"t{taken['t']}.ckpt" if taken["t"] is not None else "best.ckpt")
    torch.save({"state_dict": content["state_dict"], "hyper_parameters": {"config": config}}, path)
    return path
