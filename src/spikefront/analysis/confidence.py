"""How sure an accuracy is, and which points of a study it can't tell apart from the front.

From one training it is a share of so many samples, whose 95 % interval is Wilson's (JASA 22, 1927); over several seeds
it is a mean, with Student's interval. The first knows nothing of what another seed would have given.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import NormalDist, mean, stdev

from spikefront.analysis.schema import Directions, Point

LEVEL = 0.95
Interval = tuple[float, float]


def interval(accuracy: float, samples: int | None, seeds: Sequence[float] = ()) -> Interval | None:
    """The interval of an accuracy 0-1; None if neither several seeds nor the number of samples are known."""
    if len(seeds) > 1:
        half = half_width(seeds)
        return max(0.0, accuracy - half), min(1.0, accuracy + half)
    return wilson(accuracy, samples) if samples else None


def wilson(share: float, samples: int) -> Interval:
    """Wilson's score interval of a share of so many samples."""
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    weight = z * z / samples
    centre = share + weight / 2
    half = z * math.sqrt(share * (1 - share) / samples + weight / samples / 4)
    return max(0.0, (centre - half) / (1 + weight)), min(1.0, (centre + half) / (1 + weight))


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation, 0 of a single value."""
    return mean(values), stdev(values) if len(values) > 1 else 0.0


def half_width(values: Sequence[float]) -> float:
    """Half the width of Student's interval of the mean of two values or more."""
    from scipy.stats import t as student

    return float(student.ppf((1 + LEVEL) / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))


def told_apart(better: Interval, accuracy: float, worse: Interval, less: float) -> bool:
    """Whether an accuracy is above a lower one for certain: the interval of their difference, of both intervals as
    Newcombe has it (Statistics in Medicine 17, 1998, method 10), leaves out zero."""
    return accuracy - less > math.hypot(accuracy - better[0], worse[1] - less)


def floor(member: Point) -> float | None:
    """The least accuracy, of as many samples or seeds, that can't be told apart from a point's; None if unknown."""
    own, samples, accuracy = member["interval"], member["samples"], member["values"].get("accuracy")
    if own is None or accuracy is None:
        return None
    of_seeds = samples is None or own != wilson(accuracy, samples)
    low, high = 0.0, accuracy
    for _ in range(30):
        less = (low + high) / 2
        other = (less, less + accuracy - own[0]) if of_seeds or not samples else wilson(less, samples)
        low, high = (less, high) if told_apart(own, accuracy, other, less) else (low, less)
    return high


def compare(points: Iterable[Point], front: Sequence[Point], objectives: Directions) -> None:
    """Set ``near`` of each point: no member that is as good in all other objectives is more accurate for certain."""
    others = [(n, 1.0 if d == "minimize" else -1.0) for n, d in objectives.items() if n != "accuracy"]
    if "accuracy" not in objectives:
        return
    for point in points:
        own = point["interval"]
        if point["member"] or not point["feasible"]:
            point["near"] = point["member"]
        elif own is not None:
            above = [m for m in front if all(s * m["values"][n] <= s * point["values"][n] for n, s in others)]
            accuracy = point["values"]["accuracy"]
            certain = [told_apart(i, m["values"]["accuracy"], own, accuracy) for m in above if (i := m["interval"])]
            point["near"] = False if any(certain) else True if len(certain) == len(above) else None
