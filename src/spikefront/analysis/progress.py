"""How far a study is: what it still has to do, in words."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from statistics import median

from spikefront.analysis.schema import TrialRecord

FINISHED = ("complete", "pruned")


def finished(trials: Sequence[TrialRecord]) -> int:
    """Trials that count: trained to an end here, their own or a pruner's."""
    return sum(t["state"] in FINISHED and not t["known"] for t in trials)


def left(trials: Sequence[TrialRecord], budget: int | None, now: float | None = None) -> float | None:
    """Seconds until a study is whole: the finished trials' median time for each that is missing, over as many workers
    as run now, less what the running ones have behind them. None while nothing has finished, or nothing runs."""
    done = [t for t in trials if t["state"] in FINISHED and not t["known"]]
    running = [a for t in trials if t["state"] == "running" and (a := stamp(t["started"])) is not None]
    durations = [d for t in done if (d := t["spent"].get("seconds") or _between(t["started"], t["finished"]))]
    if not durations or not running or not budget or budget <= len(done):
        return None
    one, now = median(durations), time.time() if now is None else now
    spent = sum(min(one, max(0.0, now - begun)) for begun in running)
    return max(0.0, (budget - len(done)) * one - spent) / len(running)


def to_go(trial: TrialRecord, now: float | None = None) -> float | None:
    """Seconds until a running trial has had all its epochs, at its own pace; None before its first has ended."""
    begun, had, asked = stamp(trial["started"]), trial["epochs"], trial["asked_epochs"]
    if begun is None or not had or not asked or asked <= had:
        return None
    return max(0.0, (time.time() if now is None else now) - begun) / had * (asked - had)


def _between(begun: str | None, ended: str | None) -> float | None:
    a, b = stamp(begun), stamp(ended)
    return None if a is None or b is None else b - a


def stamp(when: str | None) -> float | None:
    """Seconds since 1970 of a record's moment."""
    return datetime.fromisoformat(when).timestamp() if when else None
