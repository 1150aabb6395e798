"""The search space: Hydra's own override grammar, in YAML and on the command line alike, as Optuna distributions."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    IntervalSweep,
    Override,
    Quote,
    QuotedString,
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

from spikefront.config import unreadable
from spikefront.errors import UserError
from spikefront.sweeping.search import expressions
from spikefront.sweeping.search.optuna_internals import contains

GRAMMAR = "choice(1,2,4), range(1,9), interval(0,1), int(interval(1,8)), tag(log,interval(1e-4,1e-2)) or a,b,c"


@dataclass(frozen=True)
class Parameter:
    """One searched key: ``text`` is its values in Hydra's grammar, ``when`` a condition on other parameters."""

    key: str
    text: str
    distribution: BaseDistribution
    when: str | None = None
    spelled: Mapping[Any, str] = field(default_factory=dict)

    @property
    def size(self) -> float:
        """How many values there are; infinite for a continuous one."""
        return _points(self.distribution)

    def override(self, value: Any) -> str:
        """``key=value`` as Hydra reads it."""
        if value in self.spelled:
            return f"{self.key}={self.spelled[value]}"
        return f"{self.key}={value}"


class Space:
    """Parameters by key, in an order in which every condition reads only those before it."""

    def __init__(self, parameters: Iterable[Parameter]) -> None:
        self.parameters = _ordered({p.key: p for p in parameters})

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self.parameters.values())

    def __len__(self) -> int:
        return len(self.parameters)

    @classmethod
    def parse(cls, entries: Mapping[str, Any], options: Callable[[str], list[str]] = lambda group: []) -> Space:
        """From ``{key: "choice(1,2,4)"}`` or ``{key: {"values": "choice(1,2)", "when": "neuron == 'plif'"}}``.

        Args:
            options: the options of a config group, for ``glob(...)``.

        Raises:
            UserError: values that aren't a sweep, an empty one, a condition on an unknown parameter or a circle.
        """
        return cls(parameter(key, entry, options) for key, entry in entries.items() if entry is not None)

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """Ask the trial's sampler for every parameter whose condition holds."""
        values: dict[str, Any] = {}
        for p in self:
            if p.when is None or expressions.evaluate(p.when, lambda name: values.get(name)):
                values[p.key] = _suggest(trial, p)
        return values

    def active(self, values: Mapping[str, Any]) -> list[str]:
        """The parameters whose conditions hold among these values."""
        holding: dict[str, Any] = {}
        for p in self:
            if p.when is None or expressions.evaluate(p.when, lambda name: holding.get(name)):
                holding[p.key] = values.get(p.key)
        return list(holding)

    def holds(self, key: str, value: Any) -> bool:
        """Whether a parameter can have this value."""
        d = self.parameters[key].distribution
        if isinstance(d, CategoricalDistribution):
            return any(c == value and isinstance(c, bool) == isinstance(value, bool) for c in d.choices)
        return isinstance(value, int | float) and not isinstance(value, bool) and contains(d, value)

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """Hydra overrides of a trial's parameters; those this space doesn't know are left as they print."""
        known = self.parameters
        return [known[k].override(v) if k in known else f"{k}={v}" for k, v in values.items()]

    def size(self) -> float:
        """How many different configurations there are; infinite with a continuous parameter."""

        def count(rest: list[Parameter], values: dict[str, Any]) -> float:
            if not rest:
                return 1
            head, *tail = rest
            if head.when is not None and not expressions.evaluate(head.when, lambda name: values.get(name)):
                return count(tail, values)
            if head.key not in read:
                return head.size * count(tail, values)
            return sum(count(tail, {**values, head.key: v}) for v in _values(head.distribution))

        read = {name for p in self if p.when for name in expressions.names(p.when)}
        return count(list(self), {})

    def nearest(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The point of the space closest to ``values``; a choice that isn't offered is left to the sampler."""
        point = {}
        for p in self:
            value, d = values.get(p.key), p.distribution
            if isinstance(d, CategoricalDistribution):
                same = [c for c in d.choices if c == value and isinstance(c, bool) == isinstance(value, bool)]
                if same:
                    point[p.key] = same[0]
            elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                assert isinstance(d, IntDistribution | FloatDistribution)
                value = min(max(value, d.low), d.high)
                if d.step:
                    value = d.low + round((value - d.low) / d.step) * d.step
                point[p.key] = int(value) if isinstance(d, IntDistribution) else float(value)
        return point

    def to_plain(self) -> dict[str, Any]:
        """The form ``parse`` reads, for the study's record."""
        return {p.key: p.text if p.when is None else {"values": p.text, "when": p.when} for p in self}


def parameter(key: str, entry: Any, options: Callable[[str], list[str]] = lambda group: []) -> Parameter:
    """One entry of a space, see ``Space.parse``."""
    when = None
    if isinstance(entry, Mapping):
        unknown = set(entry) - {"values", "when"}
        if unknown or "values" not in entry:
            raise UserError(f"search.space.{key}: write {{values: …, when: …}}, not {sorted(map(str, entry))}")
        entry, when = entry["values"], entry.get("when")
    text = str(entry).strip()
    override = parse(f"{key}={text}")
    if not override.is_sweep_override():
        raise UserError(f"search.space.{key}: '{text}' is one value, not a set to search; write {GRAMMAR}")
    distribution, spelled = _distribution(override, options)
    return Parameter(key, text, distribution, when, spelled)


@functools.cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


def parse(text: str) -> Override:
    """One Hydra override.

    Raises:
        UserError: it isn't one.
    """
    try:
        return _parser().parse_override(text)
    except HydraException as error:
        raise UserError(f"{unreadable(text, error)}; what is searched is written {GRAMMAR}") from error


def _distribution(
    override: Override, options: Callable[[str], list[str]]
) -> tuple[BaseDistribution, Mapping[Any, str]]:
    sweep, key = override.value(), override.key_or_group
    where = f"search.space.{key}"
    try:
        if isinstance(sweep, IntervalSweep):
            log = "log" in sweep.tags
            _only(sweep.tags, where)
            low, high = sweep.start, sweep.end
            assert low is not None and high is not None
            if isinstance(low, int) and isinstance(high, int):
                return IntDistribution(low, high, log=log), {}
            return FloatDistribution(float(low), float(high), log=log), {}
        if isinstance(sweep, RangeSweep):
            _only(sweep.tags, where)
            points = list(sweep.range())  # Hydra's range leaves the end out
            if not points:
                raise UserError(f"{where}: {override.input_line} is empty")
            points.sort()
            log, step = "log" in sweep.tags, abs(sweep.step)
            if all(isinstance(p, int) for p in points):
                return IntDistribution(points[0], points[-1], log=log, step=1 if log else int(step)), {}
            return FloatDistribution(points[0], points[-1], step=float(step)), {}
        if isinstance(sweep, ChoiceSweep):
            spelled = {}
            for value, text in zip(sweep.list, override.sweep_string_iterator(), strict=True):
                if isinstance(value, str) and not _reads_as(key, text, value):
                    text = QuotedString(value, Quote.single).with_quotes()
                spelled[value if isinstance(value, str | int | float | bool) else text] = text
            return CategoricalDistribution(list(spelled)), spelled
        assert isinstance(sweep, Glob)
        names = sweep.filter(options(key))
        if not names:
            raise UserError(f"{where}: no option of the group '{key}' matches {override.input_line}")
        return CategoricalDistribution(names), {}
    except ValueError as error:
        raise UserError(f"{where}: {override.input_line}: {error}") from error


def _reads_as(key: str, text: str, value: str) -> bool:
    """Whether a text without quotes is read as the string that it stands for."""
    try:
        return bool(parse(f"{key}={text}").value() == value)
    except UserError:
        return False


def _only(tags: set[str], where: str) -> None:
    if surplus := tags - {"log"}:
        raise UserError(f"{where}: the tag {sorted(surplus)[0]!r} means nothing here; 'log' does")


def _suggest(trial: Trial, p: Parameter) -> Any:
    d = p.distribution
    if isinstance(d, CategoricalDistribution):
        return trial.suggest_categorical(p.key, d.choices)
    if isinstance(d, IntDistribution):
        return trial.suggest_int(p.key, d.low, d.high, step=d.step, log=d.log)
    assert isinstance(d, FloatDistribution)
    return trial.suggest_float(p.key, d.low, d.high, step=d.step, log=d.log)


def _points(d: BaseDistribution) -> float:
    if isinstance(d, CategoricalDistribution):
        return len(d.choices)
    assert isinstance(d, IntDistribution | FloatDistribution)
    if d.single():
        return 1
    return round((d.high - d.low) / d.step) + 1 if d.step else math.inf


def _values(d: BaseDistribution) -> list[Any]:
    if isinstance(d, CategoricalDistribution):
        return list(d.choices)
    if isinstance(d, IntDistribution):
        return list(range(d.low, d.high + 1, d.step))
    raise UserError(
        "a condition can read choices and whole numbers, not continuous parameters, in an exhaustive search"
    )


def _ordered(parameters: dict[str, Parameter]) -> dict[str, Parameter]:
    ordered: dict[str, Parameter] = {}
    while len(ordered) < len(parameters):
        ready = [
            p
            for p in parameters.values()
            if p.key not in ordered and not ((expressions.names(p.when) if p.when else set()) - set(ordered))
        ]
        if not ready:
            key, p = next((k, p) for k, p in parameters.items() if k not in ordered)
            unknown = sorted(expressions.names(p.when or "") - set(parameters))
            if unknown:
                raise UserError(f"search.space.{key}: 'when: {p.when}' reads {unknown[0]!r}, which is not searched")
            raise UserError(f"search.space.{key}: 'when: {p.when}' goes in a circle")
        ordered.update((p.key, p) for p in ready)
    return ordered
