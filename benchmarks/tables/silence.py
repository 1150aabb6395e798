"""Which networks will learn nothing, by what their first batches show: thresholds with few false alarms.

    python benchmarks/tables/silence.py [digits …] [--raw DIR] [--alarms 0.01]

A network came to nothing if after its last epoch it is right no more than half as often again as chance, or diverged.
For each figure of each batch that was looked at, and each direction, the threshold is the most daring one that stops
no more than the given share of the networks that came to something, halfway to the next that came to nothing; told are
how many it would have stopped of those that came to nothing, and Wilson's 95 % upper bound of the false alarms.
Below it how thresholds chosen on one table do on the others; and what a sweep's own rule says after each epoch, that a
network in which nothing fires on the validation part and whose answers are chance is stopped.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "src"), str(HERE)]

from record import DEFAULT_RAW, EARLY, known, seconds_of  # noqa: E402
from spaces import SETS  # noqa: E402

from spikefront.sweeping.search.hopeless import GUESSED, QUIET  # noqa: E402

CLASSES = {"digits": 10, "digits_dvs": 10, "patches": 6}
CHANCE = 1.5  # times it, at most, is nothing
FIGURES = {
    "firing rate": lambda e: e["firing_rate"],
    "lowest rate of a layer": lambda e: min(e["rates"]),
    "highest rate of a layer": lambda e: max(e["rates"]),
    "dead share": lambda e: e["dead"],
    "saturated share": lambda e: e["saturated"],
    "logits between samples": lambda e: e["logits_between"],
    "logits, between by within": lambda e: e["logits_between"] / e["logits_within"] if e["logits_within"] else 0.0,
    "loss": lambda e: e["loss"],
}


def nothing(run: dict[str, Any], classes: int) -> bool:
    """Whether a training came to nothing."""
    return bool(run["failed"]) or run["epochs"][-1]["anytime"][-1][0] <= CHANCE / classes


def upper(found: int, of: int) -> float:
    """Wilson's 95 % upper bound of a share."""
    if not of:
        return 1.0
    z, p = 1.96, found / of
    return (p + z * z / (2 * of) + z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of))) / (1 + z * z / of)


def threshold(good: np.ndarray, bad: np.ndarray, below: bool, alarms: float) -> float:
    """The figure below (or above) which a network is stopped, for at most so many alarms."""
    sign = 1.0 if below else -1.0
    ordered = np.sort(sign * good)
    limit = ordered[int(alarms * len(ordered))]  # so many of the good ones are strictly below
    under = sign * bad[sign * bad < limit]
    return float(sign * (0.5 * (under.max() + limit) if len(under) else limit))


def stopped(values: np.ndarray, at: float, below: bool) -> np.ndarray:
    return values < at if below else values > at


def quiet(run: dict[str, Any], epoch: int, classes: int) -> bool:
    """Whether nothing fires after an epoch and the answers are chance."""
    point = run["epochs"][epoch - 1]
    return bool(point["firing_rate"] <= QUIET and point["anytime"][-1][0] <= GUESSED / classes)


def later(name: str, runs: list[dict[str, Any]], bad: np.ndarray) -> None:
    """Print what the sweep's rule would stop after each epoch."""
    print("\n| silent, at chance after epoch | of those that came to nothing | false alarms, upper bound | seconds |")
    print("|--:|--:|--:|--:|")
    whole = [(r, b) for r, b in zip(runs, bad, strict=True) if not r["failed"]]
    total = sum(seconds_of(r) for r, _ in whole)
    good, epochs = sum(not b for _, b in whole), SETS[name].epochs
    for epoch in range(1, epochs):
        caught = [(r, b) for r, b in whole if quiet(r, epoch, CLASSES[name])]
        alarms, saved = sum(not b for _, b in caught), sum(e["cpu"] for r, _ in caught for e in r["epochs"][epoch:])
        share = sum(b for _, b in caught) / max(1, sum(b for _, b in whole))
        print(f"| {epoch} | {share:.0%} | {alarms} of {good}, {upper(alarms, good):.1%} | {saved / total:.1%} fewer |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(SETS))
    parser.add_argument("--raw", type=Path, default=DEFAULT_RAW, metavar="DIR")
    parser.add_argument("--alarms", type=float, default=0.01)
    given = parser.parse_args()
    tables = {}
    for name in given.names:
        runs = [r for r in known(SETS[name], given.raw).values() if len(r["early"]) == len(EARLY)]
        if runs:
            tables[name] = (runs, np.array([nothing(r, CLASSES[name]) for r in runs]))
    chosen: dict[str, tuple[int, str, bool, float]] = {}
    for name, (runs, bad) in tables.items():
        print(f"\n{name}: {len(runs)} runs, of which {bad.sum()} came to nothing\n")
        if not bad.any() or bad.all():
            continue
        print("| after steps | figure | stopped if | of those that came to nothing | false alarms, upper bound |")
        print("|--:|---|---|--:|--:|")
        rows = []
        for place in range(len(EARLY)):
            for figure, read in FIGURES.items():
                values = np.array([read(r["early"][place]) for r in runs])
                for below in (True, False):
                    at = threshold(values[~bad], values[bad], below, given.alarms)
                    caught = stopped(values, at, below)
                    alarms = int((caught & ~bad).sum())
                    rows.append(((caught & bad).sum() / bad.sum(), place, figure, below, at, alarms))
        rows.sort(key=lambda r: (-r[0], r[1]))
        for share, place, figure, below, at, alarms in rows[:8]:
            good = int((~bad).sum())
            sign = "<" if below else ">"
            false = f"{alarms} of {good}, {upper(alarms, good):.1%}"
            print(f"| {EARLY[place]} | {figure} | {sign} {at:.3g} | {share:.0%} | {false} |")
        chosen[name] = rows[0][1:5]
        later(name, runs, bad)
    for name, (place, figure, below, at) in chosen.items():
        for other, (runs, bad) in tables.items():
            if other != name and bad.any():
                caught = stopped(np.array([FIGURES[figure](r["early"][place]) for r in runs]), at, below)
                print(
                    f"\n{name}'s first row on {other}: {(caught & bad).sum()} of {bad.sum()} that came to nothing,"
                    f" {(caught & ~bad).sum()} false alarms of {(~bad).sum()}"
                )


if __name__ == "__main__":
    main()
