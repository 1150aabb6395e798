"""``train(cfg) -> Result``."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence, Sized
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from spikefront.data import ImageData, build_data
from spikefront.energy import to_plain
from spikefront.errors import UserError
from spikefront.files import write_atomically
from spikefront.nn.checkpoints import network_state, read_checkpoint
from spikefront.nn.fixed.conversion import check_whole
from spikefront.training.batch import share, wanted_batch
from spikefront.training.confusion import Confusion, enter
from spikefront.training.devices import slower_than_float32, threads, where
from spikefront.training.finetuning import finetuning
from spikefront.training.inert import without_effect
from spikefront.training.inheritance import begin
from spikefront.training.latency import latency
from spikefront.training.penalty import build_penalty
from spikefront.training.preemption import LAST, Interrupted, Signals, run_id
from spikefront.training.result import COUNTS, Diverged, Result
from spikefront.training.resumption import continued
from spikefront.training.settings import check
from spikefront.training.setup import (
    blank,
    build_loss,
    build_model,
    build_teacher,
    build_trainer,
    energy_of,
    evaluate_part,
    quiet,
)
from spikefront.training.supernet import build_module, check_elastic
from spikefront.training.together import together
from spikefront.units import joules

CONFIG = "config.yaml"
say = rank_zero_only(print)  # of several processes the first speaks


def train(cfg: DictConfig, callbacks: Sequence[pl.Callback] = ()) -> Result:
    """Train one network as ``conf/train.yaml`` composes it and evaluate it on validation and test parts.

    Writes ``config.yaml`` (resolved), ``checkpoints/`` and ``result.json`` into ``cfg.output_dir``. The metrics depend
    on the config alone: the same config gives the same ones on one machine.

    Args:
        callbacks: more Lightning callbacks, a sweep's for instance; the ``conclude(result)`` of one that has it gives
            further figures to log.

    Several devices are processes that this one starts, unless srun or torchrun did; callbacks that act together over
    them say what the others have in their place, ``elsewhere() -> (Signals -> Callback)``.

    Raises:
        UserError: sizes that don't fit together, data that isn't there, no step of training, a loss that isn't finite,
            a process that was killed.
    """
    check(cfg)
    check_elastic(cfg)
    mates = [callback.elsewhere() for callback in callbacks if hasattr(callback, "elsewhere")]
    with together(cfg.trainer, partial(_train_beside, _resolved(cfg), mates)):
        return _train(cfg, callbacks)


def _train_beside(cfg: DictConfig, mates: Sequence[Callable[[Signals], pl.Callback]], signals: Signals) -> None:
    """What the other processes of a training do."""
    _train(cfg, [mate(signals) for mate in mates])


def _resolved(cfg: DictConfig) -> DictConfig:
    cfg = cfg.copy()
    OmegaConf.resolve(cfg)
    return cfg


def _train(cfg: DictConfig, callbacks: Sequence[pl.Callback]) -> Result:
    with threads(cfg.get("threads")):
        return _trained(cfg, callbacks)


def _trained(cfg: DictConfig, callbacks: Sequence[pl.Callback]) -> Result:
    quiet()
    started, tuned = time.perf_counter(), finetuning(cfg)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    model = build_model(cfg)
    parameters = sum(p.numel() for p in model.parameters())
    say(
        f"{type(model).__name__} {model.depth}-{model.dim}, T = {model.timesteps}: {parameters:,} parameters",
        flush=True,
    )
    if idle := without_effect(cfg):
        say(f"without effect: {idle}", flush=True)
    if cfg.get("latency") == "int8":  # better told before the training than after it
        check_whole(model, blank(cfg))
    data = build_data(cfg.data, timesteps=cfg.model.timesteps)
    data.check()

    output = Path(cfg.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    config = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))

    penalty = build_penalty(cfg.loss, model, instantiate(cfg.energy))
    if (teacher := build_teacher(cfg, model)) is not None:
        say(f"learning from {teacher}", flush=True)
    parts = model, build_loss(cfg), instantiate(cfg.optimizer), cfg.schedule, config, penalty, teacher
    module = build_module(cfg, parts, data.fewer)
    resume = _resume(cfg)
    if resume:
        data.recall(data.kept_in(read_checkpoint(resume)))
    if not resume and (output / LAST).is_file():
        say(f"begins anew in place of the training that lies in {output}: resume=auto goes on with that", flush=True)
    if not resume and (taken := begin(model, cfg)) is not None:
        say(taken, flush=True)
    logger = _logger(cfg, run_id(continued(resume, config, model)) if resume else None)
    confused = [Confusion(data.num_classes)] if data.own else []
    trainer = build_trainer(cfg, logger, [*callbacks, *confused, *tuned])
    if cfg.model.get("compile") and trainer.world_size > 1:
        raise UserError(f"model.compile=true on {trainer.world_size} devices: use one, or model.compile=false")
    if cfg.model.get("compile") and trainer.strategy.root_device.type == "cpu":
        say("model.compile=true: PyTorch compiles the network first, which takes minutes on a CPU", flush=True)
    if effective := wanted_batch(cfg, data.batch_size, trainer):
        even = cfg.data.get("mixup") is not None
        size, passes = share(effective, data.batch_size, trainer.world_size, even)
        if size < data.batch_size:
            say(f"batch size {size}, not {data.batch_size}: {trainer.world_size * passes} make trainer.effective_batch")
        data.batch_size, trainer.accumulate_grad_batches = size, passes
    say(f"on {where(trainer)}, batches of {data.batch_size * trainer.world_size}", flush=True)
    if slower := slower_than_float32(trainer):
        say(slower, flush=True)
    # only now, that nothing of an earlier run is touched by one that is refused
    rank_zero_only(OmegaConf.save)(OmegaConf.create(config), output / CONFIG)
    if logger is not None:
        logger.log_hyperparams({**config, "parameters": parameters})
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resume)
        if penalty is not None:
            penalty.remove()  # nobody watches what is evaluated and deployed: it may be fused
        if trainer.interrupted:
            raise KeyboardInterrupt
        if trainer.global_step == 0:
            raise UserError(_why_no_step(cfg, trainer, data))
        if not all(math.isfinite(float(v)) for k, v in trainer.callback_metrics.items() if k.endswith("loss")):
            raise Diverged("the loss is not finite (NaN or infinite): lower optimizer.lr or clip gradients")
        epochs = trainer.current_epoch
        checkpoint = _best(trainer)
        if checkpoint:
            module.model.load_state_dict(network_state(read_checkpoint(checkpoint)))
        validation = evaluate_part(trainer, module, data, "val")
        counts = {"validation": to_plain(energy_of(trainer).layers)}
        tested = evaluate_part(trainer, module, data, "test")
        counts["test"] = to_plain(energy_of(trainer).layers)
        result = Result(
            **{k: getattr(tested, k) for k in ("accuracy", "energy_joules", "firing_rate", "samples", "anytime")},
            parameters=parameters,
            seconds=time.perf_counter() - started,
            convention=energy_of(trainer).report.convention,  # type: ignore[union-attr]
            split="test",
            validation=validation,
            selected_on="validation" if data.val_fraction else "test",
            epochs=epochs,
            checkpoint=checkpoint,
            latency_seconds=_latency(cfg, module.model, data),
            threads=torch.get_num_threads() if trainer.strategy.root_device.type == "cpu" else None,
            data=data.described() or None,
        )
        for each in confused:
            enter(each, result, data, output)
        if logger is not None:
            figures = result.to_dict() | {"energy_groups": energy_of(trainer).report.groups}  # type: ignore[union-attr]
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
    rank_zero_only(write_atomically)(output / COUNTS, json.dumps(counts))
    rank_zero_only(result.save)(output)
    return result


def _why_no_step(cfg: DictConfig, trainer: pl.Trainer, data: ImageData) -> str:
    for key in ("limit_train_batches", "max_epochs", "max_steps"):
        if cfg.trainer.get(key) == 0:
            return f"trainer.{key}=0 trains nothing: leave it out, or take src/evaluate.py for a checkpoint as it is"
    samples = len(cast(Sized, data.train_set))
    each = samples // trainer.world_size
    return (
        f"no step of training: {each} of the {samples} training samples, a process's share, fill no batch of"
        f" {data.batch_size}: lower data.batch_size or trainer.effective_batch, or take fewer trainer.devices"
    )


def check_data(cfg: DictConfig) -> None:
    """Raise UserError if a run's data set isn't where its configuration says."""
    build_data(cfg.data, timesteps=cfg.model.timesteps).check()


def _latency(cfg: DictConfig, model: torch.nn.Module, data: pl.LightningDataModule) -> float | None:
    if cfg.get("latency") is None:
        return None
    images = next(iter(data.val_dataloader()))[0]
    return latency(model, images.to(next(model.parameters()).device), cfg.latency)


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
