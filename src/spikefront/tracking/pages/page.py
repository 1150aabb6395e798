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

from spikefront.errors import UserError, near_matches
from spikefront.files import write_atomically

HERE = Path(__file__).parent
PUBLISHED = HERE.parent / "published.yaml"
Records = Mapping[str, Any]
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


def write_report(studies: Sequence[Records], path: str | Path, published: str = "auto") -> Path:
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


def payload(studies: Sequence[Records], published: str = "auto", live: bool = False) -> dict[str, Any]:
    """What the page draws, JSON-ready. Axes are the first objective to maximise and the first to minimise."""
    if not studies:
        raise UserError("nothing to report: give a study, such as study=demo")
    gain, cost = axes(studies[0])
    for other in studies[1:]:
        if axes(other) != (gain, cost):
            raise UserError(
                f"studies {studies[0]['study']} and {other['study']} can't share a plot: their objectives are "
                f"{gain}, {cost} and {', '.join(axes(other))}"
            )
    studies = [{**s, "trials": [_measured(t, (gain, cost)) for t in s["trials"]]} for s in studies]
    costs = [t["values"][cost] for s in studies for t in _finished(s, gain, cost)]
    reference = max(costs, default=None)
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


def axes(records: Records) -> tuple[str, str]:
    """The two objectives that are plotted: the first to maximise (y) and the first to minimise (x)."""
    first = {o["direction"]: o["name"] for o in reversed(records["objectives"])}
    return first.get("maximize", "accuracy"), first.get("minimize", "energy")


def data_set(records: Records) -> str | None:
    """The data set a study was run on, as far as its records say."""
    if records.get("data"):
        return records["data"]
    found = {m[1] for t in records["trials"] if (m := re.search(r"(?:^|\s)data=(\w+)", t.get("command") or ""))}
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


def seed_groups(trials: Sequence[Mapping[str, Any]], gain: str, cost: str) -> list[dict[str, Any]]:
    """Configurations trained with several seeds: mean and half-width of Student's 95 % interval, both axes."""
    from scipy.stats import t as student

    groups: dict[str, list[Mapping[str, Any]]] = {}
    for trial in trials:
        same = {k: v for k, v in trial["params"].items() if k != "seed"}
        groups.setdefault(json.dumps(same, sort_keys=True, default=str), []).append(trial)
    found = []
    for members in groups.values():
        if len({m.get("seed", m["params"].get("seed")) for m in members}) < 2:
            continue
        width = float(student.ppf(0.975, len(members) - 1)) / math.sqrt(len(members))
        summary = {
            axis: {"mean": mean(values), "half": width * stdev(values)}
            for axis, name in (("gain", gain), ("cost", cost))
            if (values := [m["values"][name] for m in members])
        }
        found.append({"n": len(members), "trials": [m["number"] for m in members], **summary})
    return found


def hypervolumes(points: Sequence[Sequence[tuple[float, float]]], reference: float) -> list[float]:
    """Area dominated after each trial, up to cost ``reference`` and gain 0; ``points``: ``(cost, gain)`` by trial."""
    areas, front = [], [(reference, 0.0)]
    for new in points:
        for cost, gain in new:
            if cost < reference and gain > 0 and not any(c <= cost and g >= gain for c, g in front):
                front = [(c, g) for c, g in front if not (c >= cost and g <= gain)] + [(cost, gain)]
        front.sort()
        edges = [c for c, _ in front[1:]] + [reference]
        areas.append(sum(max(0.0, (edge - c)) * g for (c, g), edge in zip(front, edges, strict=False)))
    return areas


def _study(records: Records, gain: str, cost: str, reference: float | None) -> dict[str, Any]:
    finished = sorted(_finished(records, gain, cost), key=lambda t: t.get("finished") or "")
    values = {t["number"]: t["values"] for t in finished}
    by_trial = [[(p["x"], p["y"]) for p in _points(t, gain, cost)] for t in finished]
    front = [
        {
            "number": p["number"],
            "t": p["t"],
            "final": p.get("final", True),
            "x": p["values"].get(cost, values[p["number"]][cost]),
            "y": p["values"].get(gain, values[p["number"]][gain]),
        }
        for p in records["front"]
        if p["number"] in values
    ]
    return {
        "name": records["study"],
        "data": data_set(records),
        "sampler": records.get("sampler"),
        "convention": records.get("convention"),
        "trials": [_shown(t) for t in records["trials"]],
        "front": front,
        "volumes": hypervolumes(by_trial, reference) if reference is not None else [],
        "importance": records.get("importance") or {},
        "seeds": seed_groups(finished, gain, cost),
    }


def _shown(trial: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows of a trial; layer by layer only on the front, as thousands of trials are heavy."""
    shown = {k: trial.get(k) for k in TRIAL}
    if not shown["on_front"]:
        shown["energy_layers"] = None
    return {k: v for k, v in shown.items() if v is not None}


def _measured(trial: Mapping[str, Any], axes: Sequence[str]) -> Mapping[str, Any]:
    """The trial with the axes among its values, also where the search had another objective."""
    metrics = trial.get("metrics") or {}
    added = {name: metrics[name] for name in axes if name in metrics and name not in trial["values"]}
    return {**trial, "values": {**trial["values"], **added}} if trial["state"] == "complete" and added else trial


def _finished(records: Records, gain: str, cost: str) -> list[Mapping[str, Any]]:
    return [
        t
        for t in records["trials"]
        if t["state"] == "complete" and all(isinstance(t["values"].get(n), int | float) for n in (gain, cost))
    ]


def _points(trial: Mapping[str, Any], gain: str, cost: str) -> list[dict[str, float]]:
    """The trial's own point and, where stopping early changes both axes, those of its earlier timesteps."""
    own = {"x": trial["values"][cost], "y": trial["values"][gain]}
    if (gain, cost) != ("accuracy", "energy"):
        return [own]
    early = (trial.get("anytime") or [])[:-1]
    return [*({"x": p["energy_joules"], "y": p["accuracy"]} for p in early), own]


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
