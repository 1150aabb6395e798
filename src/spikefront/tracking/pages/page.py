"""The report: studies' plain records and published results in one self-contained HTML page."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml
from plotly.offline import get_plotlyjs

from spikefront.analysis.front import axes, completed, in_order, placed, placed_front, volumes_over
from spikefront.analysis.schema import StudyRecord, TrialRecord
from spikefront.errors import UserError, near_matches
from spikefront.files import write_atomically

HERE = Path(__file__).parent
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
        "seed",
    ),
    *("energy_groups", "energy_layers", "reason", "on_front", "command"),
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
        "js": (HERE / "assets" / "report.js").read_text(encoding="utf-8"),
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
        "studies": [_study(s, gain, cost, reference) for s in studies],
    }


def data_set(records: StudyRecord) -> str | None:
    """The data set a study was run on, as far as its records say."""
    if records["data"]:
        return records["data"]
    found = {m[1] for t in records["trials"] if (m := re.search(r"(?:^|\s)data=(\w+)", t["command"] or ""))}
    return found.pop() if len(found) == 1 else None


def references(published: str, data_sets: Sequence[str], axes: tuple[str, str]) -> list[dict[str, Any]]:
    """Published results to draw; see ``write_report``."""
    if published == "none" or (published == "auto" and axes != ("accuracy", "energy")):
        return []
    own = Path(published).suffix in (".yaml", ".yml")
    source = Path(published) if own else PUBLISHED
    try:
        known = yaml.safe_load(source.read_text(encoding="utf-8"))
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
    from scipy.stats import t as student

    groups: dict[str, list[TrialRecord]] = {}
    for trial in trials:
        same = {k: v for k, v in trial["params"].items() if k != "seed"}
        groups.setdefault(json.dumps(same, sort_keys=True, default=str), []).append(trial)
    found = []
    for members in groups.values():
        if len({m["seed"] if m["seed"] is not None else m["params"].get("seed") for m in members}) < 2:
            continue
        width = float(student.ppf(0.975, len(members) - 1)) / math.sqrt(len(members))
        summary = {
            axis: {"mean": mean(values), "half": width * stdev(values)}
            for axis, name in (("gain", gain), ("cost", cost))
            if (values := [m["values"][name] for m in members])
        }
        found.append({"n": len(members), "trials": [m["number"] for m in members], **summary})
    return found


def _study(record: StudyRecord, gain: str, cost: str, reference: float | None) -> dict[str, Any]:
    trials = _measured(record)
    drawn = in_order(t for t in completed(trials) if gain in t["values"] and cost in t["values"])
    both = {gain: "maximize", cost: "minimize"}
    return {
        "name": record["study"],
        "data": data_set(record),
        "sampler": record["sampler"],
        "convention": record["convention"],
        "trials": [_shown(t) for t in trials],
        "front": [
            {"number": p["number"], "t": p["t"], "final": p["final"], "x": x, "y": y}
            for p, x, y in placed_front(record)
        ],
        "volumes": volumes_over(drawn, both, [0.0, reference]) if reference is not None else [],
        "importance": record["importance"],
        "seeds": seed_groups(drawn, gain, cost),
    }


def _shown(trial: TrialRecord) -> dict[str, Any]:
    """What the page shows of a trial; layer by layer only on the front, as thousands of trials are heavy."""
    shown: dict[str, Any] = {k: trial[k] for k in TRIAL}  # type: ignore[literal-required]
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
