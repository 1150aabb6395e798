"""Whether a network is a slice of another one, told from their configurations: nothing is allocated."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor

from spikefront.data import build_data
from spikefront.errors import UserError
from spikefront.nn.elastic import strange


def weights(cfg: DictConfig) -> dict[str, Tensor]:
    """The tensors of a run's network, without their data."""
    with torch.device("meta"):
        found: dict[str, Tensor] = instantiate(cfg.model).state_dict()
    return found


def elements(cfg: DictConfig) -> int:
    """How many numbers a run's network learns and keeps."""
    return sum(t.numel() for t in weights(cfg).values())


def no_slice(cfg: DictConfig, largest: DictConfig, whole: Mapping[str, Tensor]) -> str | None:
    """Why a run's network can't be trained as a slice of the ``largest`` one, whose weights are ``whole``, in words;
    None if it can."""
    if (why := strange(weights(cfg), whole)) is not None:
        return why
    most = int(largest.model.timesteps)
    try:
        build_data(largest.data, timesteps=most).fewer(torch.empty(1, most, 1, 1, 1), int(cfg.model.timesteps))
    except UserError as error:
        return str(error)
    return None
