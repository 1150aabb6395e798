"""A network as a folder for colleagues and hubs: weights, configuration, and a card that says what it is."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import Tensor, nn

from spikefront.exporting.hub import CARD
from spikefront.exporting.model_card import card
from spikefront.exporting.origin import Origin
from spikefront.nn.addresses import CONFIG, WEIGHTS
from spikefront.training.evaluation import MACHINES


def write(model: nn.Module, sample: Tensor, directory: Path, *, origin: Origin) -> dict[str, Any]:
    """``model.safetensors``, ``config.yaml`` and a model card, which ``spikefront.from_pretrained`` reads."""
    about = described(origin, origin.figures(model).to_dict() if origin.measured else None)
    put(directory, model.state_dict(), about)
    return {"figures": about["figures"]}


def described(origin: Origin, figures: Mapping[str, Any] | None) -> dict[str, Any]:
    """What ``config.yaml`` says: the network, the data it was made for, and where it came from."""
    run: Any = OmegaConf.to_container(origin.run, resolve=True)
    return {
        "spikefront": metadata.version("spikefront"),
        "commit": origin.commit,
        "member": origin.member,
        "classes": origin.classes,
        "preprocessing": origin.preprocessing,
        "figures": figures,
        "model": run["model"],
        "data": {key: value for key, value in run["data"].items() if key not in MACHINES},
        "energy": run["energy"],
        "seed": run["seed"],
    }


def put(directory: Path, weights: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write a bundle's three files."""
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, directory / WEIGHTS)
    (directory / WEIGHTS).chmod(0o644)  # safetensors writes what only its owner may read
    text = yaml.safe_dump(dict(about), sort_keys=False, allow_unicode=True)
    (directory / CONFIG).write_text(text, encoding="utf-8")
    (directory / CARD).write_text(card(about), encoding="utf-8")
