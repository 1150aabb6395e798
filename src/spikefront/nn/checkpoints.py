"""Checkpoint files: published ones, Lightning's and safetensors, read without running what they hold."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from spikefront.errors import UserError, one_line
from spikefront.nn.addresses import CONFIG, FORMS, WEIGHTS, local
from spikefront.nn.families.layouts import translated
from spikefront.nn.families.recognition import recognised
from spikefront.renamed import current

AVERAGED, PLAIN = ("state_dict_ema", "model_ema"), ("state_dict", "model")  # where a file keeps its weights
WRAPPERS = (
    "module.",
    "model.",
    "_orig_mod.",
)  # before the names inside DDP, Lightning's module, torch.compile


def load_checkpoint(model: nn.Module, path: str | Path, *, ema: bool = True) -> nn.Module:
    """Load weights into ``model``, strictly, from a published ``.pth.tar``, a Lightning ``.ckpt`` or ``.safetensors``.

    The names in published files are known (``families.names``), their ``Linear`` and ``Conv1d`` layouts, and what does
    nothing there. Reads with ``weights_only=True``. Takes ``state_dict`` and ``state_dict_ema`` (preferred if ``ema``)
    wrappers and strips the prefixes of wrappers (DDP's, Lightning's, ``torch.compile``'s), in any order. timm's
    ``load_state_dict`` and ``clean_state_dict`` know neither Lightning's prefix nor the weights that training goes on
    with, and to import them takes seconds.

    Args:
        path: also a bundle's directory, or an address such as ``hf:…`` (``addresses.local``).

    Raises:
        UserError: the file can't be read, or its tensors differ from the model's; the message names which, and the
            model that they are of where that is known.
    """
    model.load_state_dict(fitting(model, path, ema))
    return model


def fitting(model: nn.Module, path: str | Path, ema: bool = True) -> dict[str, Tensor]:
    """What ``load_checkpoint`` would load, under the model's names; raises as that does."""
    own, state = model.state_dict(), stated(read_checkpoint(path), ema)
    if misfit(own, state) is not None:
        state = dict(translated(own, state))
    if (why := misfit(own, state)) is not None:
        raise UserError(f"checkpoint {path} is of another model: {why}{fits_instead(model, state)}")
    return state


def stated(content: dict[str, Any], ema: bool = True) -> dict[str, Tensor]:
    """The tensors of a network in the contents of a checkpoint, under its file's names without any wrapper's."""
    state = _weights(content, ema)
    if (configuration(content) or {}).get("elastic"):  # the largest network, which its slopes are 0 for
        state = {key: value for key, value in state.items() if not key.startswith("slopes.")}
    return _bare({key: value for key, value in state.items() if isinstance(value, Tensor)})


def fits_instead(model: nn.Module, state: Mapping[str, Tensor]) -> str:
    """Of which other model a checkpoint is, to follow the line that it isn't of ``model``; empty if not known."""
    name = recognised(state)
    return f"; its names are those of {name}" if name and name != recognised(model.state_dict()) else ""


def misfit(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str | None:
    """Which tensors keep ``state`` from being in the place of a network's ``own``, in words; None if it fits."""
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
    """The contents of a checkpoint, read without executing anything it contains.

    Args:
        path: of a file, of a bundle's directory, or an address of either (``addresses.local``).

    Raises:
        UserError: no such file, or not a checkpoint.
    """
    path = local(path)
    if path.is_dir() and (path / WEIGHTS).is_file():
        return _bundle(path)
    if not path.is_file():
        raise UserError(f"checkpoint {path} is not a file; give the path of {FORMS}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]):  # timm keeps its arguments beside the weights
            try:
                content = torch.load(path, map_location="cpu", weights_only=True)
            except UnpicklingError as error:
                raise UserError(f"checkpoint {path} can't be read: {_strange(error, path)}") from error
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"checkpoint {path} can't be read: it is damaged ({type(error).__name__})") from error
    if not isinstance(content, dict):
        raise UserError(f"checkpoint {path} holds a {type(content).__name__}, not a state dict")
    return content


def _bundle(folder: Path) -> dict[str, Any]:
    """A bundle's weights and configuration, as they stand in a checkpoint of ``train.py``."""
    content: dict[str, Any] = {"state_dict": read_checkpoint(folder / WEIGHTS)}
    if (folder / CONFIG).is_file():
        config = bundle_configuration(folder, f"checkpoint {folder}")
        if "integers" in config:
            raise UserError(
                f"checkpoint {folder} is of integers, which spikefront.from_pretrained alone reads: give the checkpoint"
                " that it was made of"
            )
        content["hyper_parameters"] = {"config": config}
    return content


def bundle_configuration(folder: Path, where: str) -> dict[str, Any]:
    """What a bundle's ``config.yaml`` says of its model and more. Raises UserError, which begins with ``where``."""
    try:
        config = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: {CONFIG} can't be read: {one_line(error)}") from error
    if not isinstance(config, dict) or not isinstance(config.get("model"), dict):
        raise UserError(f"{where}: {CONFIG} says nothing of a model")
    return config


def _strange(error: UnpicklingError, path: Path) -> str:
    """What a file holds beside weights, and the line that leaves it out."""
    if (found := re.search(r"(?:GLOBAL|type) ([\w.]+)", str(error))) is None:
        return f"it is damaged, or holds more than weights ({str(error).splitlines()[-1].strip()})"
    names = [found[1]]
    with suppress(Exception):  # of PyTorch's older kind of file it says the first
        names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    return (
        f"it holds {', '.join(names)} beside the weights, and to read these may run code. If you trust who made it,"
        f" keep the weights alone: {strip(path)}"
    )


def strip(path: Path) -> str:
    """A command that writes the weights in a checkpoint, whatever else it holds, into a file beside it."""
    program = (
        f"import torch; c = torch.load({str(path)!r}, map_location='cpu', weights_only=False);"
        f" c = next((c[k] for k in {(*AVERAGED, *PLAIN)} if isinstance(c.get(k), dict)), c);"
        f" torch.save({{k: v for k, v in c.items() if torch.is_tensor(v)}}, {str(path.with_suffix('.weights.pth'))!r})"
    )
    return shlex.join(["python", "-c", program]) if set(program) & set('"$`\\!') else f'python -c "{program}"'


def configuration(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """The run's configuration in the contents of a checkpoint that train.py wrote, of whatever version; else None."""
    stored = content.get("hyper_parameters", {}).get("config")
    return None if stored is None else current(stored)


def network_state(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The network's part of a checkpoint that train.py wrote."""
    return {k.removeprefix("model."): v for k, v in content["state_dict"].items() if k.startswith("model.")}


def _weights(content: dict[str, Any], ema: bool) -> dict[str, Any]:
    for key in (*AVERAGED, *PLAIN) if ema else ("current_model_state", *PLAIN):
        if isinstance(content.get(key), dict):
            return content[key]
    return content


def _bare(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the wrappers that were around the model: prefixes that all names share."""
    while prefix := next((p for p in WRAPPERS if state and all(key.startswith(p) for key in state)), None):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state
