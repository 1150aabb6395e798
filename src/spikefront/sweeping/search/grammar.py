"""Hydra's override grammar as Optuna distributions: what a text of values stands for, point by point."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    IntervalSweep,
    Override,
    RangeSweep,
)
from hydra.errors import HydraException
from optuna import Trial
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from spikefront.config import override_parser, unreadable, written
from spikefront.errors import UserError

Options = Callable[[str], list[str]]  # of a config group
GRAMMAR = "choice(1,2,4), range(1,9), interval(0,1), int(interval(1,8)), tag(log,interval(1e-4,1e-2)) or a,b,c"


def parse(text: str) -> Override:
    """One Hydra override.

    Raises:
        UserError: it isn't one.
    """
    try:
        return override_parser().parse_override(text)
    except HydraException as error:
        raise UserError(f"{unreadable(text, error)}; what is searched is written {GRAMMAR}") from error


def key_of(override: Override) -> str:
    """What an override sets: ``key``, or ``group@package``."""
    return override.key_or_group + (f"@{override.package}" if override.package else "")


def distribution_of(override: Override, options: Options, earlier: bool) -> tuple[BaseDistribution, Mapping[Any, str]]:
    sweep, key = override.value(), key_of(override)
    where = f"search.space.{key}"
    try:
        if isinstance(sweep, IntervalSweep):
            log = "log" in sweep.tags
            _only(sweep.tags, where)
            low, high = sweep.start, sweep.end
            assert low is not None and high is not None
            if not math.isfinite(low) or not math.isfinite(high):
                raise UserError(f"{where}: {override.input_line} has no end: give it two numbers")
            if isinstance(low, int) and isinstance(high, int):
                return IntDistribution(low, high, log=log), {}
            return FloatDistribution(float(low), float(high), log=log), {}
        if isinstance(sweep, RangeSweep):
            _only(sweep.tags, where)
            return _range(override, sweep, where, earlier), {}
        if isinstance(sweep, ChoiceSweep):
            if sweep.tags and not earlier:
                raise UserError(f"{where}: {override.input_line}: a tag goes with an interval or a range")
            spelled = {}
            for value, text in zip(sweep.list, override.sweep_string_iterator(), strict=True):
                if isinstance(value, str):
                    text = written(value)
                spelled[value if isinstance(value, str | int | float | bool) else text] = text
            return CategoricalDistribution(list(spelled)), spelled
        assert isinstance(sweep, Glob)
        names = sweep.filter(options(override.key_or_group))
        if not names:
            raise UserError(f"{where}: no option of the group '{key}' matches {override.input_line}")
        return CategoricalDistribution(names), {}
    except ValueError as error:
        raise UserError(f"{where}: {override.input_line}: {error}") from error


def _range(override: Override, sweep: RangeSweep, where: str, earlier: bool) -> BaseDistribution:
    """The points as they are written: Hydra adds up binary fractions, and may so end one too late or too early."""
    start, stop, step = (Decimal(str(n)) for n in (sweep.start, sweep.stop, sweep.step))
    if not step:
        raise UserError(f"{where}: {override.input_line} has no step")
    count = math.ceil((stop - start) / step)  # the end is left out
    if count < 1:
        raise UserError(f"{where}: {override.input_line} is empty")
    low, high = sorted((start, start + (count - 1) * step))
    whole, log = all(isinstance(n, int) for n in (sweep.start, sweep.stop, sweep.step)), "log" in sweep.tags
    if whole and (abs(step) == 1 or (log and earlier)):
        return IntDistribution(int(low), int(high), log=log)
    if log and not earlier:
        several = f"choice({','.join(str(start + i * step) for i in range(count))})" if count <= 10 else "choice(…)"
        raise UserError(
            f"{where}: {override.input_line}: 'log' goes with intervals and with ranges of every whole number: write"
            f" tag(log,interval({low},{high})) or {several}"
        )
    if whole:
        return IntDistribution(int(low), int(high), step=int(abs(step)))
    return FloatDistribution(float(low), float(high), step=float(abs(step)))


def _only(tags: set[str], where: str) -> None:
    if surplus := tags - {"log"}:
        raise UserError(f"{where}: the tag {sorted(surplus)[0]!r} means nothing here; 'log' does")


def suggest(trial: Trial, key: str, d: BaseDistribution) -> Any:
    if isinstance(d, CategoricalDistribution):
        return trial.suggest_categorical(key, d.choices)
    if isinstance(d, IntDistribution):
        return trial.suggest_int(key, d.low, d.high, step=d.step, log=d.log)
    assert isinstance(d, FloatDistribution)
    return written_point(d, trial.suggest_float(key, d.low, d.high, step=d.step, log=d.log))


def written_point(d: FloatDistribution, value: float) -> float:
    """The point of a range that ``value`` is but for rounding; of an interval the value itself."""
    if d.step is None:
        return value
    low, step = Decimal(str(d.low)), Decimal(str(d.step))
    return float(low + round((Decimal(value) - low) / step) * step)
