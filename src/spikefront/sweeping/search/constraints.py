"""What a trial must keep to: bounds on its predicted cost, before it trains, and on what its training measured."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from spikefront.errors import UserError, near_matches
from spikefront.sweeping.search import expressions

PREDICTED = ("parameters", "operations", "energy", "memory", "step_time")
"""What can be bounded besides keys of the configuration: see ``spikefront.planning.Cost`` for the units."""
MEASURED = ("accuracy", "firing_rate", "latency", "seconds", "measured.energy", "measured.memory")
"""What can be bounded once a network is trained, of the validation part; the last two are predicted under these names
without ``measured.``, too. Units are those of the metrics (``search.objectives``)."""


@dataclass(frozen=True)
class Verdict:
    """How one constraint came out: ``excess`` is at most 0 where it holds (relative to the bound if it has one)."""

    text: str
    excess: float
    value: Any

    def __str__(self) -> str:
        value = f"{self.value:.4g}" if isinstance(self.value, float) else str(self.value)
        return f"{self.text} does not hold: {value}"


class Constraints:
    """Bounds on predicted cost and on a configuration's own values.

    Args:
        entries: ``{"parameters": "<= 30e6", "energy": 5e-3, "model.dim % model.num_heads": "== 0"}``; a plain number
            is an upper bound, ``None`` no bound.
        predict: ``(configuration, time=whether the step's time is asked for)`` to a ``spikefront.planning.Cost``.

    Raises:
        UserError: not a comparison.
    """

    def __init__(self, entries: Mapping[str, Any], predict: Callable[..., Any]) -> None:
        self._predict = predict
        self.texts = predicted(entries)

    def __len__(self) -> int:
        return len(self.texts)

    def check(self, cfg: DictConfig) -> list[Verdict]:
        """The verdict on each constraint for a configuration of ``train.py``; predicts at most once.

        Raises:
            UserError: a name that is neither predicted nor in the configuration, sizes that don't fit together.
        """

        @functools.cache
        def cost() -> Any:
            timed = any("step_time" in expressions.names(text) for text in self.texts)
            return self._predict(cfg, time=timed)

        def lookup(name: str) -> Any:
            if name in PREDICTED:
                return getattr(cost(), name)
            value = OmegaConf.select(cfg, name)
            if value is None:
                raise UserError(
                    f"search.constraints: '{name}' is neither predicted, nor a key of the configuration,"
                    f" nor measured; {near_matches(name, (*PREDICTED, *MEASURED))}, or such as model.dim"
                )
            return value

        return [_verdict(text, lookup) for text in self.texts]


class Measured:
    """Bounds on what only a training can tell; what breaks one stays a finished trial, but comes on no front.

    Args:
        entries: as of ``Constraints``; those of other names are left to it.

    Raises:
        UserError: not a comparison, or one of something measured with something that isn't.
    """

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self.texts = [text for text in _texts(entries) if _is_measured(text)]
        for text in self.texts:
            if others := expressions.names(text) - set(MEASURED):
                raise UserError(
                    f"search.constraints: '{text}' compares what is measured with {', '.join(sorted(others))}, which"
                    f" isn't; of one comparison use numbers and {', '.join(MEASURED)} alone"
                )

    def __len__(self) -> int:
        return len(self.texts)

    def verdicts(self, metrics: Mapping[str, float]) -> list[Verdict]:
        """The verdict on each for a network's metrics; of one that wasn't measured that it doesn't hold."""
        known = {name: metrics.get(name.removeprefix("measured.")) for name in MEASURED}
        found = []
        for text in self.texts:
            missing = [name for name in expressions.names(text) if known[name] is None]
            verdict = Verdict(text, 1.0, "not measured") if missing else _verdict(text, lambda name: known[name])
            found.append(verdict)
        return found

    def broken(self, metrics: Mapping[str, float]) -> list[str]:
        """Those that don't hold, each in words."""
        return [str(v) for v in self.verdicts(metrics) if v.excess > 0]

    def broken_by(self, accuracy: float, energy: float) -> list[str]:
        """The same of a network of which only these are known, or forecast: of the bounds on nothing else."""
        known = {"accuracy": accuracy, "energy": energy}
        asked = {"accuracy", "measured.energy"}
        return [str(v) for v in self.verdicts(known) if v.excess > 0 and expressions.names(v.text) <= asked]


def predicted(entries: Mapping[str, Any]) -> list[str]:
    """The constraints that can be judged before a training."""
    return [text for text in _texts(entries) if not _is_measured(text)]


def _texts(entries: Mapping[str, Any]) -> list[str]:
    return [_text(key, entry) for key, entry in entries.items() if entry is not None]


def _is_measured(text: str) -> bool:
    return not expressions.names(text).isdisjoint(MEASURED)


def _text(key: str, entry: Any) -> str:
    if isinstance(entry, int | float) and not isinstance(entry, bool):
        entry = f"<= {entry:g}"
    text = f"{key} {entry}"
    if not isinstance(_tree(text), ast.Compare):
        raise UserError(
            f"search.constraints.{key}: '{entry}' is not a comparison; write a bound, in a shell"
            f" \"+search.constraints={{{key}: '<= 30e6'}}\""
        )
    return text


def _tree(text: str) -> ast.expr | None:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:
        return None


def _verdict(text: str, lookup: Callable[[str], Any]) -> Verdict:
    values = {name: lookup(name) for name in sorted(expressions.names(text))}
    tree = _tree(text)
    assert isinstance(tree, ast.Compare)
    left = expressions.evaluate(ast.unparse(tree.left), values.get)
    holds = expressions.evaluate(text, values.get)
    if len(tree.ops) > 1 or not isinstance(tree.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE):
        return Verdict(text, 0.0 if holds else 1.0, left)
    bound = expressions.evaluate(ast.unparse(tree.comparators[0]), values.get)
    distance = abs(left - bound) / (abs(bound) or 1.0)
    return Verdict(text, -distance if holds else max(distance, 1e-12), left)
