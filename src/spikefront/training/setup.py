"""What a training and an evaluation are both set up from: trainer, loss, the energy callback, quiet libraries."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.seed import isolate_rng

from spikefront.errors import UserError
from spikefront.training.callbacks import EnergyCallback
from spikefront.training.ddp import FirstNorms, StaticDDP, SynchronisedBatchNorm
from spikefront.training.devices import count_devices
from spikefront.training.distillation import Teacher
from spikefront.training.module import SpikingClassifier
from spikefront.training.penalty import PENALTY_KEYS
from spikefront.training.preemption import Continuation
from spikefront.training.result import Evaluation


def evaluate_part(
    trainer: pl.Trainer, module: SpikingClassifier, data: pl.LightningDataModule, split: str
) -> Evaluation:
    """The figures of ``module`` on the validation (``"val"``) or the test part."""
    run = trainer.validate if split == "val" else trainer.test
    energy_of(trainer).report = None
    run(module, datamodule=data, verbose=False)
    report = energy_of(trainer).report
    if report is None:
        raise UserError(f"trainer.limit_{split}_batches={getattr(trainer, f'limit_{split}_batches')} evaluates nothing")
    accuracies, energies = module.anytime_accuracy, report.anytime_joules
    return Evaluation(
        accuracy=accuracies[-1],
        energy_joules=report.total_joules,
        firing_rate=report.firing_rate,
        samples=report.samples,
        anytime=[
            {"t": t, "accuracy": a, "energy_joules": e}
            for t, (a, e) in enumerate(zip(accuracies, energies, strict=True), 1)
        ],
    )


def build_trainer(cfg: DictConfig, logger: Logger | None, extra: Sequence[pl.Callback]) -> pl.Trainer:
    """Lightning's trainer as ``cfg.trainer`` and ``cfg.callbacks`` say, with ``extra`` callbacks."""
    for name, node in cfg.callbacks.items():
        if node and not OmegaConf.is_dict(node):
            raise UserError(f"callbacks.{name} is {node}: give the _target_ of a callback, or null for none")
    configured = {name: instantiate(c) for name, c in cfg.callbacks.items() if c}
    if "energy" not in configured:
        configured["energy"] = EnergyCallback()
    configured["energy"].cost = instantiate(cfg.energy)
    fast = bool(cfg.trainer.get("fast_dev_run"))
    callbacks = [c for c in configured.values() if not (fast and isinstance(c, ModelCheckpoint))]
    settings: dict[str, Any] = {key: value for key, value in cfg.trainer.items() if key != "effective_batch"}
    several = count_devices(cfg.trainer) * int(cfg.trainer.get("num_nodes") or 1) > 1
    if several:
        settings |= _over_processes(cfg.trainer)
    norms = [] if not several or cfg.trainer.get("sync_batchnorm", True) else [FirstNorms()]
    return instantiate(
        settings,
        logger=logger or False,
        callbacks=[*callbacks, *norms, Continuation(), *extra],
        default_root_dir=cfg.output_dir,
        enable_progress_bar="progress" in configured,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
    )


def _over_processes(trainer: DictConfig) -> dict[str, Any]:
    """What a trainer of several processes needs, whichever it is."""
    changed: dict[str, Any] = {}
    if trainer.get("strategy") in (None, "auto", "ddp"):
        changed["strategy"] = StaticDDP()
    if trainer.get("sync_batchnorm", True):
        plugins = [instantiate(plugin) for plugin in trainer.get("plugins") or []]
        changed["plugins"] = [*plugins, SynchronisedBatchNorm()]
    return changed


def build_model(cfg: DictConfig) -> torch.nn.Module:
    """The network, in float64 if that is trained: Lightning would round a resumed checkpoint to float32 first."""
    model = instantiate(cfg.model)
    return model.double() if str(cfg.trainer.get("precision")) in ("64-true", "64") else model


def for_evaluation(model: torch.nn.Module, cfg: DictConfig) -> SpikingClassifier:
    """A network as a trainer evaluates it, under the run's loss."""
    return SpikingClassifier(model, build_loss(cfg), instantiate(cfg.optimizer), cfg.schedule, {})


def build_loss(cfg: DictConfig) -> torch.nn.Module:
    """The loss, less what its penalty takes."""
    return instantiate({key: value for key, value in cfg.loss.items() if key not in PENALTY_KEYS})


def build_teacher(cfg: DictConfig, student: torch.nn.Module | None = None) -> Teacher | None:
    """The network whose answers are learned, tried on a sample as the data's are; None without one.

    Args:
        student: the network that learns from it; without one what the two have in common is not found.

    Raises:
        UserError: no such file or name, weights of another network, samples that it can't take.
    """
    if not cfg.get("teacher"):
        return None
    if not cfg.teacher.get("_target_"):
        raise UserError("teacher=default is what all have: choose teacher=checkpoint, timm or huggingface")
    if cfg.teacher.get("alpha") == 1 and cfg.model.get("second_head"):
        raise UserError(
            "teacher.alpha=1 leaves the first classifier nothing to learn beside model.second_head: lower it, or set"
            " model.second_head=null"
        )
    sample = blank(cfg)
    with isolate_rng():  # a training draws the same numbers with a teacher as without
        teacher: Teacher = instantiate(cfg.teacher)
        teacher.check(sample, cfg.model.num_classes, (cfg.data.get("mean"), cfg.data.get("std")))
        if student is not None:
            teacher.meet(student, sample)
    return teacher


def sample_shape(cfg: DictConfig) -> tuple[int, ...]:
    """Of one sample: ``(C, H, W)``, or of events, whatever the attention does with them, ``(T, C, H, W)``."""
    frames = (cfg.model.timesteps,) if cfg.data.get("binning") is not None else ()
    return (*frames, cfg.data.channels, cfg.data.image_size, cfg.data.image_size)


def blank(cfg: DictConfig) -> torch.Tensor:
    """One empty sample as the data's are, in a batch."""
    return torch.zeros(1, *sample_shape(cfg))


def energy_of(trainer: pl.Trainer) -> EnergyCallback:
    """The callback that measures the run's energy."""
    return next(c for c in trainer.callbacks if isinstance(c, EnergyCallback))  # type: ignore[attr-defined]


def quiet() -> None:
    """Silence what Lightning says to its developers: the user's own lines are what should be read."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning_fabric|torch\.utils\.data).*")
