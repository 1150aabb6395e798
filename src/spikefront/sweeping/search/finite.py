"""How many values a parameter has, and which."""

from __future__ import annotations

import math
import random
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution


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
    return [d.low + i * d.step for i in range(int(size(d)))] if d.step else [d.low]


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


def anywhere(d: BaseDistribution, draw: random.Random) -> float:
    """A value of a continuous parameter, drawn as evenly as it is searched."""
    assert isinstance(d, FloatDistribution)
    if d.log:
        return math.exp(draw.uniform(math.log(d.low), math.log(d.high)))
    return draw.uniform(d.low, d.high)
