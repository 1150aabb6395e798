"""A study's own W&B run: the live front, hypervolume, importance, parallel coordinates and anytime curves."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from spikefront.analysis.confidence import spread
from spikefront.analysis.front import axes, completed
from spikefront.analysis.schema import StudyRecord
from spikefront.tracking.wandb.client import PATIENCE, Client, Mode, check_names, mode_of
from spikefront.tracking.wandb.parts import amend

HERE = Path(__file__).parent
CHART = "spikefront-front"  # the custom chart's name in the entity's account
EVERY = 15.0  # seconds between two drawings while trials come in


class StudyRun:
    """The W&B run of a whole study, group and name those of the study, job type ``study``.

    It also keeps the trials' runs right: one that others dominate by now loses ``on_front`` and its artifact's alias
    ``front``.
    """

    def __init__(self, init: Mapping[str, Any], online: bool, run_id: str, patience: float = PATIENCE) -> None:
        self._id, self._trials = run_id, Path(init["dir"]) / "trials"
        self._client = Client({**init, "id": f"{run_id}study"}, online, patience)
        self._client.do(lambda run: run.define_metric("*", step_metric="trials"), in_each_part=True)
        self._logged, self._front, self._said = 0, "", -EVERY
        self._marked: dict[int, bool] = {}
        self._client.do(self._register)

    @staticmethod
    def mode(logger: Any) -> Mode:
        """How a sweep with this logger is told to W&B: ``disabled`` for other loggers.

        Raises:
            UserError: a mode that there is not, a project or a tag that W&B does not take.
        """
        if not isinstance(logger, Mapping) or not str(logger.get("_target_", "")).endswith("wandb_logger"):
            return "disabled"
        if (mode := mode_of(logger.get("mode", "auto"))) != "disabled":
            check_names(logger["project"], logger.get("tags") or [])
        return mode

    @classmethod
    def of(cls, logger: Any, study: str, run_id: str, directory: Path) -> StudyRun | None:
        """The study's run where ``logger`` is ``conf/logger/wandb.yaml``; None for other loggers, and where W&B is
        disabled.

        Args:
            run_id: what the ids of the study's runs begin with.
        """
        if (mode := cls.mode(logger)) == "disabled":
            return None
        directory.mkdir(parents=True, exist_ok=True)
        init = {"project": logger["project"], "entity": logger.get("entity"), "dir": str(directory)}
        init |= {"name": study, "group": study, "job_type": "study", "tags": list(logger.get("tags") or [])}
        return cls(init, mode == "online", run_id, float(logger.get("patience", PATIENCE)))

    def due(self, records: StudyRecord) -> bool:
        """Whether something has ended since the last time, some seconds ago."""
        return self._ended(records) != self._logged and time.monotonic() - self._said > EVERY

    def update(self, records: StudyRecord) -> None:
        """Log the study as it is now."""
        self._logged, self._said = self._ended(records), time.monotonic()
        self._log(records)

    @staticmethod
    def _ended(records: StudyRecord) -> int:
        return sum(t["state"] in ("complete", "pruned", "failed", "infeasible") for t in records["trials"])

    def tell(self, records: StudyRecord) -> None:
        """Log the study once more, after its sweep, and end the run."""
        self._log(records, last=True)
        self._client.close()

    def close(self, records: StudyRecord) -> None:
        """Log the study as it is now, whole or not, set the trials' runs right, and end the run."""
        self._log(records, last=True)
        for t in completed(records["trials"]):
            if not t["known"] and self._marked.get(t["number"], t["front_then"]) not in (None, t["on_front"]):
                self._client.do(self._mark, t["number"], t["on_front"])
        self._client.close()

    def _register(self, run: Any) -> None:
        """Give the account the custom chart, if it hasn't got it; offline its place is taken by W&B's own scatter."""
        self._chart = "wandb/scatter/v0"
        if self._client.online:
            api, spec = wandb.Api(), chart_spec()
            with contextlib.suppress(Exception):  # it is there, or charts can't be made with this key
                api.create_custom_chart(run.entity, CHART, "Accuracy-energy front", "vega2", "private", spec)
            self._chart = f"{run.entity}/{CHART}"

    def _log(self, records: StudyRecord, last: bool = False) -> None:
        row = summary(records)
        front = json.dumps([(p["number"], p["t"]) for p in records["front"]])
        drawn = last or front != self._front
        self._front = front
        self._client.do(self._write, row, records if drawn and records["front"] else None, last)

    def _write(self, run: Any, row: dict[str, Any], records: StudyRecord | None, last: bool) -> None:
        from spikefront.tracking.pages import figures  # plotly takes its time to import

        if records is not None:
            gain, cost = axes(records["objectives"])
            columns, rows = front_rows(records)
            table = wandb.Table(columns=columns, data=rows, allow_mixed_types=True)
            colour = next((c for c in columns if c in records["front"][0]["params"]), "trial")
            fields = {"x": cost, "y": gain, "colour": colour}
            row["front"] = wandb.plot_table(self._chart, table, fields, {"title": f"Front of {records['study']}"})
            row["front/chart"] = wandb.Plotly(figures.front_figure(records))
            if (gain, cost) == ("accuracy", "energy"):
                row["anytime"] = wandb.Plotly(figures.anytime_figure(records))
        if records is not None and last:
            row["parallel coordinates"] = wandb.Plotly(figures.parallel_figure(records))
            row["hypervolume/trials"] = wandb.Plotly(figures.hypervolume_figure(records))
            if any(records["importance"].values()):
                row["importance"] = wandb.Plotly(figures.importance_figure(records))
            if records["taken"]:
                columns, rows = taken_rows(records)
                row["taken"] = wandb.Table(columns=columns, data=rows, allow_mixed_types=True)
        run.log(row)

    def _mark(self, run: Any, number: int, on_front: bool) -> None:
        """Have a trial's run say what the whole study says of it; a warm start's known points have none."""
        if self._client.online:
            _mark_online(run, f"{self._id}{number}", on_front)
        else:
            amend(self._trials / f"{number:05d}", f"{self._id}{number}", {"on_front": on_front})
        self._marked[number] = on_front


def summary(records: StudyRecord) -> dict[str, Any]:
    """The study in a row of figures: trials, front, hypervolume, the best of each objective."""
    states = Counter(t["state"] for t in records["trials"])
    row: dict[str, Any] = {
        "trials": states["complete"] + states["pruned"],
        **{k: states[k] for k in ("complete", "pruned", "failed")},
    }
    row["front/points"] = len(records["front"])
    if records["hypervolume_over_trials"]:
        row["hypervolume"] = records["hypervolume"]
    if records["decades"] is not None:
        row["hypervolume/decades"] = records["decades"]
    for o in records["objectives"]:
        values = [p["values"][o["name"]] for p in records["front"]]
        if values:
            row[f"best/{o['name']}"] = max(values) if o["direction"] == "maximize" else min(values)
    return row


def front_rows(records: StudyRecord) -> tuple[list[str | int], list[list[Any]]]:
    """The front's table: columns and rows, the searched parameters last."""
    names = list(dict.fromkeys([*(o["name"] for o in records["objectives"]), *axes(records["objectives"])]))
    params = list(dict.fromkeys(k for p in records["front"] for k in p["params"]))
    by_number = {t["number"]: t for t in records["trials"]}
    rows = []
    for p in records["front"]:
        t = by_number[p["number"]]
        known = {**t["metrics"], **p["values"]}
        sure = [*(p["interval"] or (None, None)), p["samples"]]
        figures_ = [*(known.get(n) for n in names), *sure, p["test"].get("accuracy"), t["firing_rate"], t["parameters"]]
        rows.append([p["number"], p["t"], *figures_, *(p["params"].get(k) for k in params), t["command"]])
    sure_ = ("accuracy low", "accuracy high", "samples")
    return ["trial", "t", *names, *sure_, "test accuracy", "firing rate", "parameters", *params, "command"], rows


def taken_rows(records: StudyRecord) -> tuple[list[str | int], list[list[Any]]]:
    """The points that were trained again with other seeds: columns and rows."""
    names = [o["name"] for o in records["objectives"]]
    rows = []
    for t in records["taken"]:
        figures_ = [f for n in names for f in spread(t["values"][n])]
        tested = spread(t["tested"]) if t["tested"] else (None, None)
        rows.append([t["number"], t["t"], len(t["seeds"]), *figures_, *tested, t["study"]])
    told = [f for n in [*names, "test accuracy"] for f in (n, f"{n} deviation")]
    return ["trial", "t", "seeds", *told, "study"], rows


def chart_spec() -> dict[str, Any]:
    """The custom chart: cost on a log axis, coloured by any column of the table."""
    return json.loads((HERE / "front_chart.json").read_text(encoding="utf-8"))


def _mark_online(run: Any, trial: str, on_front: bool) -> None:
    """Set a finished run's flag, and give or take its checkpoint's alias."""
    found = wandb.Api().run(f"{run.entity}/{run.project}/{trial}")
    found.summary["on_front"] = on_front
    found.summary.update()
    for artifact in found.logged_artifacts():
        if artifact.type == "model" and ("front" in artifact.aliases) != on_front:
            artifact.aliases = [a for a in artifact.aliases if a != "front"] + (["front"] if on_front else [])
            artifact.save()
