"""A study's state, its front, exports, retries, retraining: python src/study.py study=demo action=front"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from optuna.study import Study
from optuna.trial import TrialState
from rich.console import Console

from spikefront.analysis.schema import StudyRecord, TrialRecord
from spikefront.cluster import queue as slurm
from spikefront.commands.cli import entry
from spikefront.console import console as plain_console
from spikefront.errors import UserError, near_matches
from spikefront.sweeping.study import accounts, attributes
from spikefront.sweeping.study import storage as storages
from spikefront.sweeping.study import study as studies
from spikefront.sweeping.study.records import records
from spikefront.sweeping.study.sources import open_study
from spikefront.tracking.pages.front_table import front_table, write_front_html
from spikefront.units import si


@entry("study")
def main(cfg: DictConfig) -> None:
    """Do what ``action=`` says."""
    inspect(cfg)


def inspect(cfg: DictConfig) -> None:
    """Run one action of ``conf/study.yaml``.

    Raises:
        UserError: an unknown action, no such study, a trial that isn't on the front, an output of another kind.
    """
    actions = {"status": status, "front": front, "export": export, "retry": retry, "best": best}
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
    finished = sum(t["state"] in ("complete", "pruned") and not t["known"] for t in trials)
    console.print(f"study {found['study']}: {finished} of {found['budget']} trials finished")
    console.print(", ".join(f"{n} {state}" for state, n in counts.items()) or "no trials yet")
    jobs = _jobs(study)
    for t in trials:
        if t["state"] == "running":
            params = " ".join(f"{k}={v}" for k, v in t["params"].items())
            where = jobs.get(t["number"], "")
            since = (t["started"] or "")[:19]
            console.print(f"  trial {t['number']} runs since {since}, epoch {t['epochs']}: {params}{where}")
        elif t["state"] == "failed":
            console.print(f"  trial {t['number']} failed: {t['reason']}")
    left = _left(trials, found["budget"], counts["running"])
    if left is not None:
        console.print(f"about {si(left, 's') if left < 60 else f'{left / 60:.0f} min'} left")
    if found["front"]:
        console.print(front_table(found))
        console.print(f"hypervolume {found['hypervolume']:.4g} (reference {found['reference']})")
    for line in importance_lines(found):
        console.print(line)


def importance_lines(found: StudyRecord) -> Iterator[str]:
    """A line for each objective: the share of its variance that each parameter explains."""
    for objective, shares in found["importance"].items():
        if shares:
            yield f"what {objective} depends on: " + ", ".join(f"{k} {v:.0%}" for k, v in shares.items())


def front(study: Study, cfg: Mapping[str, Any], console: Console) -> None:
    """The front as a table, and its plot."""
    found = records(study)
    console.print(front_table(found))
    console.print(f"plot: {write_front_html(found, Path(found['path']) / 'front.html')}")


def export(study: Study, cfg: Mapping[str, Any], console: Console) -> None:
    """Every trial into a file: JSON holds the whole records, CSV a row a trial."""
    found = records(study)
    path = Path(cfg["output"] or Path(found["path"]) / "trials.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json":
        path.write_text(json.dumps(found, indent=1), encoding="utf-8")
    elif path.suffix == ".csv":
        rows = [
            {
                **{k: t[k] for k in ("number", "state", "on_front", "epochs", "seconds", "parameters", "reason")},
                **t["values"],
                **{f"test_{k}": v for k, v in t["test"].items() if isinstance(v, int | float)},
                **t["params"],
            }
            for t in found["trials"]
        ]
        with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            table = csv.DictWriter(file, list(dict.fromkeys(k for row in rows for k in row)))
            table.writeheader()
            table.writerows(rows)
    else:
        raise UserError(f"output={path}: name a .csv or a .json file")
    console.print(f"{len(found['trials'])} trials in {path}")


def retry(study: Study, cfg: Mapping[str, Any], console: Console) -> None:
    """Queue failed trials' parameters again, each once."""
    failed = accounts.account(study).failed
    for t in failed:
        attributes.enqueue(study, t.params, attributes.retry_of(t))
    console.print(f"{len(failed)} failed trials are back in the queue; the sweep's command runs them")


def best(study: Study, cfg: Mapping[str, Any], console: Console) -> None:
    """The commands that retrain a front member on several seeds."""
    found = records(study)
    numbers = [p["number"] for p in found["front"]]
    if not numbers:
        raise UserError(f"the study '{study.study_name}' has no finished trial yet")
    number = numbers[-1] if cfg["trial"] is None else cfg["trial"]
    if number not in numbers:
        raise UserError(
            f"trial={number} is not on the front; its trials are {', '.join(map(str, sorted(set(numbers))))}"
        )
    command = found["trials"][number]["command"]
    for seed in range(cfg["seeds"]):
        print(f"{command} seed={seed}")


def _jobs(study: Study) -> dict[int, str]:
    """What SLURM says of each running trial's job."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    ids = {t.number: job for t in running if (job := (attributes.lease(t) or {}).get("job"))}
    queue = slurm.queue(f"--jobs={','.join(ids.values())}") if ids else {}
    said = {}
    for number, job in ids.items():
        state = "state unknown: no answer from squeue" if queue is None else "no longer in SLURM's queue"
        if queue and job in queue:
            state = f"{queue[job].state} on {queue[job].where}"
        said[number] = f"  (SLURM job {job} {state})"
    return said


def _left(trials: list[TrialRecord], budget: int | None, running: int) -> float | None:
    """Seconds left at the pace so far: mean time of a trial, times those to go, over the workers busy now."""
    done = [t for t in trials if t["state"] in ("complete", "pruned") and not t["known"]]
    if not done or not budget or not running or len(done) >= budget:
        return None
    times = [t["spent"].get("seconds") or _seconds(t["started"], t["finished"]) for t in done]
    return sum(times) / len(times) * (budget - len(done)) / running


def _seconds(start: str | None, end: str | None) -> float:
    if not start or not end:
        return 0.0
    return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())
