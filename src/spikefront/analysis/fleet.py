"""Who works on a study and where, in words: workers by engine and host, trials an hour, GPU hours, failures by host."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from statistics import mean

from spikefront.analysis.progress import FINISHED, finished, stamp
from spikefront.analysis.schema import StudyRecord, TrialRecord

WINDOW = 3600.0  # seconds that the pace is of
SHOWN = 6  # hosts named in a line


def lines(found: StudyRecord, now: float | None = None) -> list[str]:
    """What people who run clusters look at, a line each; nothing of what isn't known."""
    trials, now = found["trials"], time.time() if now is None else now
    said = [_workers(trials), _pace(trials, now), _hours(trials, found["budget"]), _failures(trials)]
    benched = [f"{host} gets no more trials: {why}" for host, why in (found.get("benched") or {}).items()]
    return [*(line for line in said if line), *benched]


def _workers(trials: Sequence[TrialRecord]) -> str | None:
    running = [t for t in trials if t["state"] == "running" and t.get("host")]
    engines = Counter(t.get("engine") for t in running)
    told = [
        f"{n} {engine} ({_hosts(Counter(t.get('host') for t in running if t.get('engine') == engine))})"
        for engine, n in engines.most_common()
    ]
    return f"workers: {', '.join(told)}" if told else None


def _pace(trials: Sequence[TrialRecord], now: float) -> str | None:
    """Finished trials an hour over the last hour, or since the first began."""
    ends = [end for t in trials if t["state"] in FINISHED and not t["known"] and (end := stamp(t["finished"]))]
    begun = [start for t in trials if not t["known"] and (start := stamp(t["started"]))]
    if not ends or not begun or all(t["state"] != "running" for t in trials):
        return None
    since = max(now - WINDOW, min(begun))
    return (
        f"{3600 * sum(end >= since for end in ends) / max(1.0, now - since):.3g} trials an hour"
        if now > since
        else None
    )


def _hours(trials: Sequence[TrialRecord], budget: int | None) -> str | None:
    """What was spent, and what the missing trials take at the mean of the finished ones, less what is put into them."""
    spent = {t["number"]: t["spent"].get("gpu_hours", 0.0) for t in trials}
    done = [spent[t["number"]] for t in trials if t["state"] in FINISHED and not t["known"] and spent[t["number"]]]
    if not sum(spent.values()):
        return None
    unit = "process hours on CPUs" if any(t["threads"] for t in trials) else "GPU hours"
    line = f"{sum(spent.values()):.3g} {unit} spent"
    missing = (budget or 0) - finished(trials)
    if not done or missing <= 0:
        return line
    begun = sum(spent[t["number"]] for t in trials if t["state"] in ("running", "waiting"))
    return f"{line}, about {max(0.0, missing * mean(done) - begun):.3g} to go"


def _failures(trials: Sequence[TrialRecord]) -> str | None:
    hosts = Counter(t.get("host") for t in trials if t["state"] == "failed" and t.get("host"))
    return f"failures by host: {_hosts(hosts)}" if hosts else None


def _hosts(hosts: Counter[str | None]) -> str:
    told = [f"{host} {n}" for host, n in hosts.most_common(SHOWN)]
    more = len(hosts) - len(told)
    return ", ".join([*told, *([f"{more} more hosts"] if more else [])])
