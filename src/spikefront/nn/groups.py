"""Parts of a network by the names that people call them, as names of its parameters and buffers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from spikefront.errors import UserError, near_matches

NAMED = ("embedding", "blocks", "norms", "neurons", "head")
BLOCKS = re.compile(r"blocks(?:\.(\d+)(?:-(\d+))?)?")
HEAD = re.compile(r"(head|head_kd|head_lif)\.")
# a neuron's own tensor
NEURON = re.compile(r"lifs?\d*(\.\d+)?\.\w+$")


def tensors_of(model: nn.Module, groups: Iterable[str], where: str) -> set[str]:
    """Names in the state of ``model`` that belong to any of the ``groups``.

    Args:
        groups: ``embedding`` (every stage's), ``blocks`` or some counted from 0 through all stages, ``blocks.4`` and
            ``blocks.0-3``; ``norms``, ``neurons`` (what some learn) and ``head``, wherever they are; or a pattern of
            names, ``stages.0.*``.
        where: the setting, for errors.

    Raises:
        UserError: a group that nothing belongs to.
    """
    state = list(model.state_dict())
    return {name for group in groups for name in _tensors_of(model, str(group), state, where)}


def _tensors_of(model: nn.Module, group: str, state: list[str], where: str) -> list[str]:
    embeddings, blocks = _sections(model)
    if group == "embedding":
        found = _below(embeddings, state)
    elif (place := BLOCKS.fullmatch(group)) is not None:
        first, last = place.groups()
        found = _below(blocks[int(first or 0) : int(last or first or len(blocks)) + 1], state)
        if first is not None and int(last or first) >= len(blocks):
            raise UserError(f"{where} has {group}: the network has {len(blocks)} blocks, counted from 0")
    elif group == "norms":
        found = _below([name for name, module in model.named_modules() if isinstance(module, _BatchNorm)], state)
    elif group == "neurons":
        return [name for name in state if NEURON.search(name)]  # most kinds learn nothing
    elif group == "head":
        found = [name for name in state if HEAD.match(name)]
    else:
        found = [name for name in state if fnmatchcase(name, group)]
    if not found:
        raise UserError(
            f"{where} has {group}: it is no part of the network; {near_matches(group, NAMED)}, or a pattern"
        )
    return found


def _sections(model: Any) -> tuple[list[str], list[str]]:
    """The names of a network's embeddings, and of its blocks in their order; none of a foreign one."""
    names = {id(module): name for name, module in model.named_modules()}
    parts = [(embedding, list(blocks)) for embedding, blocks in getattr(model, "sections", list)()]
    return [names[id(e)] for e, _ in parts], [names[id(block)] for _, blocks in parts for block in blocks]


def _below(modules: Iterable[str], state: Iterable[str]) -> list[str]:
    starts = tuple(f"{name}." for name in modules)
    return [name for name in state if name.startswith(starts)]
