"""The front of a study: which points of which trials no other point dominates, and what volume they cover."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from spikefront.analysis import pareto

ANYTIME = {"accuracy": "accuracy", "energy": "energy_joules"}  # objectives that stopping after t timesteps changes
STEADY = ("parameters",)  # objectives that it doesn't


def points(trial: Mapping[str, Any], objectives: Mapping[str, str]) -> list[dict[str, Any]]:
    """A finished trial's points: its own values, and those of stopping after each earlier timestep if that has a
    meaning for all objectives."""
    own = {"t": None, "final": True, "values": trial["values"], "test": trial["test"]}
    anytime = trial["anytime"] or []
    if not anytime or not all(name in ANYTIME or name in STEADY for name in objectives):
        return [own]
    last = anytime[-1]["t"]
    tested = {p["t"]: p for p in trial["test"].get("anytime") or []}
    early = [
        {
            "t": p["t"],
            "final": False,
            "values": {n: p[ANYTIME[n]] if n in ANYTIME else trial["values"][n] for n in objectives},
            "test": tested.get(p["t"], {}),
        }
        for p in anytime
        if p["t"] != last
    ]
    return [*early, {**own, "t": last}]


def front_of(complete: list[dict[str, Any]], objectives: Mapping[str, str]) -> list[dict[str, Any]]:
    """The non-dominated points of the finished trials, anytime points among them."""
    candidates = [{"number": t["number"], **p, "params": t["params"]} for t in complete for p in points(t, objectives)]
    if not candidates:
        return []
    keep = pareto.non_dominated([minimised(c["values"], objectives) for c in candidates])
    chosen = [c for c, k in zip(candidates, keep, strict=True) if k]
    return sorted(chosen, key=lambda c: minimised(c["values"], objectives), reverse=True)


def minimised(values: Mapping[str, float], objectives: Mapping[str, str]) -> list[float]:
    """The values in the objectives' order, negated where more is better."""
    return [-values[n] if d == "maximize" else values[n] for n, d in objectives.items()]


def reference_point(complete: list[dict[str, Any]], objectives: Mapping[str, str]) -> list[float]:
    """Reference point, minimised: 0 for what is maximised, the worst final value for the rest."""
    if not complete:
        return []
    worst = np.max([minimised(t["values"], objectives) for t in complete], axis=0)
    return [0.0 if d == "maximize" else float(w) for d, w in zip(objectives.values(), worst, strict=True)]


def volumes_over(ordered: list[dict[str, Any]], objectives: Mapping[str, str], reference: list[float]) -> list[float]:
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
