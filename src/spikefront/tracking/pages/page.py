"""The report: studies' plain records and published results in one self-contained HTML page."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any

import yaml
from plotly.offline import get_plotlyjs

from spikefront.analysis import fleet, pareto
from spikefront.analysis.attainment import attainment
from spikefront.analysis.confidence import floor, half_width, spread
from spikefront.analysis.front import axes, completed, in_order, placed, placed_front, placed_points, volumes_over
from spikefront.analysis.importance import ENOUGH
from spikefront.analysis.progress import finished, left
from spikefront.analysis.schema import Point, StudyRecord, Taken, TrialRecord
from spikefront.analysis.silence import silent, unfed
from spikefront.errors import UserError, near_matches
from spikefront.files import write_atomically
from spikefront.tracking.pages.comparison import told_differences
from spikefront.tracking.pages.data_panel import data_panel
from spikefront.units import duration

HERE = Path(__file__).parent
SCRIPTS = ("runs", "pair", "reach", "report")  # the last begins
PUBLISHED = HERE.parent / "published.yaml"
TRIAL = (  # what the page shows of a trial
    *(
        "number",
        "state",
        "params",
        "values",
        "test",
        "anytime",
        "firing_rate",
        "parameters",
        "seconds",
        "epochs",
        "asked_epochs",
        "seed",
    ),
    *("twin_joules", "energy_groups", "energy_layers", "reason", "origin", "on_front", "command", "take"),
)


def write_report(studies: Sequence[StudyRecord], path: str | Path, published: str = "auto") -> Path:
    """Write the page of one or several studies; it needs no network and no other file.

    Args:
        studies: records as ``spikefront.sweeping.study.records`` makes them.
        published: results to draw as reference marks: ``auto`` (those of the studies' data sets), ``none``, the name of
            a data set in ``published.yaml``, or the path of a YAML file of the same form.

    Raises:
        UserError: no study, studies with different objectives, an unreadable file of published results.
    """
    return write_atomically(path, page(payload(studies, published)))


def page(data: Mapping[str, Any]) -> str:
    """The HTML text for ``payload``'s data."""
    parts = {
        "title": "Spikefront",
        "css": (HERE / "assets" / "report.css").read_text(encoding="utf-8"),
        "js": "\n".join((HERE / "assets" / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS),
        "plotly": get_plotlyjs(),
        "data": encode(data).replace("<", "\\u003c"),
    }
    template = (HERE / "assets" / "report.html").read_text(encoding="utf-8")
    return re.sub(r"@@(\w+)@@", lambda match: parts[match[1]], template)


def encode(data: Mapping[str, Any]) -> str:
    """Strict JSON: a figure that isn't finite becomes null."""
    return json.dumps(_finite(data), allow_nan=False, separators=(",", ":"), default=str)


def payload(studies: Sequence[StudyRecord], published: str = "auto", live: bool = False) -> dict[str, Any]:
    """What the page draws, JSON-ready. Axes are the first objective to maximise and the first to minimise."""
    if not studies:
        raise UserError("nothing to report: give a study, such as study=demo")
    gain, cost = axes(studies[0]["objectives"])
    for other in studies[1:]:
        if (theirs := axes(other["objectives"])) != (gain, cost):
            raise UserError(
                f"studies {studies[0]['study']} and {other['study']} can't share a plot: their objectives are "
                f"{gain}, {cost} and {', '.join(theirs)}"
            )
    reference = max((x for s in studies for x, _ in placed(s).values()), default=None)
    return {
        "gain": gain,
        "cost": cost,
        "reference": reference,
        "live": live,
        "made": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "version": version("spikefront"),
        "published": references(published, [d for s in studies if (d := data_set(s))], (gain, cost)),
        "enough": ENOUGH,
        "differing": told_differences(studies),
        "joint": joint(studies) if len(studies) > 1 else None,
        "attained": attainment(studies),
        "studies": [_study(s, gain, cost, reference) for s in studies],
    }


def joint(studies: Sequence[StudyRecord]) -> list[int]:
    """How many points of the front of all studies together are each one's."""
    owner, drawn = [], []
    for i, study in enumerate(studies):
        for _, x, y in placed_front(study):
            owner.append(i)
            drawn.append((x, -y))
    keep = pareto.non_dominated(drawn)
    return [sum(bool(k) and o == i for o, k in zip(owner, keep, strict=True)) for i in range(len(studies))]


def data_set(records: StudyRecord) -> str | None:
    """The data set a study was run on, as far as its records say."""
    if records["data"]:
        return records["data"]
    found = {m[1] for t in records["trials"] if (m := re.search(r"(?:^|\s)data=(\w+)", t["command"] or ""))}
    return found.pop() if len(found) == 1 else None


@functools.cache
def _known(text: str) -> Any:
    """What a file of published results says; each sweep and each look of a live page asks for the same one."""
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def references(published: str, data_sets: Sequence[str], axes: tuple[str, str]) -> list[dict[str, Any]]:
    """Published results to draw; see ``write_report``."""
    if published == "none" or (published == "auto" and axes != ("accuracy", "energy")):
        return []
    own = Path(published).suffix in (".yaml", ".yml")
    source = Path(published) if own else PUBLISHED
    try:
        known = _known(source.read_text(encoding="utf-8"))
        for name, entries in known.items():
            for entry in entries:
                if not {"name", "accuracy", "source"} <= set(entry):
                    raise ValueError(f"an entry of {name} lacks name, accuracy or source")
    except (OSError, yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"published results {source} can't be read: {' '.join(str(error).split())}") from error
    if own:
        return [e for name, entries in known.items() if not data_sets or name in data_sets for e in entries]
    if published != "auto" and published not in known:
        raise UserError(f"no published results for {published!r}; {near_matches(published, [*known, 'auto', 'none'])}")
    return [
        e for name in known if name == published or (published == "auto" and name in data_sets) for e in known[name]
    ]


def seed_groups(trials: Sequence[TrialRecord], gain: str, cost: str) -> list[dict[str, Any]]:
    """Configurations trained with several seeds: mean and half-width of Student's 95 % interval, both axes."""
    groups: dict[str, list[TrialRecord]] = {}
    for trial in trials:
        same = {k: v for k, v in trial["params"].items() if k != "seed"}
        groups.setdefault(json.dumps(same, sort_keys=True, default=str), []).append(trial)
    found = []
    for members in groups.values():
        if len({m["seed"] if m["seed"] is not None else m["params"].get("seed") for m in members}) < 2:
            continue
        summary = {
            axis: {"mean": mean(values), "half": half_width(values)}
            for axis, name in (("gain", gain), ("cost", cost))
            if (values := [m["values"][name] for m in members])
        }
        found.append({"n": len(members), "trials": [m["number"] for m in members], **summary})
    return found


def _study(record: StudyRecord, gain: str, cost: str, reference: float | None) -> dict[str, Any]:
    trials = _measured(record)
    drawn = in_order(t for t in completed(trials) if gain in t["values"] and cost in t["values"])
    both = {gain: "maximize", cost: "minimize"}
    front = placed_front(record)
    remaining = left(trials, record["budget"])
    return {
        "name": record["study"],
        "data": data_set(record),
        "sampler": record["sampler"],
        "convention": record["convention"],
        "asked": record["budget"],
        "command": record["command"] if remaining is None and finished(trials) < (record["budget"] or 0) else None,
        "left": None if remaining is None else duration(remaining),
        "fleet": fleet.lines(record),
        "described": data_panel(record.get("described")),
        "trials": [_shown(t) for t in trials],
        "points": [_drawn(p, x, y, {gain, cost}) for p, x, y in placed_points(record)],
        "front": [{"number": p["number"], "t": p["t"], "final": p["final"], "x": x, "y": y} for p, x, y in front],
        "band": _band(front) if gain == "accuracy" else [],
        "volumes": volumes_over(drawn, both, [0.0, reference]) if reference is not None else [],
        "decades": volumes_over(drawn, both, [0.0, reference], decades=True) if reference else [],
        "importance": record["importance"],
        "spread": record["importance_spread"],
        "seeds": seed_groups(drawn, gain, cost),
        "taken": [_taken(t, gain, cost) for t in record["taken"] if gain in t["values"] and cost in t["values"]],
    }


def _drawn(point: Point, x: float, y: float, axes: set[str]) -> dict[str, Any]:
    """What the page can't tell from the trial and the axes: there are four or more of them a trial."""
    shown: dict[str, Any] = {"number": point["number"], "t": point["t"], "x": x, "y": y}
    for name, said in (("final", point["final"]), ("member", point["member"]), ("beyond", not point["feasible"])):
        shown |= {name: True} if said else {}
    if not point["final"]:  # else the trial's
        shown |= {"values": point["values"]} if set(point["values"]) != axes else {}
        shown |= {"test": point["test"]} if point["test"] else {}
    if point["interval"] is not None:
        shown["interval"] = [round(end, 6) for end in point["interval"]]
    return shown | {k: point[k] for k in ("near", "samples") if point[k] is not None}


def _taken(taken: Taken, gain: str, cost: str) -> dict[str, Any]:
    """Mean and standard deviation over the other seeds that a point was trained with."""
    shown: dict[str, Any] = {"number": taken["number"], "t": taken["t"], "n": len(taken["seeds"])}
    for axis, name in (("x", cost), ("y", gain)):
        shown[axis], shown[f"d{axis}"] = spread(taken["values"][name])
    return shown


def _band(front: Sequence[tuple[Point, float, float]]) -> list[tuple[float, float]]:
    """Below the front, by cost: the accuracies above which no point can be told apart from it."""
    found: list[tuple[float, float]] = []
    for point, x, _ in front:
        least = floor(point)
        if least is None:
            return []
        found.append((x, max(least, found[-1][1]) if found else least))
    return found


def _shown(trial: TrialRecord) -> dict[str, Any]:
    """What the page shows of a trial; layer by layer only on the front, as thousands of trials are heavy."""
    shown: dict[str, Any] = {k: trial[k] for k in TRIAL}  # type: ignore[literal-required]
    shown |= {"silent": silent(trial) or None, "unfed": unfed(trial) or None, "breaks": trial["breaks"] or None}
    if not shown["on_front"]:
        shown["energy_layers"] = None
    return {k: v for k, v in shown.items() if v is not None}


def _measured(record: StudyRecord) -> list[TrialRecord]:
    """The trials with the axes among their values, also where the search had another objective."""
    (gain, cost), at = axes(record["objectives"]), placed(record)
    found: list[TrialRecord] = []
    for trial in record["trials"]:
        if trial["number"] in at:
            x, y = at[trial["number"]]
            trial = {**trial, "values": {**trial["values"], gain: y, cost: x}}
        found.append(trial)
    return found


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
