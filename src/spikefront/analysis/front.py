"""The front of a study: which points of which trials no other point dominates, and what volume they cover."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict

import numpy as np

from spikefront.analysis import confidence, pareto
from spikefront.analysis.schema import Candidate, Directions, Objective, Point, Step, StudyRecord, Tested, TrialRecord

ANYTIME = ("accuracy", "energy")  # objectives that stopping after t timesteps changes
STEADY = ("parameters",)  # objectives that it doesn't
DECADES = 3.0  # below the reference, as far as a cost counts in a hypervolume in decades


class Judged(TypedDict):
    """Those parts of a study's record that follow from its trials."""

    points: list[Point]
    front: list[Point]
    reference: dict[str, float]
    hypervolume: float
    hypervolume_over_trials: list[float]
    decades: float | None
    decades_over_trials: list[float]


def judge(trials: Sequence[TrialRecord], objectives: Directions, volumes: bool = True) -> Judged:
    """The points of a study's trials, the front among them and what it covers (``volumes``, which take their time);
    sets ``on_front``."""
    complete = completed(trials)
    every = [p for t in complete for p in points(t, objectives)]
    front = _front(every, objectives)
    confidence.compare(every, front, objectives)
    there = {p["number"] for p in front}
    for trial in trials:
        trial["on_front"] = trial["number"] in there
    reference = reference_point(complete, objectives)
    ordered = in_order(complete) if volumes else []
    over_trials = volumes_over(ordered, objectives, reference)
    in_decades = volumes_over(ordered, objectives, reference, decades=True) if _costs(objectives, reference) else []
    return {
        "points": every,
        "front": front,
        "reference": dict(zip(objectives, reference, strict=True)) if complete else {},
        "hypervolume": over_trials[-1] if over_trials else 0.0,
        "hypervolume_over_trials": over_trials,
        "decades": in_decades[-1] if in_decades else None,
        "decades_over_trials": in_decades,
    }


def with_trials(record: StudyRecord, study: str, trials: list[TrialRecord]) -> StudyRecord:
    """The record of a study of this name with these trials in place of its own, judged anew."""
    judged = judge(trials, {o["name"]: o["direction"] for o in record["objectives"]})
    return {
        **record,
        **judged,
        "study": study,
        "trials": trials,
        "taken": [],
        "importance": {},
        "importance_spread": {},
    }


def completed(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Those that have a result."""
    return [t for t in trials if t["state"] == "complete"]


def in_order(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """As they finished."""
    return sorted(trials, key=lambda t: t["finished"] or "")


def points(trial: Candidate, objectives: Directions) -> list[Point]:
    """A finished trial's points: those of stopping after each earlier timestep if that has a meaning for all
    objectives, and last its own values. Which are members, nobody has said yet."""
    tested: dict[int, Step] = {p["t"]: p for p in trial["test"].get("anytime", [])}
    *early, (last, own) = _stops(trial, objectives)
    found = []
    for step, values in early:
        assert step is not None
        there, test = tested.get(step["t"]), Tested()
        if there:
            test = Tested(accuracy=there["accuracy"], energy_joules=there["energy_joules"], t=there["t"])
            test["samples"] = trial["test"].get("samples")
        found.append(_point(trial, step, values, test, final=False))
    found.append(_point(trial, last, own, trial["test"], final=True))
    if not _stoppable(objectives):
        found[-1]["t"] = None
    return found


def _stoppable(objectives: Directions) -> bool:
    """Whether stopping earlier has a meaning for all of them."""
    return all(name in (*ANYTIME, *STEADY) for name in objectives)


def _stops(trial: Candidate, objectives: Directions) -> list[tuple[Step | None, dict[str, float]]]:
    """Where a finished trial can stop, with the values it then has: after each earlier timestep, and at its end."""
    steps, own = trial["anytime"], trial["values"]
    found: list[tuple[Step | None, dict[str, float]]] = []
    if _stoppable(objectives):
        for step in steps[:-1]:
            changed = {"accuracy": step["accuracy"], "energy": step["energy_joules"]}
            found.append((step, {n: changed[n] if n in changed else own[n] for n in objectives}))
    return [*found, (steps[-1] if steps else None, own)]


def _breaks(trial: Candidate, step: Step | None, final: bool) -> bool:
    """Whether a trial that stops there breaks a bound on what is measured."""
    return bool(trial["breaks"] if final or step is None else step.get("breaks"))


def _point(trial: Candidate, step: Step | None, values: dict[str, float], test: Tested, final: bool) -> Point:
    seeds = step.get("accuracies", []) if step else []
    accuracy = values.get("accuracy")
    return {
        "number": trial["number"],
        "t": step["t"] if step else None,
        "final": final,
        "feasible": not _breaks(trial, step, final),
        "member": False,
        "near": None,
        "values": values,
        "interval": None if accuracy is None else confidence.interval(accuracy, trial["samples"], seeds),
        "samples": trial["samples"],
        "params": trial["params"],
        "test": test,
        "origin": trial["origin"],
    }


def numbers_on_front(complete: Iterable[Candidate], objectives: Directions) -> set[int]:
    """Of the finished trials those with a point on the front; without making points of all, as ``front_of`` does."""
    owners, values = [], []
    for trial in complete:
        stops = _stops(trial, objectives)
        for i, (step, own) in enumerate(stops, 1):
            if not _breaks(trial, step, final=i == len(stops)):
                owners.append(trial["number"])
                values.append(minimised(own, objectives))
    return (
        {owner for owner, kept in zip(owners, pareto.non_dominated(values), strict=True) if kept} if owners else set()
    )


def front_of(complete: Iterable[Candidate], objectives: Directions) -> list[Point]:
    """The non-dominated points of the finished trials, anytime points among them; the best by the first objective
    last."""
    return _front([p for t in complete for p in points(t, objectives)], objectives)


def _front(every: Sequence[Point], objectives: Directions) -> list[Point]:
    """Those of the feasible points that no other dominates, now marked as members."""
    feasible = [p for p in every if p["feasible"]]
    if not feasible:
        return []
    keep = pareto.non_dominated([minimised(p["values"], objectives) for p in feasible])
    for point, kept in zip(feasible, keep, strict=True):
        point["member"] = bool(kept)
    chosen = [p for p in every if p["member"]]
    return sorted(chosen, key=lambda p: minimised(p["values"], objectives), reverse=True)


def minimised(values: Mapping[str, float], objectives: Directions) -> list[float]:
    """The values in the objectives' order, negated where more is better."""
    return [-values[n] if d == "maximize" else values[n] for n, d in objectives.items()]


def reference_point(complete: Sequence[Candidate], objectives: Directions) -> list[float]:
    """Reference point, minimised: 0 for what is maximised, the worst final value for the rest."""
    if not complete:
        return []
    worst = np.max([minimised(t["values"], objectives) for t in complete], axis=0)
    return [0.0 if d == "maximize" else float(w) for d, w in zip(objectives.values(), worst, strict=True)]


def volumes_over(
    ordered: Iterable[Candidate], objectives: Directions, reference: Sequence[float], decades: bool = False
) -> list[float]:
    """The front's hypervolume after each of the finished trials, in the order that they finished.

    Args:
        decades: take the costs as ``in_decades`` does.
    """
    costs = _costs(objectives, reference) if decades else []
    volumes: list[float] = []
    kept = np.empty((0, len(objectives)))
    for t in ordered:
        raw = [minimised(p["values"], objectives) for p in points(t, objectives) if p["feasible"]]
        new, limit = in_decades(np.reshape(raw, (-1, len(objectives))), reference, costs)
        fresh = [p for p in new if not np.any(np.all(kept <= p, axis=1))]
        if fresh:
            kept = np.vstack([kept, fresh])
            kept = kept[pareto.non_dominated(kept)]
        volumes.append(pareto.hypervolume(kept, limit) if fresh else volumes[-1] if volumes else 0.0)
    return volumes


def in_decades(
    known: pareto.Points, reference: Sequence[float], costs: Sequence[int]
) -> tuple[pareto.Points, list[float]]:
    """Points ``(n, objectives)`` and their reference with these objectives as decimal logarithms of the reference's
    share, ``DECADES`` below it at most: a network that is ten times cheaper counts for as much wherever it lies."""
    known, limit = np.array(known, dtype=float), list(reference)
    for i in costs:
        known[:, i] = np.log10(np.maximum(known[:, i] / reference[i], 10.0**-DECADES))
        limit[i] = 0.0
    return known, limit


def _costs(objectives: Directions, reference: Sequence[float]) -> list[int]:
    """Places of the objectives of which decades have a meaning: what is minimised, and not 0 at the worst."""
    return [
        i for i, (d, r) in enumerate(zip(objectives.values(), reference, strict=False)) if d == "minimize" and r > 0
    ]


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


def placed_points(record: StudyRecord) -> list[tuple[Point, float, float]]:
    """Every point with where it is drawn, cost and gain; without those of trials that have not both."""
    (gain, cost), trials = axes(record["objectives"]), placed(record)
    found = []
    for point in record["points"]:
        if point["number"] in trials:
            x, y = trials[point["number"]]
            found.append((point, point["values"].get(cost, x), point["values"].get(gain, y)))
    return found


def placed_front(record: StudyRecord) -> list[tuple[Point, float, float]]:
    """The front's points with where they are drawn, cost and gain, by cost."""
    return sorted((entry for entry in placed_points(record) if entry[0]["member"]), key=lambda entry: entry[1])
