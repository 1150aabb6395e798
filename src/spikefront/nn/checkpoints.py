"""Checkpoint files: published ones, Lightning's and safetensors, read without running what they hold."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spikefront.errors import UserError
from spikefront.renamed import current

WRAPPERS = (
    "module.",
    "model.",
    "_orig_mod.",
)  # before the names inside DDP, Lightning's module, torch.compile


def load_checkpoint(model: nn.Module, path: str | Path, *, ema: bool = True) -> nn.Module:
    """Load weights into ``model``, strictly, from a published ``.pth.tar``, a Lightning ``.ckpt`` or ``.safetensors``.

    Reads with ``weights_only=True``. Takes ``state_dict`` and ``state_dict_ema`` (preferred if ``ema``) wrappers and
    strips the prefixes of wrappers (DDP's, Lightning's, ``torch.compile``'s), in any order. timm's ``load_state_dict``
    and ``clean_state_dict`` know neither Lightning's prefix nor the weights that training goes on with, and to import
    them takes seconds.

    Raises:
        UserError: the file can't be read, or its tensors differ from the model's; the message names which.
    """
    state = _weights(read_checkpoint(path), ema)
    state = _bare({key: value for key, value in state.items() if isinstance(value, Tensor)})
    if (why := misfit(model, state)) is not None:
        raise UserError(f"checkpoint {path} is of another model: {why}")
    model.load_state_dict(state)
    return model


def misfit(model: nn.Module, state: Mapping[str, Tensor]) -> str | None:
    """Which tensors keep ``state`` from being the state of ``model``, in words; None if it fits."""
    own = model.state_dict()
    different = [
        f"{key} {tuple(state[key].shape)} here {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    missing, surplus = [k for k in own if k not in state], [k for k in state if k not in own]
    parts = [
        f"{len(keys)} {what}: {', '.join(keys[:3])}{' …' if len(keys) > 3 else ''}"
        for what, keys in (("of another shape", different), ("missing", missing), ("unknown", surplus))
        if keys
    ]
    return "; ".join(parts) or None


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The contents of a checkpoint file, read without executing anything it contains.

    Raises:
        UserError: no such file, or not a checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"checkpoint {path} is not a file; give the path of a .ckpt, .pth.tar or .safetensors file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]):  # timm keeps its arguments beside the weights
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"checkpoint {path} can't be read ({type(error).__name__}): it is damaged, or holds more than weights"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"checkpoint {path} holds a {type(content).__name__}, not a state dict")
    return content


def configuration(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """The run's configuration in the contents of a checkpoint that train.py wrote, of whatever version; else None."""
    stored = content.get("hyper_parameters", {}).get("config")
    return None if stored is None else current(stored)


def _weights(content: dict[str, Any], ema: bool) -> dict[str, Any]:
    averaged, plain = ("state_dict_ema", "model_ema"), ("current_model_state", "state_dict", "model")
    for key in (*averaged, "state_dict", "model") if ema else plain:
        if isinstance(content.get(key), dict):
            return content[key]
    return content


def _bare(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the wrappers that were around the model: prefixes that all names share."""
    while prefix := next((p for p in WRAPPERS if state and all(key.startswith(p) for key in state)), None):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state
