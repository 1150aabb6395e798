"""What of a run's configuration W&B gets, to filter and chart by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COMPONENTS = ("neuron", "attention", "embedding", "residual")  # their own groups, and inside the model once more
ASIDE = ("logger", "callbacks", "output_dir", "resume", "surrogate", "config")  # not what tells runs apart


def told_apart(config: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved configuration as W&B's filters and charts want it.

    Nested (W&B joins with dots itself), a component's class as its ``name``, nothing twice, nothing of this machine's
    directories.
    """
    plain = {k: _named(v) for k, v in config.items() if k not in ASIDE}
    model = plain.get("model")
    if isinstance(model, dict):
        plain["model"] = {k: v for k, v in model.items() if k not in COMPONENTS}
        if {"depth", "dim"} <= set(model):
            plain["model"]["name"] = f"sdt_{model['depth']}_{model['dim']}"
    return plain


def tags_of(config: Mapping[str, Any]) -> list[str]:
    """Data, model and components of a ``told_apart`` configuration."""
    named = (config.get(group) for group in ("data", "model", *COMPONENTS))
    return [str(node["name"])[:64] for node in named if isinstance(node, Mapping) and node.get("name")]


def _named(node: Any) -> Any:
    if isinstance(node, Mapping):
        plain = {str(k): _named(v) for k, v in node.items() if k not in ("_target_", "_partial_")}
        if "_target_" in node:
            plain.setdefault("name", str(node["_target_"]).rpartition(".")[2])
        return plain
    return [_named(v) for v in node] if isinstance(node, list | tuple) else node
