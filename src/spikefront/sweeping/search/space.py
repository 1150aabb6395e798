"""The search space: parameters in Hydra's own override grammar, in YAML and on the command line alike."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from optuna import Trial, create_study
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler

from spikefront.config import written
from spikefront.errors import UserError
from spikefront.sweeping.search import expressions, finite
from spikefront.sweeping.search.grammar import (
    GRAMMAR,
    Options,
    distribution_of,
    key_of,
    parse,
    suggest,
    written_point,
)
from spikefront.sweeping.search.optuna_internals import contains

Point = frozenset[tuple[str, Any]]
"""A configuration among a space's, see ``Space.point``."""
CORNERS = 10_000  # of one condition
TRIES = 200  # for a point in which a condition holds


@dataclass(frozen=True)
class Parameter:
    """One searched key: ``text`` is its values in Hydra's grammar, ``when`` a condition on other parameters.

    ``prefix`` is what Hydra wants before a key that the configuration lacks: ``+``, or ``++`` where it may be there.
    ``prior`` is what ``priors.parse`` reads; None if nobody said what is thought to be good.
    """

    key: str
    text: str
    distribution: BaseDistribution
    when: str | None = None
    spelled: Mapping[Any, str] = field(default_factory=dict)
    prefix: str = ""
    prior: Mapping[str, Any] | None = None

    @property
    def size(self) -> float:
        """How many values there are; infinite for a continuous one."""
        return finite.size(self.distribution)

    def override(self, value: Any) -> str:
        """``key=value`` as Hydra reads it."""
        if isinstance(self.distribution, FloatDistribution):
            value = written_point(self.distribution, float(value))
        if value in self.spelled:
            return f"{self.prefix}{self.key}={self.spelled[value]}"
        return f"{self.prefix}{self.key}={written(value)}"


class Space:
    """Parameters by key, in an order in which every condition reads only those before it."""

    def __init__(self, parameters: Iterable[Parameter]) -> None:
        self.parameters = _ordered({p.key: p for p in parameters})
        self._placed = {p.key for p in self if not finite.is_own_place(p.distribution)}

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self.parameters.values())

    def __len__(self) -> int:
        return len(self.parameters)

    @classmethod
    def stored(cls, entries: Mapping[str, Any]) -> Space:
        """From ``to_plain``, of earlier versions too, which took ``tag(log,range(…))`` without its steps or its log."""
        return cls(parameter(key, entry, earlier=True) for key, entry in entries.items())

    @classmethod
    def parse(cls, entries: Mapping[str, Any], options: Options = lambda group: []) -> Space:
        """From ``{key: "choice(1,2,4)"}`` or ``{key: {"values": "choice(1,2)", "when": "neuron == 'plif'"}}``.

        Beside ``values`` and ``when`` an entry may have ``prior`` and ``confidence``.

        Args:
            options: the options of a config group, for ``glob(...)``.

        Raises:
            UserError: values that aren't a sweep, an empty one, a condition on an unknown parameter or a circle.
        """
        return cls(parameter(key, entry, options) for key, entry in entries.items() if entry is not None)

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """Ask the trial's sampler for every parameter whose condition holds."""
        values: dict[str, Any] = {}
        for p in self._reached(values):
            values[p.key] = suggest(trial, p.key, p.distribution)
        return values

    def active(self, values: Mapping[str, Any]) -> list[str]:
        """The parameters whose conditions hold among these values."""
        holding: dict[str, Any] = {}
        for p in self._reached(holding):
            holding[p.key] = values.get(p.key)
        return list(holding)

    def _reached(self, holding: Mapping[str, Any]) -> Iterator[Parameter]:
        """The parameters whose conditions hold, one after the other, as ``holding`` gets the values of those before."""
        return (p for p in self if p.when is None or expressions.holds(p.when, holding))

    def example(self, key: str) -> dict[str, Any] | None:
        """Values of all active parameters in which this one is active too; None if some tries found none."""
        study = create_study(sampler=RandomSampler(seed=0))
        return next((v for _ in range(TRIES) if key in (v := self.suggest(study.ask()))), None)

    def check(self) -> None:
        """Try every condition on the outermost values of what it reads, before a trial meets them.

        Raises:
            UserError: one that can't be evaluated.
        """
        for p in self:
            if p.when is not None:
                read = sorted(expressions.names(p.when))
                corners = itertools.product(*(finite.corners(self.parameters[name].distribution) for name in read))
                for corner in itertools.islice(corners, CORNERS):
                    try:
                        expressions.holds(p.when, dict(zip(read, corner, strict=True)))
                    except UserError as error:
                        raise UserError(f"search.space.{p.key}: when: {error}") from error

    def holds(self, key: str, value: Any) -> bool:
        """Whether a parameter can have this value."""
        d = self.parameters[key].distribution
        if isinstance(d, CategoricalDistribution):
            return any(c == value and isinstance(c, bool) == isinstance(value, bool) for c in d.choices)
        return isinstance(value, int | float) and not isinstance(value, bool) and contains(d, value)

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """Hydra overrides of a trial's parameters; those this space doesn't know are left as they print."""
        known = self.parameters
        return [known[k].override(v) if k in known else f"{k}={written(v)}" for k, v in values.items()]

    def size(self, given: Mapping[str, Any] = MappingProxyType({})) -> float:
        """How many different configurations there are with these values; infinite with a continuous parameter."""

        def count(rest: list[Parameter], values: dict[str, Any]) -> float:
            if not rest:
                return 1
            head, *tail = rest
            if head.when is not None and not expressions.holds(head.when, values):
                return count(tail, values)
            if head.key in given:
                return count(tail, {**values, head.key: given[head.key]})
            if head.key not in read:
                return head.size * count(tail, values)
            if head.size == math.inf:
                return math.inf
            return sum(count(tail, {**values, head.key: v}) for v in finite.values(head.distribution))

        read = {name for p in self if p.when for name in expressions.names(p.when)}
        return count(list(self), {})

    def point(self, values: Mapping[str, Any]) -> Point | None:
        """What two trials that try the same have in common, a step's rounding aside; None if a value is missing."""
        holding: dict[str, Any] = {}
        for p in self._reached(holding):
            if p.key not in values:
                return None
            holding[p.key] = values[p.key]
        return frozenset([(k, self.place(k, v) if k in self._placed else v) for k, v in holding.items()])

    def place(self, key: str, value: Any) -> Any:
        """Which of a parameter's values it is; of a continuous one the value itself."""
        return finite.place(self.parameters[key].distribution, value)

    def values(self, key: str) -> list[Any]:
        """All that a parameter can be which has an end of them."""
        return finite.values(self.parameters[key].distribution)

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
                if isinstance(d, FloatDistribution):
                    point[p.key] = written_point(d, float(value))
                else:
                    point[p.key] = d.low + round((value - d.low) / d.step) * d.step
        return point

    def to_plain(self) -> dict[str, Any]:
        """The form ``parse`` reads, for the study's record."""
        return {p.prefix + p.key: p.text if p.when is None else {"values": p.text, "when": p.when} for p in self}


def parameter(key: str, entry: Any, options: Options = lambda group: [], earlier: bool = False) -> Parameter:
    """One entry of a space, see ``Space.parse`` and ``Space.stored``."""
    when = prior = None
    if isinstance(entry, Mapping):
        if set(entry) - {"values", "when", "prior", "confidence"} or "values" not in entry:
            said = "{values: …, when: …, prior: …, confidence: …}"
            raise UserError(f"search.space.{key}: write {said}, not {sorted(map(str, entry))}")
        if "confidence" in entry and "prior" not in entry:
            raise UserError(f"search.space.{key}: confidence in which prior? Write prior: … beside it")
        if "prior" in entry:
            prior = {"value": entry["prior"], "confidence": entry.get("confidence", "medium")}
        entry, when = entry["values"], entry.get("when")
    text = str(entry).strip()
    override = parse(f"{key}={text}")
    if not override.is_sweep_override():
        raise UserError(f"search.space.{key}: '{text}' is one value, not a set to search; write {GRAMMAR}")
    distribution, spelled = distribution_of(override, options, earlier)
    bare = key_of(override)
    return Parameter(bare, text, distribution, when, spelled, key[: len(key) - len(key.lstrip("+"))], prior)


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
