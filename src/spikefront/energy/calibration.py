"""How fast this machine trains: a few seconds of small training steps, kept for later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn


def shape(cfg: DictConfig) -> tuple[int, ...]:
    """Of a training batch: ``(B, C, H, W)`` images or ``(B, T, C, H, W)`` events."""
    data = cfg.data
    frame = (data.channels, data.image_size, data.image_size)
    return (data.batch_size, *((cfg.model.timesteps,) if data.event_mode else ()), *frame)


def trainer(cfg: DictConfig) -> Callable[[], None]:
    """One training step of ``cfg`` on random data, to be called again and again."""
    torch.manual_seed(0)
    model: nn.Module = instantiate(cfg.model)
    optimizer = instantiate(cfg.optimizer)(model.parameters())
    loss = criterion(cfg)
    images = torch.rand(shape(cfg)).contiguous()
    target = torch.randint(cfg.model.num_classes, (len(images),))
    for module in model.modules():  # an untrained network is silent, and silence is cheap
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, 0.3)

    def step() -> None:
        value = loss(model.train()(images, per_step=True), target)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()

    return step


def criterion(cfg: DictConfig) -> Callable[[Tensor, Tensor], Tensor]:
    settings: Any = {k: v for k, v in cfg.loss.items() if not str(k).startswith("energy_")}
    return instantiate(settings)


def machine(device):
    raise NotImplementedError
