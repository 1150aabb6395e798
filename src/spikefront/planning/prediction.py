"""What training a configuration will cost, before any of it is trained."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from spikefront.energy.meter import count
from spikefront.energy.report import EnergyReport
from spikefront.energy.survey import survey
from spikefront.nn.kernels.build import library
from spikefront.planning.calibration import criterion, machine, shape
from spikefront.planning.precision import autocast, dtypes
from spikefront.planning.rehearsal import META, Rehearsal, rehearse, rehearsing
from spikefront.units import amount, joules

RATE = 0.2


@dataclass(frozen=True)
class Cost:
    """What one configuration costs; nothing of it was trained.

    Attributes:
        parameters: how many, all of them.
        operations: a sample, over all timesteps, if every neuron fired: multiply-accumulates of layers that read real
            values, additions of all others.
        energy: joules a sample under ``convention``, which names the firing rate that was assumed.
        memory: bytes at the peak of a training step: parameters, gradients, optimizer state, what the backward pass
            needs and the largest intermediate results. What Python and its libraries take comes on top.
        step_time: seconds of a training step of ``batch_size`` samples on this machine; None if it wasn't asked for, or
            the step will run on a GPU that isn't here.
    """

    parameters: int
    operations: float
    energy: float
    memory: float
    step_time: float | None
    batch_size: int
    firing_rate: float
    convention: str
    device: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        lines = {
            "parameters": f"{self.parameters:,}",
            "operations": f"{amount(self.operations)} a sample, if every neuron fired",
            "energy": f"{joules(self.energy)} a sample ({self.convention})",
            "memory": f"{self.memory / 2**20:,.0f} MiB at the peak of a training step of {self.batch_size} samples"
            f" ({self.device})",
        }
        if self.step_time is not None:
            lines["time"] = f"{self.step_time:.3g} s a training step of {self.batch_size} samples ({self.device})"
        elif self.device == "cuda":
            lines["time"] = "not predicted: there is no GPU here to calibrate"
        return "\n".join(f"{name:<12}{text}" for name, text in lines.items())


def predict_cost(cfg: DictConfig, *, rate: float | None = None, time: bool = True) -> Cost:
    """Predict what training ``cfg`` costs: parameters, operations, energy, peak memory and time of a step.

    The training step is rehearsed on tensors without data, which takes a tenth of a second whatever the size of the
    network; nothing is allocated. ``cfg`` is a configuration of ``train.py``, for instance
    ``spikefront.config.compose(["model=sdt_8_512", "data=imagenet"])``.

    Args:
        rate: the firing rate to assume; by default ``energy.rate``, or 0.2.
        time: also predict ``step_time``. The first time on a machine that takes a calibration of a few seconds, whose
            result is kept in ``$SPIKEFRONT_CACHE``.

    Raises:
        UserError: sizes that don't fit together, no such ``trainer.precision``.
    """
    with META:
        model = instantiate(cfg.model)
    device = accelerator(cfg)
    here = device == "cpu" or torch.cuda.is_available()
    step = rehearsed(model, cfg)
    parameters = sum(p.numel() for p in model.parameters())
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    report = counted(model.float(), cfg, rate, step.real)
    states = weights * step.states
    # gradients live from one backward pass to the next, so a forward pass has those of the step before
    peak = states + weights + max(step.forward_peak + weights, step.peak, 2 * weights)
    return Cost(
        parameters=parameters,
        operations=float(sum(x.potential * x.timesteps for x in report.layers if x.kind not in ("neuron", "pool"))),
        energy=report.total_joules,
        memory=float(peak),
        step_time=machine(device).seconds(step.work) if time and here else None,
        batch_size=int(cfg.data.batch_size),
        firing_rate=report.firing_rate,
        convention=report.convention,
        device=device,
    )


def counted(model: nn.Module, cfg: DictConfig, rate: float | None, real: set[str]) -> EnergyReport:
    """The energy table at an assumed firing rate; ``real`` are the layers that read more than whole numbers."""
    if rate is None:
        rate = RATE if cfg.energy.get("rate") is None else cfg.energy.rate
    steps = int(cfg.model.timesteps)
    with rehearsing(with_kernels=True) as stage:
        found = survey(model, torch.empty(shape(cfg)[1:], device=META).unsqueeze(0), steps, stage.is_whole)
    layers = [count(layer, None, 1, steps) for layer in found.layers.values()]
    layers = [replace(x, kind="analog") if x.kind == "spikes" and x.name in real else x for x in layers]
    return EnergyReport(layers, instantiate(cfg.energy, rate=rate), 1, found.notes)


def rehearsed(model: nn.Module, cfg: DictConfig) -> Rehearsal:
    """A training step of ``cfg`` where it will train, in its precision, which ``model`` takes on."""
    images, device = training_batch(cfg), accelerator(cfg)
    loss, target = criterion(cfg), torch.empty(len(images), dtype=torch.long, device=META)
    weights, products = dtypes(cfg.trainer.get("precision"), device)
    optimizer, cast = instantiate(cfg.optimizer), autocast(products, device)
    return rehearse(
        model.to(weights),
        images.to(weights),
        lambda steps: loss(steps, target),
        optimizer,
        with_kernels=device == "cpu" and library("neuron") is not None,
        precision=cast,
    )


def training_batch(cfg: DictConfig) -> Tensor:
    """A batch of images or events without data, its channels last."""
    size = shape(cfg)
    frames = torch.empty(prod(size[:-3]), *size[-3:], device=META).contiguous(memory_format=torch.channels_last)
    return frames if len(size) == 4 else frames.unflatten(0, (size[1], size[0])).transpose(0, 1)


def accelerator(cfg: DictConfig) -> str:
    """``cuda`` or ``cpu``: where ``cfg.trainer`` will train, as far as this machine can tell."""
    asked = str(cfg.trainer.get("accelerator", "auto"))
    if asked in ("gpu", "cuda") or (asked == "auto" and torch.cuda.is_available()):
        return "cuda"
    return "cpu"
