"""How many values a parameter has, and which."""

from __future__ import annotations

import math
import random
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

NEAR = 0.2  # of a range, by which a number near another differs from it in the mean square


def size(d: BaseDistribution) -> float:
    """How many values; infinite of a continuous parameter."""
    if isinstance(d, CategoricalDistribution):
        return len(d.choices)
    assert isinstance(d, IntDistribution | FloatDistribution)
    if d.single():
        return 1
    return round((d.high - d.low) / d.step) + 1 if d.step else math.inf


def values(d: BaseDistribution) -> list[Any]:
    """All of a parameter that has an end of them."""
    if isinstance(d, CategoricalDistribution):
        return list(d.choices)
    if isinstance(d, IntDistribution):
        return list(range(d.low, d.high + 1, d.step))
    assert isinstance(d, FloatDistribution)
    if not d.step:
        return [d.low]
    return [min(d.low + i * d.step, d.high) for i in range(int(size(d)))]  # 0.1 and three times 0.2 is above 0.7


def corners(d: BaseDistribution) -> list[Any]:
    """The outermost values, of a choice all."""
    if isinstance(d, CategoricalDistribution):
        return list(d.choices)
    assert isinstance(d, IntDistribution | FloatDistribution)
    return [d.low, d.high]


def place(d: BaseDistribution, value: Any) -> Any:
    """Which of a parameter's values one is, a step's rounding aside; of a continuous one the value itself."""
    if isinstance(d, CategoricalDistribution):
        return type(value).__name__, value
    return round((value - d.low) / d.step) if isinstance(d, FloatDistribution) and d.step else value


def is_own_place(d: BaseDistribution) -> bool:
    """Whether each value is where it is itself: of numbers without a step that rounds."""
    return isinstance(d, IntDistribution) or (isinstance(d, FloatDistribution) and not d.step)


def at(d: BaseDistribution, share: float) -> Any:
    """The value below which this share (0-1) of a parameter's range lies, as evenly as it is searched."""
    if isinstance(d, CategoricalDistribution):
        return d.choices[min(int(share * len(d.choices)), len(d.choices) - 1)]
    assert isinstance(d, IntDistribution | FloatDistribution)
    half = (d.step or 0) / 2  # a value with steps is drawn from half a step around it
    low, high = d.low - half, d.high + half
    value = low * (high / low) ** share if d.log else low + share * (high - low)
    if d.step:
        value = min(d.low + min(max(round((value - d.low) / d.step), 0), size(d) - 1) * d.step, d.high)
    return int(value) if isinstance(d, IntDistribution) else min(max(value, d.low), d.high)


def near(d: BaseDistribution, value: float, width: float, draw: random.Random) -> Any:
    """A number near another, by a normal distribution ``width`` of the range wide; bounds throw back what is beyond."""
    assert isinstance(d, IntDistribution | FloatDistribution)
    low, high, own = (math.log(v) if d.log else v for v in (d.low, d.high, value))
    moved = abs((own - low) / ((high - low) or 1.0) + draw.gauss(0, width)) % 2
    return at(d, min(moved, 2 - moved))


def beside(d: BaseDistribution, value: Any, draw: random.Random) -> Any:
    """Another value, of numbers one near it."""
    if isinstance(d, CategoricalDistribution):
        numbers = [c for c in d.choices if isinstance(c, int | float) and not isinstance(c, bool)]
        every: list[Any] = sorted(numbers) if len(numbers) == len(d.choices) else list(d.choices)
        own = every.index(value)
        others = [c for i, c in enumerate(every) if i != own and (len(numbers) < len(every) or abs(i - own) == 1)]
        return draw.choice(others) if others else value
    assert isinstance(d, IntDistribution | FloatDistribution)
    there = near(d, value, NEAR, draw)
    if d.step and there == value:
        every = values(d)
        own = min(range(len(every)), key=lambda i: abs(every[i] - value))
        return draw.choice(every[max(own - 1, 0) : own] + every[own + 1 : own + 2] or [value])
    return there
