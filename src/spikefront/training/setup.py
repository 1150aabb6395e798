"""What a training and an evaluation are both set up from: trainer, loss, the energy callback, quiet libraries."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger

from spikefront.training.callbacks import EnergyCallback
from spikefront.training.module import SpikingClassifier
from spikefront.training.penalty import PENALTY_KEYS
from spikefront.training.preemption import Continuation
from spikefront.training.result import Evaluation


def evaluate_part(
    trainer: pl.Trainer, module: SpikingClassifier, data: pl.LightningDataModule, split: str
) -> Evaluation:
    """The figures of ``module`` on the validation (``"val"``) or the test part."""
    run = trainer.validate if split == "val" else trainer.test
    run(module, datamodule=data, verbose=False)
    report = energy_of(trainer).report
    assert report is not None
    accuracies, energies = module.anytime_accuracy, report.anytime_joules
    return Evaluation(
        accuracy=accuracies[-1],
        energy_joules=report.total_joules,
        firing_rate=report.firing_rate,
        anytime=[
            {"t": t, "accuracy": a, "energy_joules": e}
            for t, (a, e) in enumerate(zip(accuracies, energies, strict=True), 1)
        ],
    )


def build_trainer(cfg: DictConfig, logger: Logger | None, extra: Sequence[pl.Callback]) -> pl.Trainer:
    """Lightning's trainer as ``cfg.trainer`` and ``cfg.callbacks`` say, with ``extra`` callbacks."""
    configured = {name: instantiate(c) for name, c in cfg.callbacks.items() if c}
    if "energy" not in configured:
        configured["energy"] = EnergyCallback()
    configured["energy"].cost = instantiate(cfg.energy)
    fast = bool(cfg.trainer.fast_dev_run)
    callbacks = [c for c in configured.values() if not (fast and isinstance(c, ModelCheckpoint))]
    return instantiate(
        {key: value for key, value in cfg.trainer.items() if key != "effective_batch"},
        logger=logger or False,
        callbacks=[*callbacks, Continuation(), *extra],
        default_root_dir=cfg.output_dir,
        enable_progress_bar="progress" in configured,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
    )


def build_loss(cfg: DictConfig) -> torch.nn.Module:
    """The loss, less what its penalty takes."""
    return instantiate({key: value for key, value in cfg.loss.items() if key not in PENALTY_KEYS})


def energy_of(trainer: pl.Trainer) -> EnergyCallback:
    """The callback that measures the run's energy."""
    return next(c for c in trainer.callbacks if isinstance(c, EnergyCallback))  # type: ignore[attr-defined]


def quiet() -> None:
    """Silence what Lightning says to its developers: the user's own lines are what should be read."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning_fabric|torch\.utils\.data).*")
