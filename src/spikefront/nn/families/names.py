"""What published files call the parts of the networks in ``conf/model``, so that they load strictly.

A layout is one repository's names: rules that turn the name of one of our modules into theirs, the first that fits. In
a rule ``{s}`` stands for a number and ``{p:a|b}`` for one of these words; ``{s+1}`` counts from 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

ATTN, MLP = "stages.{s}.block.{b}.attn.", "stages.{s}.block.{b}.mlp."
PATCH = "stages.{s}.patch_embed."
PARTS = "{p:conv|bn|lif}"
STREAM = "{q:q|k|v|proj}"


def alike(theirs: Tensor, ours: Tensor) -> bool:
    """Equal but for dimensions of 1: a ``Linear`` or ``Conv1d`` is a 1x1 ``Conv2d``."""
    return [n for n in theirs.shape if n != 1] == [n for n in ours.shape if n != 1]


@dataclass(frozen=True)
class Layout:
    """``rules``: ours -> theirs; ``unused``: pattern of what stands in their files and does nothing."""

    name: str
    rules: tuple[tuple[str, str], ...]
    unused: str = r"(?!)"
    _known: dict[str, str | None] = field(default_factory=dict, compare=False)

    @cached_property
    def _compiled(self) -> list[tuple[re.Pattern[str], str]]:
        return [(_pattern(ours), theirs) for ours, theirs in self.rules]

    def theirs(self, name: str) -> str | None:
        """What they call our module, parameter or buffer ``name``; None if no rule fits."""
        if name not in self._known:
            self._known[name] = next(
                (
                    _filled(theirs, found) + name[found.end() :]
                    for pattern, theirs in self._compiled
                    if (found := pattern.match(name))
                ),
                None,
            )
        return self._known[name]

    def names(
        self, own: Mapping[str, Tensor], state: Mapping[str, Tensor], like: Callable[[Tensor, Tensor], bool]
    ) -> dict[str, str] | None:
        """Theirs by ours, if ``state`` is this layout's of a network whose ``own`` state that is; else None."""
        out: dict[str, str] = {}
        for name, tensor in own.items():
            theirs = self.theirs(name)
            if theirs is None or theirs not in state or not like(state[theirs], tensor):
                return None
            out[name] = theirs
        taken = set(out.values())
        rest = [key for key in state if key not in taken and not re.fullmatch(self.unused, key)]
        return None if rest else out

    def ours(self, own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """``state`` under our names and in our shapes, if it is this layout's of such a network; else None."""
        names = self.names(own, state, alike)
        return None if names is None else {key: state[names[key]].reshape(own[key].shape) for key in names}


def _pattern(rule: str) -> re.Pattern[str]:
    text = re.escape(rule).replace(r"\{", "{").replace(r"\}", "}").replace(r"\|", "|")
    text = re.sub(r"\{(\w+):([^}]*)\}", r"(?P<\1>\2)", text)
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>\\d+)", text) + r"(?=\.|$)")


def _filled(rule: str, found: re.Match[str]) -> str:
    values: dict[str, str] = found.groupdict()
    return re.sub(r"\{(\w+)(\+1)?\}", lambda m: str(int(values[m[1]]) + 1) if m[2] else values[m[1]], rule)


def parts(ours: str, theirs: str, lif: str | None = None) -> list[tuple[str, str]]:
    """Of an embedding's convolution ``ours`` (a number, or ``short``): theirs with ``*`` for conv, bn and lif."""
    if ours == "short":
        return [(f"{PATCH}short_{p}", theirs.replace("*", p)) for p in ("conv", "bn", "lif")]
    found = [(f"{PATCH}{p}s.{ours}", theirs.replace("*", p)) for p in ("conv", "bn")]
    return [*found, (f"{PATCH}lifs.{ours}", lif or theirs.replace("*", "lif"))]


def at(stage: int | str, rules: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Rules of one stage, counted from 0."""
    return [(ours.replace("{s}", str(stage)), theirs.replace("{s+1}", str(int(stage) + 1))) for ours, theirs in rules]


HEAD = [("head_lif", "head_lif"), ("head_kd", "head_kd"), ("head", "head")]


def mlp(theirs: str, fc: str = "fc", conv: str = "_conv") -> list[tuple[str, str]]:
    """Of an MLP on a stream of potentials."""
    return [
        (f"{MLP}fc{{i}}_{{p:bn|lif}}", f"{theirs}.{fc}{{i}}_{{p}}"),
        (f"{MLP}fc{{i}}_conv", f"{theirs}.{fc}{{i}}{conv}"),
    ]


def mlp_of_spikes(theirs: str, fc: str = "fc", conv: str = "_conv") -> list[tuple[str, str]]:
    """Of an MLP on a stream of spikes, which none of its neurons reads and its shortcut's adds to."""
    return [
        (f"{MLP}fc2_lif", f"{theirs}.{fc}1_lif"),
        (f"{MLP}residual.lif", f"{theirs}.{fc}2_lif"),
        *mlp(theirs, fc, conv),
    ]


def attention(theirs: str, first: str, conv: str = "_conv") -> list[tuple[str, str]]:
    return [
        (f"{ATTN}shortcut_lif", f"{theirs}.{first}"),
        (f"{ATTN}talking_heads_lif", f"{theirs}.attn_lif"),
        ("stages.{s}.block.{b}.residual.lif", f"{theirs}.proj_lif"),
        (f"{ATTN}{STREAM}_conv", f"{theirs}.{{q}}{conv}"),
        (f"{ATTN}{STREAM}_{{p:bn|lif}}", f"{theirs}.{{q}}_{{p}}"),
    ]
