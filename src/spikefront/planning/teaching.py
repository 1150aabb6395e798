"""What a teacher adds to a training, before any of it is trained."""

from __future__ import annotations

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from spikefront.nn.kernels.build import library
from spikefront.planning.calibration import machine
from spikefront.planning.precision import autocast, dtypes
from spikefront.planning.prediction import accelerator, rehearsed, training_batch
from spikefront.planning.rehearsal import META, rehearsing
from spikefront.training.setup import build_teacher


def taught(cfg: DictConfig) -> str:
    """A line on the teacher of ``cfg``: what it is, its weights, the time that it takes of each step.

    Raises:
        UserError: a teacher that isn't there or doesn't fit.
    """
    teacher = build_teacher(cfg, instantiate(cfg.model))
    assert teacher is not None
    device = accelerator(cfg)
    weights = sum(p.numel() * p.element_size() for p in teacher.network.parameters())
    line = f"{teacher}; beside the above it takes {weights / 2**20:,.1f} MiB of weights"
    if device == "cuda" and not torch.cuda.is_available():
        return line
    with META:
        student = instantiate(cfg.model)
    step = machine(device).seconds(rehearsed(student, cfg).work)
    _, products = dtypes(cfg.trainer.get("precision"), device)
    teacher.network.to(META)
    with rehearsing(device == "cpu" and library("neuron") is not None) as stage, autocast(products, device):
        teacher.ask(training_batch(cfg))
    seconds = machine(device).seconds(stage.work)
    return (
        f"{line} and {seconds:.3g} s a step, {seconds / (seconds + step):.0%} of its time, unless its answers are kept"
    )
