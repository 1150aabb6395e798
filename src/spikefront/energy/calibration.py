"""How fast this machine trains: a few seconds of small training steps, kept for later."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from scipy.optimize import nnls
from torch import Tensor, nn

from spikefront.energy.rehearsal import META, Rehearsal, rehearse
from spikefront.nn import ALIF, SpikeDrivenTransformer
from spikefront.nn.kernels.build import _processor, cache_folder, library

# Networks whose training steps are timed: thin and wide, few and many pixels, with kernels and without.
TIMED: list[tuple[int, dict[str, Any]]] = [
    (2, {"dim": 16, "image_size": 8, "pooling": "0010", "timesteps": 2}),
    (32, {"dim": 64, "image_size": 8, "pooling": "0010"}),
    (8, {"dim": 32, "image_size": 8, "pooling": "0010", "neuron": ALIF}),
    (2, {"dim": 64, "image_size": 64, "pooling": "1111"}),
    (1, {"dim": 128, "image_size": 96, "pooling": "1111"}),
    (2, {"dim": 128, "image_size": 32, "pooling": "0011"}),
    (1, {"dim": 256, "image_size": 32, "pooling": "0011"}),
    (4, {"dim": 256, "image_size": 16, "pooling": "0011", "depth": 3, "timesteps": 1}),
    (1, {"dim": 384, "image_size": 64, "pooling": "1111", "depth": 2}),
    (1, {"dim": 512, "image_size": 96, "pooling": "1111", "timesteps": 2}),
    (1, {"dim": 768, "image_size": 32, "pooling": "1111", "timesteps": 1, "depth": 2}),
]
SECONDS = 0.4  # for each of them


@dataclass(frozen=True)
class Machine:
    """Seconds of each kind of work, found from timed steps."""

    rates: dict[str, float]

    def seconds(self, step: Rehearsal, parameters: int) -> float:
        """Of one training step."""
        return float(sum(self.rates[kind] * amount for kind, amount in features(step, parameters).items()))


@cache
def machine(device: str) -> Machine:
    """This machine's speed; measured once, then read from ``$SPIKEFRONT_CACHE``.

    Another processor, number of threads, version of PyTorch or set of timed networks is measured anew.
    """
    where = torch.cuda.get_device_name() if device == "cuda" else _processor()
    what = [where, torch.get_num_threads(), torch.__version__, library("neuron") is not None, repr(TIMED), *_KINDS]
    path = cache_folder() / f"speed-{hashlib.sha256(repr(what).encode()).hexdigest()[:16]}.json"
    try:
        return Machine(json.loads(path.read_text()))
    except (OSError, ValueError):
        pass
    found = Machine(fit([timed(batch, settings, device) for batch, settings in TIMED]))
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(f".{os.getpid()}.tmp")
    scratch.write_text(json.dumps(found.rates))
    scratch.replace(path)
    return found


_KINDS = ("call", "byte", "neuron", "pool", "pointwise", "spatial", "pointwise value", "spatial value", "parameter")


def features(step: Rehearsal, parameters: int) -> dict[str, float]:
    """How much of each kind of work a step is: what is linear in time."""
    amount = dict.fromkeys(_KINDS, 0.0)
    work = step.work
    amount["call"] = work.get("calls", 0)
    amount["byte"] = work.get("bytes", 0)
    amount["neuron"] = sum(work.get(k, 0) for k in work if k.startswith(("neuron", "norm")))
    amount["pool"] = sum(work.get(k, 0) for k in work if k.startswith(("pool", "pack", "unpack")))
    for (c_in, c_out, kernel, pixels, passes), times in step.products.items():
        kind = "pointwise" if kernel == 1 else "spatial"
        amount[kind] += times * passes * pixels * kernel * c_in * c_out
        amount[f"{kind} value"] += times * passes * pixels * kernel * (c_in + c_out)
    amount["parameter"] = parameters
    return amount


def fit(timings: list[tuple[dict[str, float], float]]) -> dict[str, float]:
    """Rates, none of them negative, with the least squares of relative errors."""
    rows = np.array([[f[k] for k in _KINDS] for f, _ in timings])
    seconds = np.array([s for _, s in timings])
    scale = rows.max(0)
    scale[scale == 0] = 1.0
    rates, _ = nnls(rows / scale / seconds[:, None], np.ones(len(seconds)))
    return dict(zip(_KINDS, (rates / scale).tolist(), strict=True))


def timed(batch: int, settings: dict[str, Any], device: str) -> tuple[dict[str, float], float]:
    """The work of a network's training step and the seconds of the fastest of several."""
    settings = {"depth": 1, "in_channels": 3, "num_classes": 100, **settings}
    with META:
        model = SpikeDrivenTransformer(**settings)
    side = settings["image_size"]
    images = torch.empty(batch, 3, side, side, device=META).contiguous(memory_format=torch.channels_last)
    with_kernels = device == "cpu" and library("neuron") is not None
    work = rehearse(model, images, _square, with_kernels=with_kernels)
    parameters = sum(p.numel() for p in model.parameters())

    real = fires(SpikeDrivenTransformer(**settings).to(device))
    step = _step(real, torch.optim.AdamW(real.parameters()), torch.rand(batch, 3, side, side, device=device), _square)
    step()
    return features(work, parameters), fastest(step, SECONDS)


def fastest(step: Callable[[], None], seconds: float, least: int = 2) -> float:
    """Seconds of the fastest of several steps: the one that nothing else on the machine slowed down."""
    times: list[float] = []
    while len(times) < least or sum(times) < seconds:
        started = time.perf_counter()
        step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times)


def _square(steps: Tensor) -> Tensor:
    return steps.square().mean()


def fires(model: nn.Module) -> nn.Module:
    """The same network, firing: a deep untrained one is silent."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, 0.3)
    return model


def trainer(cfg: DictConfig) -> Callable[[], None]:
    """One training step of ``cfg`` on random data, to be called again and again."""
    torch.manual_seed(0)
    model = fires(instantiate(cfg.model))
    images, loss = torch.rand(shape(cfg)), criterion(cfg)
    target = torch.randint(cfg.model.num_classes, (len(images),))
    return _step(model, instantiate(cfg.optimizer)(model.parameters()), images, lambda steps: loss(steps, target))


def _step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, loss: Callable[[Tensor], Tensor]
) -> Callable[[], None]:
    def step() -> None:
        value = loss(model.train()(images, per_step=True))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()

    return step


def shape(cfg: DictConfig) -> tuple[int, ...]:
    """Of a training batch: ``(B, C, H, W)`` images or ``(B, T, C, H, W)`` events."""
    data = cfg.data
    frame = (data.channels, data.image_size, data.image_size)
    return (data.batch_size, *((cfg.model.timesteps,) if data.event_mode else ()), *frame)


def criterion(cfg: DictConfig) -> Callable[[Tensor, Tensor], Tensor]:
    settings: Any = {k: v for k, v in cfg.loss.items() if not str(k).startswith("energy_")}
    return instantiate(settings)
