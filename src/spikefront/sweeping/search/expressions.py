"""Conditions and constraints as people write them: ``model.dim % model.num_heads == 0``, ``neuron == 'plif'``."""

from __future__ import annotations

import ast
import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any

from spikefront.errors import UserError

OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {"min": min, "max": max, "abs": abs, "len": len, "int": int, "float": float}


def evaluate(expression: str, lookup: Callable[[str], Any]) -> Any:
    """The value of a Python expression of constants, operators and dotted names, which ``lookup`` resolves.

    Raises:
        UserError: not an expression, or something in it that isn't offered, or types that don't go together.
    """
    try:
        return _value(_parse(expression), lookup)
    except (TypeError, ArithmeticError) as error:
        raise UserError(f"can't evaluate '{expression}': {error}") from error


class _Inactive:
    """What a name stands for that has no value here; so does all that is computed from it."""


_INACTIVE = _Inactive()


def holds(condition: str, values: Mapping[str, Any]) -> bool:
    """Whether a condition on these values holds; on one that isn't there it doesn't, whatever it asks of it.

    Raises:
        UserError: as ``evaluate``.
    """
    return _holds(condition, *(values.get(name, _INACTIVE) for name in _read(condition)))


@functools.lru_cache(4096, typed=True)  # a sampler asks of a thousand candidates a proposal
def _holds(condition: str, *values: Any) -> bool:
    value = evaluate(condition, dict(zip(_read(condition), values, strict=True)).get)
    return value is not _INACTIVE and bool(value)


@functools.cache
def _read(condition: str) -> tuple[str, ...]:
    return tuple(names(condition))


def names(expression: str) -> set[str]:
    """The dotted names an expression reads."""
    found: set[str] = set()
    _names(_parse(expression), found)
    return found


@functools.cache  # a study's conditions are asked for every trial of it, again and again
def _parse(expression: str) -> ast.expr:
    try:
        return ast.parse(str(expression).strip(), mode="eval").body
    except SyntaxError as error:
        raise UserError(f"'{expression}' is not an expression: {error.msg}") from error


def _dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (parent := _dotted(node.value)):
        return f"{parent}.{node.attr}"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):  # a group at its place
        group, place = _dotted(node.left), _dotted(node.right)
        return f"{group}@{place}" if group and place else None
    return None


def _names(node: ast.AST, found: set[str]) -> None:
    if name := _dotted(node):
        found.add(name)
        return
    for child in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.Call) and child is node.func):
            _names(child, found)


def _value(node: ast.AST, lookup: Callable[[str], Any]) -> Any:
    def of(child: ast.AST) -> Any:
        return _value(child, lookup)

    if isinstance(node, ast.Constant):
        return node.value
    if name := _dotted(node):
        return lookup(name)
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return [of(x) for x in node.elts]
    if isinstance(node, ast.BoolOp):
        decides = isinstance(node.op, ast.Or)  # one true operand, or for "and" a false one
        inactive = False
        for operand in node.values:
            value = of(operand)
            if value is _INACTIVE:
                inactive = True
            elif bool(value) is decides:
                return decides
        return _INACTIVE if inactive else not decides
    if isinstance(node, ast.UnaryOp) and type(node.op) in OPERATORS:
        return _apply(OPERATORS[type(node.op)], of(node.operand))
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return _apply(OPERATORS[type(node.op)], of(node.left), of(node.right))
    if isinstance(node, ast.Compare) and all(type(op) in OPERATORS for op in node.ops):
        values = [of(x) for x in (node.left, *node.comparators)]
        steps = zip(node.ops, values, values[1:], strict=False)
        return _apply(lambda *_: all(OPERATORS[type(op)](a, b) for op, a, b in steps), *values)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
        return _apply(FUNCTIONS[node.func.id], *(of(x) for x in node.args))
    raise UserError(
        f"'{ast.unparse(node)}' can't be used here: names, numbers, + - * / // % **, comparisons, and or not"
    )


def _apply(function: Callable[..., Any], *operands: Any) -> Any:
    parts = [x for operand in operands for x in (operand if isinstance(operand, list) else [operand])]
    return _INACTIVE if any(x is _INACTIVE for x in parts) else function(*operands)
