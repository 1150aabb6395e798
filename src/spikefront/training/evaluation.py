"""``evaluate(cfg)``: a checkpoint on the parts it was trained and tested on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_only
from torch import nn

from spikefront import trust
from spikefront.config import CONF, compose, flat
from spikefront.errors import UserError
from spikefront.nn.checkpoints import configuration, load_checkpoint, read_checkpoint
from spikefront.nn.integers import at_most, most_spikes
from spikefront.training import confusion
from spikefront.training.confusion import Confusion
from spikefront.training.devices import count_devices, spread, threads
from spikefront.training.early_exit import EarlyExit
from spikefront.training.inheritance import OwnNorms, configuration_of, data_of, heir, settings_of
from spikefront.training.result import Evaluation, Result
from spikefront.training.resumption import differences, of_the_network
from spikefront.training.settings import check
from spikefront.training.setup import build_model, build_trainer, energy_of, evaluate_part, for_evaluation, quiet
from spikefront.training.together import together

MACHINES = ("root", "cache", "num_workers")  # of data: where they lie on this machine, which no bundle says
INHERITED = ("accelerator", "devices", "precision", "deterministic")  # by an evaluation's trainer
READ = ("seed", "threads", "model", "data", "energy", "trainer")  # of a training's configuration, by an evaluation
COPIED = {f"data.{key}": key for key in ("timesteps", "num_classes", "pooling", "event_mode")} | {
    "data.channels": "in_channels"  # what the network took from its data when it was made
}
TRAINING = (  # of what is read, what only a training does
    *("data.epochs", "data.effective_batch", "data.train_samples", "data.repeats", "data.augmentation", "data.shift"),
    *("data.mixup", "data.mixup_off_epoch", "data.smooth_after_mixup", "data.cut_polarities", "data.drop_last"),
    *("trainer.max_epochs", "trainer.max_steps", "trainer.max_time", "trainer.limit_train_batches"),
    *("trainer.effective_batch", "trainer.accumulate_grad_batches", "trainer.gradient_clip_val"),
)
say = rank_zero_only(print)


def evaluate(cfg: DictConfig) -> Result:
    """Evaluate ``cfg.checkpoint`` on the parts it was trained and tested on; reads the run's config from the file.

    ``cfg.member`` names a smaller network of an elastic training's checkpoint. ``cfg.overrides`` are merged over that
    config, such as ``{"data": {"image_size": 288}}``. Every sample is evaluated, whatever the training was limited to,
    and on several devices by as many processes. With ``cfg.levels`` the test part also within d = 1 … D virtual steps
    (``nn.integers.at_most``), a pass each.

    Raises:
        UserError: an unreadable or foreign checkpoint, one whose configuration would run what it shouldn't, devices
            that aren't there, a process that was killed.
    """
    quiet()
    run = configured(cfg)
    with together(run.trainer, partial(_evaluate_beside, cfg, run)):
        return _evaluate(cfg, run)


def _evaluate_beside(cfg: DictConfig, run: DictConfig, _: object) -> None:
    """What the other processes of an evaluation do."""
    _evaluate(cfg, run)


def configured(cfg: DictConfig) -> DictConfig:
    """What the checkpoint was trained with, on what there is to evaluate it on."""
    content = read_checkpoint(cfg.checkpoint)
    stored = configuration(content)
    if stored is None:
        raise UserError(f"checkpoint {cfg.checkpoint} was not written by train.py: it holds no configuration")
    if cfg.get("member") is not None:
        given_member: Any = OmegaConf.to_container(cfg.member) if OmegaConf.is_config(cfg.member) else cfg.member
        made: Any = configuration_of(content, cfg.checkpoint, given_member, bool(cfg.get("trust")))
        stored = cast(dict[str, Any], OmegaConf.to_container(made))
    elif not cfg.get("trust"):
        trust.check(stored, f"checkpoint {cfg.checkpoint}", "trust")
    stored = completed(stored)
    given = cfg.get("overrides") or {}
    refuse_idle(OmegaConf.to_container(given) if OmegaConf.is_config(given) else given, stored["model"])
    run = OmegaConf.merge(OmegaConf.create(stored), given)
    assert isinstance(run, DictConfig)
    if cfg.get("threads") is not None:
        run.threads = cfg.threads
    run.callbacks = {"energy": run.callbacks.energy}
    run.output_dir, run.logger = cfg.output_dir, {}
    if "mixup" in run.data:  # which would ask for even batches
        run.data.mixup = None
    run.trainer = _trainer(run.trainer, {key: cfg.get(key) for key in ("accelerator", "devices")})
    run.trainer.update(given.get("trainer") or {})
    check(run)
    return run


def completed(stored: dict[str, Any]) -> dict[str, Any]:
    """A bundle's configuration, which says of network and data alone, with the rest as ``conf/train.yaml`` has it."""
    if "trainer" in stored:
        return stored
    name = stored["data"].get("name")
    usual: Any = compose([f"data={name}"] if (CONF / "data" / f"{name}.yaml").is_file() else [])
    data = {key: usual.data[key] for key in MACHINES if key in usual.data}
    rest: Any = {key: value for key, value in usual.items_ex(resolve=False) if key not in stored}
    return {**rest, **stored, "data": {**data, **stored["data"]}}


def refuse_idle(given: Any, network: Mapping[str, Any]) -> None:
    """Raise UserError for the first of the overrides ``given`` that an evaluation of the ``network`` doesn't read."""
    if not isinstance(given, Mapping):
        raise UserError(f"overrides={given}: give keys of the checkpoint's configuration, such as {{seed: 1}}")
    for key in flat(given) if given else ():
        top, _, rest = key.partition(".")
        if top in network:
            raise UserError(f"overrides.{top} changes nothing: the network has overrides.model.{top}")
        if key in COPIED:
            raise UserError(f"overrides.{key} changes nothing: the network has overrides.model.{COPIED[key]}")
        if top not in READ:
            raise UserError(f"overrides.{key} changes nothing: an evaluation reads {', '.join(READ)}")
        if top not in ("seed", "threads") and not rest:
            raise UserError(f"overrides.{top} is one value: give overrides.{top}.<key>")
        if ".".join((top, rest.partition(".")[0])) in TRAINING:
            raise UserError(f"overrides.{key} changes nothing: only a training has it")


def _trainer(trained: DictConfig, given: Mapping[str, Any]) -> DictConfig:
    """The training's trainer without what only a training has, on what is given, or is there."""
    kept = {key: trained[key] for key in ("_target_", *INHERITED) if key in trained}
    trainer = OmegaConf.create(kept | {key: value for key, value in given.items() if value is not None})
    if (outside := spread()) is not None:
        trainer.devices, trainer.num_nodes = outside
    elif given["devices"] is None:
        try:
            count_devices(trainer)
        except UserError:
            trainer.devices = "auto"
            trainer.accelerator = given["accelerator"] or "auto"
    return trainer


def _inherited(run: DictConfig) -> str:
    keys = [f"trainer.{key}={run.trainer[key]}" for key in INHERITED if key in run.trainer]
    return ", ".join([*keys, f"data.batch_size={run.data.batch_size}", f"seed={run.seed}"])


def _evaluate(cfg: DictConfig, run: DictConfig) -> Result:
    with threads(run.get("threads")):
        return _evaluated(cfg, run)


def load(model: nn.Module, cfg: DictConfig, run: DictConfig) -> None:
    """Give ``model``, built from ``run``, the weights in ``cfg.checkpoint``."""
    if cfg.get("member") is not None:
        heir(read_checkpoint(cfg.checkpoint), run, model)
        return
    try:
        load_checkpoint(model, cfg.checkpoint)
    except UserError as error:
        asked: Any = OmegaConf.to_container(run, resolve=True)
        told = of_the_network(differences(configuration(read_checkpoint(cfg.checkpoint)) or asked, asked), asked)
        if not told:
            raise
        raise UserError(
            f"checkpoint {cfg.checkpoint} is of another network: {told}: overrides can't change what has weights"
        ) from error


def _evaluated(cfg: DictConfig, run: DictConfig) -> Result:
    say(f"evaluating with {_inherited(run)}", flush=True)
    started = time.perf_counter()
    pl.seed_everything(run.seed, workers=True, verbose=False)
    model = build_model(run)
    load(model, cfg, run)
    data = data_of(run, read_checkpoint(cfg.checkpoint))
    module = for_evaluation(model, run)
    early = EarlyExit.of(cfg.get("confidence"))
    levels = most_spikes(model) if cfg.get("levels") else 0
    if levels == 1:
        raise UserError("levels=true: no neuron of this network fires several spikes at once; its curve is that over t")
    run.callbacks.energy.per_sample = early is not None
    confused = Confusion(data.num_classes)
    callbacks: list[pl.Callback] = [confused, *([early] if early else [])]
    if cfg.get("member") is not None:
        settings = settings_of(read_checkpoint(cfg.checkpoint), cfg.checkpoint)
        callbacks = [OwnNorms(settings["norm_batches"]), *callbacks]
    trainer = build_trainer(run, None, callbacks)
    validation = evaluate_part(trainer, module, data, "val")
    tested = evaluate_part(trainer, module, data, "test")
    report = energy_of(trainer).report
    assert report is not None
    result = Result(
        **{k: getattr(tested, k) for k in ("accuracy", "energy_joules", "firing_rate", "samples", "anytime")},
        parameters=sum(p.numel() for p in model.parameters()),
        seconds=time.perf_counter() - started,
        convention=report.convention,
        split="test",
        validation=validation,
        checkpoint=str(cfg.checkpoint),
        early_exit=early.curve(energy_of(trainer).counts, instantiate(run.energy)) if early else [],
        data=data.described() or None,
    )
    for spikes in range(1, levels):
        with at_most(model, spikes):
            result.levels.append(_at(spikes, evaluate_part(trainer, module, data, "test")))
    if levels:
        result.levels.append(_at(levels, tested))
    confusion.enter(confused, result, data, cfg.output_dir)
    rank_zero_only(result.save)(cfg.output_dir)
    return result


def _at(levels: int, found: Evaluation) -> dict[str, float]:
    return {"levels": levels, "accuracy": found.accuracy, "energy_joules": found.energy_joules}
