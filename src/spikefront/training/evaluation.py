"""``evaluate(cfg)``: a checkpoint on the parts it was trained and tested on."""

from __future__ import annotations

import time
from pathlib import Path

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from spikefront.data import build_data
from spikefront.errors import UserError
from spikefront.nn.checkpoints import configuration, load_checkpoint, read_checkpoint
from spikefront.training.early_exit import EarlyExit
from spikefront.training.module import SpikingClassifier
from spikefront.training.result import Result
from spikefront.training.setup import build_loss, build_trainer, energy_of, evaluate_part, quiet


def evaluate(cfg: DictConfig) -> Result:
    """Evaluate ``cfg.checkpoint`` on the parts it was trained and tested on; reads the run's config from the file.

    ``cfg.overrides`` are merged over that config, such as ``{"data": {"image_size": 288}}``.

    Raises:
        UserError: an unreadable or foreign checkpoint.
    """
    quiet()
    content = read_checkpoint(cfg.checkpoint)
    stored = configuration(content)
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
    module = SpikingClassifier(model, build_loss(run), instantiate(run.optimizer), run.schedule, {})
    early = EarlyExit.of(cfg.get("confidence"))
    run.callbacks.energy.per_sample = early is not None
    trainer = build_trainer(run, None, [early] if early else [])
    validation = evaluate_part(trainer, module, data, "val")
    tested = evaluate_part(trainer, module, data, "test")
    report = energy_of(trainer).report
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
        early_exit=early.curve(energy_of(trainer).counts, instantiate(run.energy)) if early else [],
    )
    Path(cfg.output_dir).mkdir(parents=True, exist_ok=True)
    result.save(cfg.output_dir)
    return result
