"""The front of a study: which points of which trials no other point dominates, and what volume they cover."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict

import numpy as np

from spikefront.analysis import pareto
from spikefront.analysis.schema import Candidate, Directions, FrontPoint, Objective, StudyRecord, Tested, TrialRecord

ANYTIME = ("accuracy", "energy")  # objectives that stopping after t timesteps changes
STEADY = ("parameters",)  # objectives that it doesn't


class Judged(TypedDict):
    """Those parts of a study's record that follow from its trials."""

    front: list[FrontPoint]
    reference: dict[str, float]
    hypervolume: float
    hypervolume_over_trials: list[float]


def judge(trials: Sequence[TrialRecord], objectives: Directions, volumes: bool = True) -> Judged:
    """The front of a study's trials, and what it covers (``volumes``, which take their time); sets ``on_front``."""
    complete = completed(trials)
    front = front_of(complete, objectives)
    there = {p["number"] for p in front}
    for trial in trials:
        trial["on_front"] = trial["number"] in there
    reference = reference_point(complete, objectives)
    over_trials = volumes_over(in_order(complete), objectives, reference) if volumes else []
    return {
        "front": front,
        "reference": dict(zip(objectives, reference, strict=True)) if complete else {},
        "hypervolume": over_trials[-1] if over_trials else 0.0,
        "hypervolume_over_trials": over_trials,
    }


def completed(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Those that have a result."""
    return [t for t in trials if t["state"] == "complete"]


def in_order(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """As they finished."""
    return sorted(trials, key=lambda t: t["finished"] or "")


def points(trial: Candidate, objectives: Directions) -> list[FrontPoint]:
    """A finished trial's points: its own values, and those of stopping after each earlier timestep if that has a
    meaning for all objectives."""
    own: FrontPoint = {
        "number": trial["number"],
        "t": None,
        "final": True,
        "values": trial["values"],
        "params": trial["params"],
        "test": trial["test"],
    }
    steps = trial["anytime"]
    if not steps or not all(name in ANYTIME or name in STEADY for name in objectives):
        return [own]
    own["t"] = steps[-1]["t"]
    tested: dict[int, Tested] = {
        p["t"]: {"t": p["t"], "accuracy": p["accuracy"], "energy_joules": p["energy_joules"]}
        for p in trial["test"].get("anytime", [])
    }
    found: list[FrontPoint] = []
    for step in steps:
        if step["t"] == own["t"]:
            continue
        changed = {"accuracy": step["accuracy"], "energy": step["energy_joules"]}
        found.append(
            {
                "number": trial["number"],
                "t": step["t"],
                "final": False,
                "values": {n: changed[n] if n in changed else trial["values"][n] for n in objectives},
                "params": trial["params"],
                "test": tested.get(step["t"], {}),
            }
        )
    return [*found, own]


def front_of(complete: Iterable[Candidate], objectives: Directions) -> list[FrontPoint]:
    """The non-dominated points of the finished trials, anytime points among them; the best by the first objective
    last."""
    candidates = [p for t in complete for p in points(t, objectives)]
    if not candidates:
        return []
    keep = pareto.non_dominated([minimised(c["values"], objectives) for c in candidates])
    chosen = [c for c, k in zip(candidates, keep, strict=True) if k]
    return sorted(chosen, key=lambda c: minimised(c["values"], objectives), reverse=True)


def minimised(values: Mapping[str, float], objectives: Directions) -> list[float]:
    """The values in the objectives' order, negated where more is better."""
    return [-values[n] if d == "maximize" else values[n] for n, d in objectives.items()]


def reference_point(complete: Sequence[Candidate], objectives: Directions) -> list[float]:
    """Reference point, minimised: 0 for what is maximised, the worst final value for the rest."""
    if not complete:
        return []
    worst = np.max([minimised(t["values"], objectives) for t in complete], axis=0)
    return [0.0 if d == "maximize" else float(w) for d, w in zip(objectives.values(), worst, strict=True)]


def volumes_over(ordered: Iterable[Candidate], objectives: Directions, reference: Sequence[float]) -> list[float]:
    """The front's hypervolume after each of the finished trials, in the order that they finished."""
    volumes: list[float] = []
    kept = np.empty((0, len(objectives)))
    for t in ordered:
        new = np.array([minimised(p["values"], objectives) for p in points(t, objectives)])
        fresh = [p for p in new if not np.any(np.all(kept <= p, axis=1))]
        if fresh:
            kept = np.vstack([kept, fresh])
            kept = kept[pareto.non_dominated(kept)]
        volumes.append(pareto.hypervolume(kept, reference) if fresh else volumes[-1])
    return volumes


def axes(objectives: Iterable[Objective]) -> tuple[str, str]:
    """What is drawn up and across: the first objective to maximise and the first to minimise; where all go one way
    the missing one is accuracy or energy, which every training measures."""
    first: dict[str, str] = {}
    for objective in objectives:
        first.setdefault(objective["direction"], objective["name"])
    return first.get("maximize", "accuracy"), first.get("minimize", "energy")


def placed(record: StudyRecord) -> dict[int, tuple[float, float]]:
    """Where the complete trials are drawn, by number: ``(cost, gain)``, an objective's value or else the metric's;
    without trials that have not both."""
    gain, cost = axes(record["objectives"])
    found = {}
    for trial in completed(record["trials"]):
        known = {**trial["metrics"], **trial["values"]}
        if gain in known and cost in known:
            found[trial["number"]] = (known[cost], known[gain])
    return found


def placed_front(record: StudyRecord) -> list[tuple[FrontPoint, float, float]]:
    """The front's points with where they are drawn, cost and gain, by cost."""
    (gain, cost), trials = axes(record["objectives"]), placed(record)
    found = []
    for point in record["front"]:
        if point["number"] in trials:
            x, y = trials[point["number"]]
            found.append((point, point["values"].get(cost, x), point["values"].get(gain, y)))
    return sorted(found, key=lambda entry: entry[1])
