"""Several runs of one search: what each, half and all of them attain.

A run attains a cost and a gain if one of its points costs no more and gains no less (Fonseca, Guerreiro, López-Ibáñez
and Paquete, EMO 2011).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TypedDict

from spikefront.analysis import pareto
from spikefront.analysis.front import placed_front
from spikefront.analysis.schema import StudyRecord

Stairs = list[tuple[float, float]]
SEEDS = ("seed",)  # settings in which runs of one search may differ


class Attained(TypedDict):
    """The surfaces of so many runs, each ``(cost, gain)`` by cost; ``median`` is empty of two runs.

    Attributes:
        runs: places of the studies.
        best: what at least one run attains, ``median`` at least half of them, ``worst`` all.
    """

    runs: list[int]
    best: Stairs
    median: Stairs
    worst: Stairs


def attainment(records: Sequence[StudyRecord]) -> list[Attained]:
    """The surfaces of each search of which there are several runs with a point at least."""
    found = []
    for runs in searches(records):
        fronts = [[(x, -y) for _, x, y in placed_front(records[i])] for i in runs]
        best, median, worst = ([(x, -y) for x, y in pareto.attained(fronts, share)] for share in (0.0, 0.5, 1.0))
        found.append(Attained(runs=runs, best=best, median=median if len(runs) > 2 else [], worst=worst))
    return found


def searches(records: Sequence[StudyRecord]) -> list[list[int]]:
    """Places of the studies that searched the same in the same way, and have points; those of one run are left out.

    The same are data, settings (seeds aside), space, objectives, sampler and the way that energy is counted. One study
    that is given twice counts once.
    """
    groups: dict[str, dict[tuple[str, str], int]] = {}
    for i, record in enumerate(records):
        if placed_front(record):
            own = groups.setdefault(_search(record), {})
            own.setdefault((record["storage"], record["study"]), i)
    return [list(runs.values()) for runs in groups.values() if len(runs) > 1]


def _search(record: StudyRecord) -> str:
    """Equal for runs of one search."""
    settings = {k: v for k, v in record["settings"].items() if k not in SEEDS}
    space = record.get("space") or sorted({k for t in record["trials"] for k in t["params"]})
    return json.dumps(
        [record["data"], settings, space, record["objectives"], record["sampler"], record["convention"]],
        sort_keys=True,
        default=str,
    )
