"""How fast this machine trains: every operation of a few small training steps timed, a few seconds, kept for later."""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from scipy.optimize import nnls
from torch import Tensor, nn

from spikefront.files import cache_folder, write_atomically
from spikefront.nn import ALIF, SSA, Integer, SpikeDrivenTransformer, kernels
from spikefront.nn.kernels.build import library, processor
from spikefront.nn.torch_internals import TorchDispatchMode
from spikefront.planning import work
from spikefront.planning.rehearsal import META, rehearse
from spikefront.planning.work import Work, operation, tensors
from spikefront.training.setup import sample_shape

# Networks whose training steps are watched, with their batch: between them thin and wide layers on few and many pixels.
TIMED: list[tuple[int, dict[str, Any]]] = [
    (2, {"depth": 4, "dim": 16, "image_size": 8, "pooling": "0010", "in_channels": 1}),
    (64, {"dim": 32, "image_size": 8, "pooling": "0010", "in_channels": 1}),
    (8, {"dim": 32, "image_size": 16, "pooling": "0011", "neuron": ALIF, "attention": SSA, "in_channels": 2}),
    (2, {"dim": 64, "image_size": 48, "pooling": "0011"}),
    (2, {"dim": 96, "image_size": 32, "pooling": "0011", "neuron": Integer, "timesteps": 1}),
    (1, {"dim": 128, "image_size": 32, "pooling": "0011"}),
    (1, {"dim": 256, "image_size": 96, "pooling": "1111", "timesteps": 2}),
    (1, {"dim": 512, "image_size": 64, "pooling": "1111", "timesteps": 2}),
    (1, {"dim": 640, "image_size": 32, "pooling": "1111", "timesteps": 1}),
    (4, {"dim": 192, "image_size": 32, "pooling": "0011", "depth": 2}),
]
SECONDS = 5.0  # for rounds over all networks; fewer once
CALM = 0.02  # a third or later one found the steps faster by less than this share
SHORT = 1e-5  # seconds: below, a clock says little


@dataclass(frozen=True)
class Machine:
    """``rates``: seconds of one unit of each measure of each kind of work (``spikefront.planning.work``)."""

    rates: dict[str, list[float]]

    def seconds(self, step: Work) -> float:
        """Of one training step."""
        return float(sum(np.dot(self._rates(kind, amounts), amounts) for kind, amounts in step.amounts.items()))

    def _rates(self, kind: str, amounts: list[float]) -> list[float]:
        """Of an operation that no timed network does: as of the like."""
        return self.rates.get(kind) or self.rates["spatial forward" if len(amounts) > 3 else "plain"]


@cache
def machine(device: str) -> Machine:
    """This machine's speed; measured once, then read from ``$SPIKEFRONT_CACHE``.

    Another processor, number of threads, version of PyTorch or of the code here is measured anew.
    """
    path = _kept(device)
    try:
        return Machine(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        pass
    found = Machine(calibrate(device))
    write_atomically(path, json.dumps(found.rates))
    return found


def calibrated(device: str) -> bool:
    """Whether this machine's speed is known without measuring it."""
    return _kept(device).is_file()


def _kept(device: str) -> Path:
    where = torch.cuda.get_device_name() if device == "cuda" else processor()
    code = [Path(file).read_text(encoding="utf-8") for file in (__file__, work.__file__)]
    what = [where, torch.get_num_threads(), torch.__version__, library("neuron") is not None, *code]
    return cache_folder() / f"speed-{hashlib.sha256(repr(what).encode()).hexdigest()[:16]}.json"


Timing = tuple[str, Sequence[float], float]


def calibrate(device: str) -> dict[str, list[float]]:
    """Time every operation of the training steps of ``TIMED``, and find the rates that explain them.

    Of each network the fastest of several steps counts: what else the machine does comes and goes.
    """
    steps = [_timed(batch, settings, device) for batch, settings in TIMED]
    for step, *_ in steps:
        step()
    best: list[list[Timing]] = []
    small = large = float("inf")
    shortest, rounds, started = 0.0, 0, time.perf_counter()
    while not rounds or time.perf_counter() - started < SECONDS:
        now = [watch(step, optimizer, device) for step, _, optimizer in steps]
        best = [min(pair, key=_seconds) for pair in zip(best or now, now, strict=True)]
        small, large = min(small, fastest(steps[0][0], 0.1)), min(large, fastest(steps[-1][0], 0.0, least=1))
        total, rounds = sum(map(_seconds, best)) + large, rounds + 1
        if rounds >= 3 and total > (1 - CALM) * shortest:
            break
        shortest = total
    rates = fit([timing for run in best for timing in run])
    # the first network has many operations that take next to no time of their own: the rest lies between them
    between = max(0.0, small - Machine(rates).seconds(steps[0][1])) / steps[0][1].calls
    rates = {kind: [each[0] + between, *each[1:]] for kind, each in rates.items()}
    # small steps are the quicker for their size: they meet less of what slows a machine down, and a warmer cache
    more = large / Machine(rates).seconds(steps[-1][1])
    return {kind: [more * rate for rate in each] for kind, each in rates.items()}


def _seconds(timings: Sequence[Timing]) -> float:
    return sum(seconds for *_, seconds in timings)


def fit(timings: Sequence[Timing]) -> dict[str, list[float]]:
    """Rates of every kind, none of them negative, with the least squares of relative errors."""
    rates = {}
    for kind in {kind for kind, *_ in timings}:
        alike = defaultdict(list)
        for _, amounts, seconds in (t for t in timings if t[0] == kind):
            alike[tuple(amounts)].append(seconds)
        rows, times = np.array(list(alike)), np.array([np.median(s) for s in alike.values()])
        scale = rows.max(0)
        scale[scale == 0] = 1.0
        weight = 1 / (times + SHORT)
        found, _ = nnls(rows / scale * weight[:, None], times * weight)
        rates[kind] = (found / scale).tolist()
    return rates


def watch(step: Callable[[], None], optimizer: torch.optim.Optimizer, device: str) -> list[Timing]:
    """Kind, amounts and seconds of every operation of a training step."""
    clock = _Clock(device)
    hooks = [
        optimizer.register_step_pre_hook(lambda *_: clock.enter("optimizer")),
        optimizer.register_step_post_hook(lambda *_: clock.enter(None)),
    ]
    with clock:
        step()
    for hook in hooks:
        hook.remove()
    return clock.seen


class _Clock(TorchDispatchMode):
    """Times every operation and kernel."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.seen: list[Timing] = []
        self._where: str | None = None
        self._wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def enter(self, where: str | None) -> None:
        self._where = where

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs, run = kwargs or {}, kernels.DIRECT.get(func, func)  # as a kernel is called when nobody watches
        out, seconds = self._time(lambda: run(*args, **kwargs))
        read, made = tensors((*args, *kwargs.values())), tensors((out,))
        kind, amounts = operation(func, args, made, read)
        if kind != "pack" or out.numel():  # what isn't spikes isn't packed
            self.seen.append((self._where or kind, amounts, seconds))
        return out

    def _time(self, run: Callable[[], Any]) -> tuple[Any, float]:
        started = time.perf_counter()
        out = run()
        self._wait()
        return out, time.perf_counter() - started


def _timed(batch: int, settings: dict[str, Any], device: str) -> tuple[Callable[[], None], Work, torch.optim.Optimizer]:
    """A network's training step, the work in it and its optimizer."""
    settings = {"depth": 1, "in_channels": 3, "num_classes": 100, **settings}
    shape = batch, settings["in_channels"], settings["image_size"], settings["image_size"]
    with META:
        model = SpikeDrivenTransformer(**settings)
    with_kernels = device == "cpu" and library("neuron") is not None
    rehearsed = rehearse(model, torch.empty(shape, device=META), _square, torch.optim.AdamW, with_kernels=with_kernels)
    real = fires(SpikeDrivenTransformer(**settings).to(device))
    optimizer = torch.optim.AdamW(real.parameters(), lr=0.0)  # each step does the same
    return _step(real, optimizer, torch.rand(shape, device=device), _square), rehearsed.work, optimizer


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
    return prepared(cfg)[0]


def prepared(cfg: DictConfig) -> tuple[Callable[[], None], torch.optim.Optimizer]:
    """The same, and its optimizer."""
    torch.manual_seed(0)
    model = fires(instantiate(cfg.model))
    images, loss = torch.rand(shape(cfg)), criterion(cfg)
    target = torch.randint(cfg.model.num_classes, (len(images),))
    optimizer = instantiate(cfg.optimizer)(model.parameters())
    return _step(model, optimizer, images, lambda steps: loss(steps, target)), optimizer


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
    return (cfg.data.batch_size, *sample_shape(cfg))


def criterion(cfg: DictConfig) -> Callable[[Tensor, Tensor], Tensor]:
    settings: Any = {k: v for k, v in cfg.loss.items() if not str(k).startswith("energy_")}
    return instantiate(settings)
