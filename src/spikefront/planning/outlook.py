"""How long a training will take, before it is begun."""

from __future__ import annotations

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from spikefront.errors import UserError
from spikefront.planning.calibration import SECONDS, calibrated, machine
from spikefront.planning.outline import workload
from spikefront.planning.prediction import Cost, accelerator, rehearsed
from spikefront.planning.rehearsal import META
from spikefront.training.devices import count_devices, named, threads, threads_each
from spikefront.units import duration

LEAST = 1e-6  # seconds: no operation of PyTorch's takes less, on whatever machine
SHARE = 0.02  # of a training, that finding out this machine's speed may take
# under which a training's steps are not, or not all, the one that is rehearsed
OTHERWISE = ("teacher", "elastic", "finetune.freeze", "finetune.head_epochs", "model.compile", "model.sparse")


def outlook(cfg: DictConfig, *, patient: bool = True, cost: Cost | None = None) -> str | None:
    """How long ``cfg`` will train on what device, in words: ``about 4.2 days of training on NVIDIA H200, …``.

    That is its batches times the step that ``predict_cost`` predicts; evaluations, reading data and what processes say
    to each other come on top. None where that is no prediction: without a number of samples or an end, with a teacher,
    an elastic network, frozen parts, a compiled network or sparse training, on several processes of one CPU, on a
    device that isn't here.

    Args:
        patient: find out this machine's speed if it isn't known, which takes seconds. False: then also None, unless
            the training takes so long that those don't count.
        cost: what ``predict_cost`` said of ``cfg``: a step of as many samples isn't rehearsed again.

    Raises:
        UserError: sizes that don't fit together, a batch that can't be shared, no such ``trainer.precision``.
    """
    unlike = cfg.trainer.get("fast_dev_run") or any(OmegaConf.select(cfg, key) for key in OTHERWISE)
    if unlike or not _here(cfg) or (found := workload(cfg)) is None:
        return None
    processes, size, batches = found
    with threads(cfg.get("threads")):
        seconds = _seconds(cfg, size, batches, patient, cost)
        if seconds is None:
            return None
        device = f"{processes} x " * (processes > 1) + named(torch.device(accelerator(cfg)))
        return f"about {duration(seconds)} of training on {device}, beside evaluations"


def _seconds(cfg: DictConfig, size: int, batches: int, patient: bool, cost: Cost | None) -> float | None:
    if cost is not None and cost.step_time is not None and cost.batch_size == size:
        return batches * cost.step_time
    cfg = cfg.copy()
    cfg.data.batch_size = size
    with META:
        model = instantiate(cfg.model)
    step, device = rehearsed(model, cfg).work, accelerator(cfg)
    if not patient and not calibrated(device) and SHARE * batches * step.calls * LEAST < SECONDS:
        return None
    return batches * machine(device).seconds(step)


def _here(cfg: DictConfig) -> bool:
    """Whether it trains on GPUs of this machine's kind, or alone on its CPU."""
    if accelerator(cfg) == "cuda":
        return torch.cuda.is_available()
    try:
        return threads_each(cfg.trainer) is not None and count_devices(cfg.trainer) == 1
    except UserError:  # devices of another machine
        return False
