"""A study's state, its front, exports, retries, retraining: python src/study.py study=demo action=front"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from optuna.study import Study
from optuna.trial import TrialState
from rich.console import Console

from spikefront.analysis import fleet
from spikefront.analysis.progress import finished, left, to_go
from spikefront.analysis.schema import Point, StudyRecord, TrialRecord
from spikefront.analysis.silence import silent
from spikefront.cluster import queue as slurm
from spikefront.cluster.jobs import RAY
from spikefront.commands.cli import entry
from spikefront.commands.take import chosen, take
from spikefront.console import console as plain_console
from spikefront.errors import UserError, near_matches
from spikefront.sweeping.study import accounts, attributes
from spikefront.sweeping.study import storage as storages
from spikefront.sweeping.study import study as studies
from spikefront.sweeping.study.records import records
from spikefront.sweeping.study.sources import open_study
from spikefront.tracking.pages.front_table import front_table, volumes_told, write_front_html
from spikefront.units import duration, figure


@entry("study")
def main(cfg: DictConfig) -> None:
    """Do what ``action=`` says."""
    inspect(cfg)


def inspect(cfg: DictConfig) -> None:
    """Run one action of ``conf/study.yaml``.

    Raises:
        UserError: an unknown action, no such study, a trial that isn't on the front, an output of another kind.
    """
    actions = {"status": status, "front": front, "export": export, "retry": retry, "best": best, "take": take}
    if cfg["action"] not in actions:
        raise UserError(f"action={cfg['action']} does not exist; {near_matches(cfg['action'], actions)}")
    study = open_study(str(cfg["study"]), cfg["dir"], cfg["storage"])
    with storages.storage_errors(studies.record(study)["storage"]):
        actions[cfg["action"]](study, cfg, plain_console(soft_wrap=True))


def status(study: Study, cfg: Mapping[str, Any], console: Console) -> None:
    """Trials by state, running ones, time left, front, hypervolume, importance."""
    found = records(study, importance=True)
    trials = found["trials"]
    counts = Counter(t["state"] for t in trials)
    console.print(f"study {found['study']}: {finished(trials)} of {found['budget']} trials finished")
    console.print(", ".join(f"{n} {state}" for state, n in counts.items()) or "no trials yet")
    jobs = _jobs(study)
    for t in trials:
        params = " ".join(f"{k}={v}" for k, v in t["params"].items())
        epochs = f"epoch {t['epochs']} of {t['asked_epochs'] or '?'}"
        if t["state"] == "running":
            where, rest = jobs.get(t["number"], ""), to_go(t)
            since = f"runs since {(t['started'] or '')[:19]}, {epochs}"
            about = "" if rest is None else f", about {duration(rest)} left"
            console.print(f"  trial {t['number']} {since}{about}: {params}{where}")
        elif t["state"] == "waiting" and t["epochs"]:
            console.print(f"  trial {t['number']} waits and goes on from {epochs}: {params}")
        elif t["state"] == "failed":
            console.print(f"  trial {t['number']} failed: {t['reason']}")
    for line in fleet.lines(found):
        console.print(line)
    remaining = left(trials, found["budget"])
    if remaining is not None:
        console.print(f"about {duration(remaining)} left")
    if found["command"] and not counts["running"] and finished(trials) < (found["budget"] or 0):
        console.print(f"it goes on with: {found['command']}")
    if found["front"]:
        console.print(front_table(found, console.width))
        worst = ", ".join(f"{name} {figure(name, value)}" for name, value in found["reference"].items())
        console.print(f"{volumes_told(found)} (what dominates {worst})")
    for line in importance_lines(found):
        console.print(line)


def importance_lines(found: StudyRecord) -> Iterator[str]:
    """A line for each objective: the share of its variance that each parameter explains."""
    for objective, shares in found["importance"].items():
        spread = found["importance_spread"].get(objective, {})
        if shares:
            told = (f"{k} {v:.0%} ± {spread.get(k, 0.0):.0%}" for k, v in shares.items())
            yield f"what {objective} depends on: " + ", ".join(told)


def front(study: Study, cfg: Mapping[str, Any], console: Console) -> None:
    """The front as a table, and its plot."""
    found = records(study)
    console.print(front_table(found, console.width))
    console.print(f"plot: {write_front_html(found, Path(found['path']) / 'front.html')}")


def export(study: Study, cfg: Mapping[str, Any], console: Console) -> None:
    """The study into a file: JSON holds the whole records, CSV a row a point, and one for a trial that has none."""
    found = records(study)
    path = Path(cfg["output"] or Path(found["path"]) / "trials.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json":
        path.write_text(json.dumps(found, indent=1), encoding="utf-8")
    elif path.suffix == ".csv":
        rows = rows_of(found)
        with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            table = csv.DictWriter(file, list(dict.fromkeys(k for row in rows for k in row)))
            table.writeheader()
            table.writerows(rows)
    else:
        raise UserError(f"output={path}: name a .csv or a .json file")
    console.print(f"{len(found['trials'])} trials, {len(found['points'])} points in {path}")


def rows_of(found: StudyRecord) -> list[dict[str, Any]]:
    """A row a point, by trial and timestep, and one for each trial that has none."""
    own: dict[int, list[Point]] = {}
    for point in found["points"]:
        own.setdefault(point["number"], []).append(point)
    return [row for t in found["trials"] for row in _rows(t, own.get(t["number"], []))]


def _rows(trial: TrialRecord, points: Sequence[Point]) -> Iterator[dict[str, Any]]:
    """A trial's rows: what is the trial's is in each of them."""
    head: dict[str, Any] = {"number": trial["number"], "state": trial["state"]}
    whole: dict[str, Any] = {k: trial[k] for k in ("epochs", "seconds", "parameters", "origin", "reason")}  # type: ignore[literal-required]
    whole |= {"silent": silent(trial) if points else None, **trial["params"]}
    for p in points:
        low, high = p["interval"] or (None, None)
        yield {
            **head,
            "t": p["t"],
            "final": p["final"],
            "on_front": p["member"],
            "near_front": p["near"],
            **p["values"],
            "accuracy_low": low,
            "accuracy_high": high,
            "samples": p["samples"],
            **{f"test_{k}": p["test"].get(k) for k in ("accuracy", "energy_joules", "samples")},
            **whole,
        }
    if not points:
        yield {**head, **whole}


def retry(study: Study, cfg: Mapping[str, Any], console: Console) -> None:
    """Queue failed trials' parameters again, each once."""
    failed = accounts.account(study).failed
    for t in failed:
        attributes.enqueue(study, t.params, attributes.retry_of(t))
    console.print(f"{len(failed)} failed trials are back in the queue; the sweep's command runs them")


def best(study: Study, cfg: Mapping[str, Any], console: Console) -> None:
    """The command that trains a point's trial as it was, and the one that takes the point; beside them, to stderr, what
    it is."""
    found = records(study, volumes=False)
    point = chosen(found, cfg["trial"], cfg["t"])
    trial = found["trials"][point["number"]]
    where = "on the front" if point["member"] else "not on the front"
    stop = "" if point["t"] is None else f", t = {point['t']}{'' if point['final'] else ' (stopped early)'}"
    values = ", ".join(f"{n} {figure(n, v)}" for n, v in point["values"].items())
    print(trial["command"])
    print(trial["take"] or "", *([] if point["t"] is None else [f"t={point['t']}"]), flush=True)
    how = "as it was" if not trial["known"] else f"here, as it is known as {trial['origin']}"
    note = f"trial {point['number']}{stop}, {where}: {values}; the first trains it {how}, the second with other seeds"
    plain_console(stderr=True, soft_wrap=True).print(note)


def _jobs(study: Study) -> dict[int, str]:
    """What SLURM says of each running trial's job, and on which of Ray's nodes others run."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    jobs = {t.number: job for t in running if (job := (attributes.lease(t) or {}).get("job"))}
    said = {n: f"  (Ray node {job.removeprefix(RAY)[:8]})" for n, job in jobs.items() if job.startswith(RAY)}
    ids = {number: job for number, job in jobs.items() if number not in said}
    queue = slurm.queue(f"--jobs={','.join(ids.values())}") if ids else {}
    for number, job in ids.items():
        state = "state unknown: no answer from squeue" if queue is None else "no longer in SLURM's queue"
        if queue and job in queue:
            state = f"{queue[job].state} on {queue[job].where}"
        said[number] = f"  (SLURM job {job} {state})"
    return said
