"""Trials held against each other by one parameter: a front for each of its values, and who is ahead where."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypedDict

import numpy as np

from spikefront.analysis import pareto
from spikefront.analysis.front import completed, in_decades, placed, placed_points, with_trials
from spikefront.analysis.schema import Point, StudyRecord

Placed = tuple[Point, float, float]
NEITHER = "not set"


class Side(TypedDict):
    """All trials with one value of the parameter, of whatever study.

    Attributes:
        records: a study's record each, of these trials alone.
        points: every feasible point with cost and gain; ``trials`` of how many trials.
        hypervolume: of cost and gain, against the reference that all sides share; ``decades`` with the cost in decades.
    """

    value: str
    records: list[StudyRecord]
    points: list[Placed]
    trials: int
    hypervolume: float
    decades: float


def sides(records: Sequence[StudyRecord], by: str) -> list[Side]:
    """The studies' trials by the value of a parameter, searched or the study's own; numbers in their order.

    Raises:
        KeyError: no study knows the parameter.
    """
    found: dict[str, Side] = {}
    order: dict[str, Any] = {}
    for record in records:
        if by not in record["settings"] and not any(by in t["params"] for t in record["trials"]):
            raise KeyError(by)
        values = {t["number"]: t["params"].get(by, record["settings"].get(by, NEITHER)) for t in record["trials"]}
        for value in dict.fromkeys(map(_text, values.values())):
            order.setdefault(value, next(v for v in values.values() if _text(v) == value))
            empty = Side(value=value, records=[], points=[], trials=0, hypervolume=0.0, decades=0.0)
            side = found.setdefault(value, empty)
            own = [t for t in record["trials"] if _text(values[t["number"]]) == value]
            name = f"{record['study']}, {by}={value}" if len(records) > 1 else f"{by}={value}"
            part: StudyRecord = {**with_trials(record, name, [{**t} for t in own]), "budget": None}
            part["settings"] = {**record["settings"], by: value}  # one side's search isn't another's
            side["records"].append(part)
            side["points"] += [drawn for drawn in placed_points(part) if drawn[0]["feasible"]]
            side["trials"] += len(completed(own))
    listed = sorted(found.values(), key=lambda s: _rank(order[s["value"]]))
    reference = max((x for r in records for x, _ in placed(r).values()), default=0.0)
    for side in listed:
        side["hypervolume"], side["decades"] = volumes([(x, y) for _, x, y in side["points"]], reference)
    return listed


def volumes(drawn: Sequence[tuple[float, float]], reference: float) -> tuple[float, float]:
    """The hypervolume of points ``(cost, gain)`` up to a cost and gain 0; with the cost as it is and in decades."""
    known = np.array([(x, -y) for x, y in drawn]).reshape(-1, 2)
    linear = pareto.hypervolume(known, [reference, 0.0])
    return linear, pareto.hypervolume(*in_decades(known, [reference, 0.0], [0])) if reference > 0 else 0.0


def best_within(side: Side, cost: float) -> Placed | None:
    """The point of highest gain that costs no more."""
    return max((p for p in side["points"] if p[1] <= cost), key=lambda p: (p[2], -p[1]), default=None)


def cheapest_above(side: Side, gain: float) -> Placed | None:
    """The point of lowest cost that gains no less."""
    return min((p for p in side["points"] if p[2] >= gain), key=lambda p: (p[1], -p[2]), default=None)


def levels(every: Sequence[Side], count: int = 5) -> tuple[list[float], list[float]]:
    """Costs and gains to compare at: evenly over the range of the joint front, costs on a log scale."""
    joint = [p for _, p in joint_front(every)]
    if not joint:
        return [], []
    costs, gains = [p[1] for p in joint], [p[2] for p in joint]
    low, high = max(min(costs), 1e-300), max(costs)
    return (
        [float(x) for x in np.geomspace(low, high, count)] if high > low else [high],
        [float(y) for y in np.linspace(min(gains), max(gains), count)] if len(set(gains)) > 1 else [gains[0]],
    )


def joint_front(every: Sequence[Side]) -> list[tuple[str, Placed]]:
    """The front of all sides together, by cost, each point with its side's value."""
    entries = [(s["value"], p) for s in every for p in s["points"]]
    keep = pareto.non_dominated([(p[1], -p[2]) for _, p in entries])
    return sorted((e for e, k in zip(entries, keep, strict=True) if k), key=lambda e: e[1][1])


def stretches(every: Sequence[Side]) -> list[tuple[str, float, float, int]]:
    """Who is ahead where: value, cost from, cost to, and how many points, along the joint front."""
    found: list[tuple[str, float, float, int]] = []
    for value, (_, x, _) in joint_front(every):
        if found and found[-1][0] == value:
            _, begun, _, n = found.pop()
            found.append((value, begun, x, n + 1))
        else:
            found.append((value, x, x, 1))
    return found


def differences(records: Sequence[StudyRecord]) -> dict[str, list[Any]]:
    """Settings that are not the same in all studies and searched in none, with each one's value."""
    searched = {k for r in records for t in r["trials"] for k in t["params"]}
    keys = list(dict.fromkeys(k for r in records for k in r["settings"] if k not in searched))
    found = {k: [r["settings"].get(k, NEITHER) for r in records] for k in keys}
    differ = {k: values for k, values in found.items() if any(v != values[0] for v in values)}
    said = {*differ, *searched}
    return {k: values for k, values in differ.items() if not _said_by_another(k, said)}


def _said_by_another(key: str, said: set[str]) -> bool:
    """Whether a key is what another puts there: a network's copy of a group's setting, or a part of a chosen option."""
    bare = key.removeprefix("model.")
    groups = {s for s in said if "." not in s}
    return (bare != key and bare in said) or any(k.partition(".")[0] in groups for k in (key, bare) if "." in k)


def parameters(records: Iterable[StudyRecord]) -> list[str]:
    """What the studies searched, and the groups of which each chose an option."""
    every = list(records)
    searched = (k for r in every for t in r["trials"] for k in t["params"])
    return list(dict.fromkeys([*searched, *(k for r in every for k in r["settings"] if "." not in k)]))


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _rank(value: Any) -> tuple[bool, Any]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return (not number, value if number else str(value))
