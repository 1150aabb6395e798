"""``train(cfg)`` and ``evaluate(cfg)``."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from spikefront.api import load_checkpoint, read_checkpoint
from spikefront.data import build_data
from spikefront.energy import joules
from spikefront.errors import UserError
from spikefront.training.batch import share
from spikefront.training.callbacks import EnergyCallback
from spikefront.training.early_exit import EarlyExit
from spikefront.training.latency import WAYS, latency
from spikefront.training.module import SpikingClassifier
from spikefront.training.penalty import PENALTY_KEYS, build_penalty
from spikefront.training.preemption import LAST, Continuation, Interrupted, run_id
from spikefront.training.result import Evaluation, Result

CONFIG = "config.yaml"
say = rank_zero_only(print)  # of several processes the first speaks


def train(cfg: DictConfig, callbacks: Sequence[pl.Callback] = ()) -> Result:
    """Train one network as ``conf/train.yaml`` composes it and evaluate it on validation and test parts.

    Writes ``config.yaml`` (resolved), ``checkpoints/`` and ``result.json`` into ``cfg.output_dir``. The metrics depend
    on the config alone: the same config gives the same ones on one machine.

    Args:
        callbacks: more Lightning callbacks, a sweep's for instance; the ``conclude(result)`` of one that has it gives
            further figures to log.

    Raises:
        UserError: sizes that don't fit together, data that isn't there, a loss that isn't finite.
    """
    _quiet()
    started = time.perf_counter()
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    if cfg.get("latency") not in (None, *WAYS):
        raise UserError(f"latency={cfg.latency}: use null, {', '.join(WAYS)}")
    model = instantiate(cfg.model)
    parameters = sum(p.numel() for p in model.parameters())
    say(
        f"{type(model).__name__} {model.depth}-{model.dim}, T = {model.timesteps}: {parameters:,} parameters",
        flush=True,
    )
    data = build_data(cfg.data, timesteps=cfg.model.timesteps)
    data.check()

    output = Path(cfg.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    config = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    rank_zero_only(OmegaConf.save)(OmegaConf.create(config), output / CONFIG)

    penalty = build_penalty(cfg.loss, model, instantiate(cfg.energy))
    module = SpikingClassifier(model, _loss(cfg), instantiate(cfg.optimizer), cfg.schedule, config, penalty)
    resume = _resume(cfg)
    # also a clear word on a missing or damaged file, before anything starts
    logger = _logger(cfg, run_id(read_checkpoint(resume)) if resume else None)
    trainer = _trainer(cfg, logger, callbacks)
    if cfg.trainer.get("effective_batch"):
        even = cfg.data.get("mixup") is not None
        size, passes = share(cfg.trainer.effective_batch, data.batch_size, trainer.world_size, even)
        if size < data.batch_size:
            say(f"batch size {size}, not {data.batch_size}: {trainer.world_size * passes} make trainer.effective_batch")
        data.batch_size, trainer.accumulate_grad_batches = size, passes
    if logger is not None:
        logger.log_hyperparams({**config, "parameters": parameters})
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resume)
        if trainer.interrupted:
            raise KeyboardInterrupt
        if not all(math.isfinite(float(v)) for k, v in trainer.callback_metrics.items() if k.endswith("loss")):
            raise UserError("the loss is not finite (NaN or infinite): lower optimizer.lr or clip gradients")
        epochs = trainer.current_epoch
        checkpoint = _best(trainer)
        if checkpoint:
            module.model.load_state_dict(_model_state(checkpoint))
        validation = _evaluate(trainer, module, data, "val")
        tested = _evaluate(trainer, module, data, "test")
        result = Result(
            **{k: getattr(tested, k) for k in ("accuracy", "energy_joules", "firing_rate", "anytime")},
            parameters=parameters,
            seconds=time.perf_counter() - started,
            convention=_energy(trainer).report.convention,  # type: ignore[union-attr]
            split="test",
            samples=_energy(trainer).report.samples,  # type: ignore[union-attr]
            validation=validation,
            selected_on="validation" if data.val_fraction else "test",
            epochs=epochs,
            checkpoint=checkpoint,
            latency_seconds=_latency(cfg, module.model, data),
        )
        if logger is not None:
            figures = result.to_dict() | {"energy_groups": _energy(trainer).report.groups}  # type: ignore[union-attr]
            for callback in callbacks:
                figures |= getattr(callback, "conclude", lambda _: {})(result)
            _conclude(logger, figures, checkpoint)
    except Interrupted:
        _close(logger, "interrupted")
        raise
    except BaseException as error:
        _close(logger, "pruned" if type(error).__name__ == "TrialPruned" else "failed")
        raise
    _close(logger, "success")
    rank_zero_only(result.save)(output)
    return result


def check_data(cfg: DictConfig) -> None:
    """Raise UserError if a run's data set isn't where its configuration says."""
    build_data(cfg.data, timesteps=cfg.model.timesteps).check()


def evaluate(cfg: DictConfig) -> Result:
    """Evaluate ``cfg.checkpoint`` on the parts it was trained and tested on; reads the run's config from the file.

    ``cfg.overrides`` are merged over that config, such as ``{"data": {"image_size": 288}}``.

    Raises:
        UserError: an unreadable or foreign checkpoint.
    """
    _quiet()
    content = read_checkpoint(cfg.checkpoint)
    stored = content.get("hyper_parameters", {}).get("config")
    if stored is None:
        raise UserError(f"checkpoint {cfg.checkpoint} was not written by train.py: it holds no configuration")
    run = OmegaConf.merge(OmegaConf.create(stored), cfg.get("overrides") or {})
    assert isinstance(run, DictConfig)
    run.callbacks = {"energy": run.callbacks.energy}
    run.output_dir, run.logger = cfg.output_dir, {}
    for key in ("accelerator", "devices"):
        if cfg.get(key) is not None:
            run.trainer[key] = cfg[key]
    started = time.perf_counter()
    pl.seed_everything(run.seed, workers=True, verbose=False)
    model = instantiate(run.model)
    load_checkpoint(model, cfg.checkpoint)
    data = build_data(run.data, timesteps=run.model.timesteps)
    data.check()
    module = SpikingClassifier(model, _loss(run), instantiate(run.optimizer), run.schedule, {})
    early = EarlyExit.of(cfg.get("confidence"))
    run.callbacks.energy.per_sample = early is not None
    trainer = _trainer(run, None, [early] if early else [])
    validation = _evaluate(trainer, module, data, "val")
    tested = _evaluate(trainer, module, data, "test")
    report = _energy(trainer).report
    assert report is not None
    result = Result(
        **{k: getattr(tested, k) for k in ("accuracy", "energy_joules", "firing_rate", "anytime")},
        parameters=sum(p.numel() for p in model.parameters()),
        seconds=time.perf_counter() - started,
        convention=report.convention,
        split="test",
        samples=report.samples,
        validation=validation,
        checkpoint=str(cfg.checkpoint),
        early_exit=early.curve(_energy(trainer).counts, instantiate(run.energy)) if early else [],
    )
    Path(cfg.output_dir).mkdir(parents=True, exist_ok=True)
    result.save(cfg.output_dir)
    return result


def summary(result: Result, directory: str) -> str:
    """The lines a person reads at the end of a run."""
    lines = [
        f"{result.split} accuracy {result.accuracy:.4f}   energy {joules(result.energy_joules)} a sample"
        f" ({result.convention})   firing rate {result.firing_rate:.3f}   {result.seconds:.0f} s"
    ]
    if result.latency_seconds is not None:
        lines.append(f"deployed: {result.latency_seconds * 1e3:.3g} ms a sample")
    if len(result.anytime) > 1:
        points = (f"t={p['t']} {p['accuracy']:.4f} {joules(p['energy_joules'])}" for p in result.anytime)
        lines.append("stopping early: " + ",  ".join(points))
    for p in result.early_exit:
        lines.append(
            f"stopping at confidence {p['confidence']:g}: accuracy {p['accuracy']:.4f} {joules(p['energy_joules'])}"
            f" after {p['timesteps']:.2f} timesteps on average"
        )
    return "\n".join([*lines, f"results in {directory}"])


def _evaluate(trainer: pl.Trainer, module: SpikingClassifier, data: pl.LightningDataModule, split: str) -> Evaluation:
    run = trainer.validate if split == "val" else trainer.test
    run(module, datamodule=data, verbose=False)
    report = _energy(trainer).report
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


def _latency(cfg: DictConfig, model: torch.nn.Module, data: pl.LightningDataModule) -> float | None:
    if cfg.get("latency") is None:
        return None
    images = next(iter(data.val_dataloader()))[0]
    return latency(model, images.to(next(model.parameters()).device), cfg.latency)


def _trainer(cfg: DictConfig, logger: Logger | None, extra: Sequence[pl.Callback]) -> pl.Trainer:
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


def _loss(cfg: DictConfig) -> torch.nn.Module:
    return instantiate({key: value for key, value in cfg.loss.items() if key not in PENALTY_KEYS})


def _energy(trainer: pl.Trainer) -> EnergyCallback:
    return next(c for c in trainer.callbacks if isinstance(c, EnergyCallback))  # type: ignore[attr-defined]


def _resume(cfg: DictConfig) -> str | None:
    """The checkpoint to continue from; ``resume=auto`` is the output directory's last, if it has one."""
    last = Path(cfg.output_dir) / LAST
    if cfg.resume == "auto":
        return str(last) if last.is_file() else None
    return cfg.resume


def _logger(cfg: DictConfig, run: str | None) -> Logger | None:
    if not cfg.logger or "_target_" not in cfg.logger:
        return None
    settings: dict[str, Any] = {} if "save_dir" in cfg.logger else {"save_dir": str(cfg.output_dir)}
    if run and "project" in cfg.logger and not cfg.logger.get("id"):
        settings["id"] = run  # a continued run goes on in W&B too
    return instantiate(cfg.logger, **settings)


def _conclude(logger: Logger, figures: dict[str, Any], checkpoint: str | None) -> None:
    if callable(conclude := getattr(logger, "conclude", None)):
        conclude(figures, checkpoint)
    else:
        logger.log_metrics({f"final/{k}": v for k, v in figures.items() if isinstance(v, int | float)})
        for point in figures["anytime"]:  # a table in CSV, a curve over t in TensorBoard
            t = int(point["t"])
            logger.log_metrics({f"anytime/{k}": v for k, v in point.items() if k != "t"} | {"anytime/t": t}, step=t)
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text("anytime", _table(figures["anytime"]))


def _table(points: Sequence[Mapping[str, float]]) -> str:
    """Markdown, a line a timestep."""
    lines = [f"| {int(p['t'])} | {p['accuracy']:.4f} | {joules(p['energy_joules'])} |" for p in points]
    return "\n".join(["| t | accuracy | energy a sample |", "|--:|--:|--:|", *lines])


def _close(logger: Logger | None, status: str) -> None:
    if logger is None:
        return
    logger.finalize(status)
    if callable(close := getattr(logger, "close", None)):  # W&B's run ends here, not with each part of it
        close(status)


def _best(trainer: pl.Trainer) -> str | None:
    callback = trainer.checkpoint_callback
    path = getattr(callback, "best_model_path", "") if callback else ""
    return path or None


def _model_state(checkpoint: str) -> dict[str, torch.Tensor]:
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    return {k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")}


def _quiet() -> None:
    """Silence what Lightning says to its developers: the user's own lines are what should be read."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning_fabric|torch\.utils\.data).*")
