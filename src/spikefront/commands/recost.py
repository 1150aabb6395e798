"""The same trials on other hardware: energies anew from what each layer did, which every training leaves behind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from hydra.utils import instantiate

from spikefront.analysis.front import completed, with_trials
from spikefront.analysis.schema import Point, StudyRecord, TrialRecord
from spikefront.energy import CostModel, EnergyReport, from_plain
from spikefront.errors import UserError
from spikefront.training.result import COUNTS

Find = Callable[[int, str], Path | None]
"""A file that a trial left, by the trial's number and the file's name in its directory; None if there is none."""


def recosted(record: StudyRecord, energy: str, node: Any, find: Find) -> StudyRecord:
    """A study's records with all energies under the convention ``energy``, a node of ``conf/energy``: points, front,
    hypervolume, groups and layers, and the twin without spikes.

    Trials whose counts were not kept, those that a warm start brought for instance, are left out.

    Raises:
        UserError: a file that can't be read, or none of the trials' counts was kept.
    """
    cost = instantiate(node)
    trials = [t for t in record["trials"] if t["state"] != "complete"]
    left = [(t, _counts(t, find)) for t in completed(record["trials"])]
    kept = [_recosted(t, counts, cost) for t, counts in left if counts]
    if completed(record["trials"]) and not kept:
        raise UserError(
            f"the study '{record['study']}' can't be costed anew: what its trials' layers counted was not kept in"
            f" {record['path']}, as of earlier versions, of other machines and of W&B"
        )
    trials = sorted([*trials, *kept], key=lambda t: t["number"])
    return {**with_trials(record, f"{record['study']} ({energy})", trials), "convention": cost.convention}


def changes(before: StudyRecord, after: StudyRecord) -> Iterator[str]:
    """Lines that say which points of the front are on another convention's too."""
    kept = {t["number"] for t in after["trials"]}
    then, now = ([_name(p) for p in r["front"] if p["number"] in kept] for r in (before, after))
    stay = [n for n in then if n in now]
    yield f"{after['study']}: {len(stay)} of the {len(then)} points of the front stay ({after['convention']})"
    if missing := left_out(before, after):
        yield f"  left out: {missing} trials whose counts were not kept"
    for verb, names in (("leave", [n for n in then if n not in now]), ("join", [n for n in now if n not in then])):
        if names:
            yield f"  {verb}: {', '.join(names)}"


def _name(point: Point) -> str:
    return f"trial {point['number']}" + (f" t={point['t']}" if point["t"] is not None else "")


def _recosted(trial: TrialRecord, counts: Sequence[Path], cost: CostModel) -> TrialRecord:
    parts = [_read(path, cost) for path in counts]
    validation, tested = ([p[part] for p in parts] for part in ("validation", "test"))
    steps, test_steps = _means(validation), _means(tested)
    anytime = [{**s, "energy_joules": e} for s, e in zip(trial["anytime"], steps, strict=True)]
    test_anytime = [
        {**s, "energy_joules": e} for s, e in zip(trial["test"].get("anytime", []), test_steps, strict=False)
    ]
    total = mean(r.total_joules for r in validation)
    values = {**trial["values"], **({"energy": total} if "energy" in trial["values"] else {})}
    first = validation[0]
    return {
        **trial,
        "values": values,
        "metrics": {**trial["metrics"], "energy": total},
        "anytime": anytime,  # type: ignore[typeddict-item]
        "test": {**trial["test"], "energy_joules": mean(r.total_joules for r in tested), "anytime": test_anytime},  # type: ignore[typeddict-item]
        "energy_groups": {g: mean(p.groups[g] for p in validation) for g in first.groups},
        "energy_layers": [
            {k: row[k] for k in ("name", "group", "joules", "firing_rate")}  # type: ignore[misc]
            for row in first.rows()
        ],
        "twin_joules": first.baseline()["total_joules"],
        "convention": first.convention,
    }


def _counts(trial: TrialRecord, find: Find) -> list[Path]:
    """The files of what a trial's layers counted, one a seed; none if they are not all there."""
    if trial["known"]:
        return []
    names = [f"seed_{i}/{COUNTS}" for i in range(len(trial["seeds"]))] or [COUNTS]
    files = [path for name in names if (path := find(trial["number"], name)) is not None]
    return files if len(files) == len(names) else []


def _means(reports: list[EnergyReport]) -> list[float]:
    return [mean(e) for e in zip(*(r.anytime_joules for r in reports), strict=True)]


def _read(path: Path, cost: CostModel) -> Mapping[str, EnergyReport]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {part: EnergyReport(from_plain(found[part]), cost, 0) for part in ("validation", "test")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} can't be read ({error}): move its trial away or train it again") from error


def left_out(before: StudyRecord, after: StudyRecord) -> int:
    """How many complete trials could not be costed anew."""
    return len(completed(before["trials"])) - len(completed(after["trials"]))
