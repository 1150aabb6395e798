"""What a sweep optimises: names of metrics and their directions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from spikefront.errors import UserError, near_matches

USUAL = ("accuracy", "energy")
DIRECTIONS = {
    "accuracy": "maximize",
    "energy": "minimize",
    "firing_rate": "minimize",
    "latency": "minimize",
    "memory": "minimize",
    "parameters": "minimize",
    "seconds": "minimize",
}
"""Metrics every trial has (validation part; joules a sample, seconds a sample, bytes), with their usual directions.
Any other metric that Lightning logs, such as ``val/loss``, can be named with its direction."""


def parse(entries: Any) -> dict[str, str]:
    """``["accuracy", "energy"]`` or ``{"accuracy": "maximize", "val/loss": "minimize"}`` as names and directions;
    ``None`` is the first, a name alone the one objective.

    Raises:
        UserError: none, an unknown name without a slash, a direction that isn't one.
    """
    entries = USUAL if entries is None else [entries] if isinstance(entries, str) else entries
    pairs = dict(entries) if isinstance(entries, Mapping) else {str(name): None for name in entries}
    if not pairs:
        raise UserError("search.objectives is empty: name at least one metric, such as [accuracy, energy]")
    objectives = {}
    for name, given in pairs.items():
        if name not in DIRECTIONS and "/" not in name:
            raise UserError(
                f"search.objectives: nothing is logged as '{name}'; {near_matches(name, DIRECTIONS)},"
                " or any metric Lightning logs, such as val/loss"
            )
        direction = given or DIRECTIONS.get(name) or ("maximize" if name.endswith("accuracy") else None)
        if direction is None and name.endswith("loss"):
            direction = "minimize"
        if direction not in ("maximize", "minimize"):
            raise UserError(
                f"search.objectives: '{name}' needs a direction: {{{name}: minimize}} or {{{name}: maximize}}"
            )
        objectives[name] = direction
    return objectives


class NeverLogged(UserError):
    """An objective that the training doesn't log."""


def values(objectives: Iterable[str], metrics: Mapping[str, float]) -> list[float]:
    """The objectives' values among a trial's metrics.

    Raises:
        NeverLogged: one is missing.
    """
    for name in objectives:
        if name not in metrics:
            raise NeverLogged(f"the objective '{name}' was never logged; {near_matches(name, metrics)}")
    return [float(metrics[name]) for name in objectives]


def check_logged(objectives: Iterable[str], metrics: Mapping[str, float]) -> None:
    """The same during training, when what Lightning logs is all there is yet: not to train to the end in vain."""
    values([name for name in objectives if "/" in name], metrics)
