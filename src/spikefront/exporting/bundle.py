"""A network as a folder for colleagues and hubs: weights, configuration, and a card that says what it is."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import Tensor, nn

from spikefront.exporting.model_card import card
from spikefront.exporting.origin import Origin

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.yaml", "README.md"


def write(model: nn.Module, sample: Tensor, directory: Path, *, origin: Origin) -> dict[str, Any]:
    """``model.safetensors``, ``config.yaml`` and a model card, which ``spikefront.from_pretrained`` reads."""
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, directory / WEIGHTS)
    figures = origin.figures(model).to_dict() if origin.measured else None
    known = {"classes": origin.classes, "member": origin.member, "timesteps": int(origin.run.model.timesteps)}
    run: dict[str, Any] = OmegaConf.to_container(origin.run, resolve=True)  # type: ignore[assignment]
    kept: dict[str, Any] = {key: run[key] for key in ("model", "data", "energy", "seed") if key in run}
    kept["data"] = {k: v for k, v in kept["data"].items() if k not in ("root", "cache", "num_workers")}
    about: dict[str, Any] = {"spikefront": metadata.version("spikefront"), **known, "figures": figures}
    (directory / CONFIG).write_text(OmegaConf.to_yaml({**about, **kept}), encoding="utf-8")
    (directory / CARD).write_text(card({**about, **kept}), encoding="utf-8")
    return {"figures": figures}
