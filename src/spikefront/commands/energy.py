"""The energy table of one network: python src/energy.py model=sdt_8_512 data=imagenet checkpoint=official.pth.tar"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor, nn

from spikefront import trust
from spikefront.commands.authors_table import held_against_published
from spikefront.commands.cli import entry
from spikefront.commands.memory import keep_freed_memory
from spikefront.config import override_parser
from spikefront.data import build_data
from spikefront.energy import EnergyMeter, EnergyReport, check_finite, render
from spikefront.energy.firing import activity
from spikefront.errors import UserError
from spikefront.nn.checkpoints import configuration, load_checkpoint, read_checkpoint
from spikefront.training.evaluation import COPIED
from spikefront.training.setup import sample_shape

NETWORKS = ("model", "data", "neuron", "surrogate", "attention", "embedding", "residual", "mlp", "experiment")


@entry("measure")
def main(cfg: DictConfig) -> None:
    """Print the table of ``measure``, and with ``figures=true`` write what fires."""
    keep_freed_memory()
    if cfg.published is not None:
        print(held_against_published(cfg, HydraConfig.get().overrides.task, measure))
        return
    if cfg.checkpoints is not None:
        raise UserError("checkpoints=… is the directory of the published files: give published=all too")
    report = measure(cfg, HydraConfig.get().overrides.task)
    print(render(report.to_dict(), cfg.format))
    if cfg.format != "table":
        for note in report.notes:
            print(f"note: {note}", file=sys.stderr)
    if report.activity is not None:
        from spikefront.tracking.pages.firing_page import write_activity

        path = write_activity(report.to_dict(), report.activity, f"{cfg.output_dir}/activity.html")
        print(f"figures in {path}", file=sys.stdout if cfg.format == "table" else sys.stderr)


def measure(cfg: DictConfig, given: Sequence[str] = ()) -> EnergyReport:
    """Count the energy of ``cfg.model`` with ``cfg.checkpoint``'s weights on ``cfg.samples`` of the test part.

    A checkpoint that train.py wrote brings its own model and data configuration; of the overrides ``given`` those of
    ``model.…`` and ``data.…`` change it, and the report's notes name those that don't. What had to be assumed (random
    weights, noise in place of missing data, a firing rate) stands in the report's notes. With ``cfg.figures`` the
    report's ``activity`` holds what the first sample makes fire.

    Raises:
        UserError: no samples, missing data for trained weights, a foreign checkpoint, weights that aren't finite.
    """
    model, run, notes = network(cfg, given)
    images, more = samples(cfg, run)
    if cfg.checkpoint is None:
        settle(model, images)
    check_finite(model)
    meter = EnergyMeter(model)
    try:
        with torch.inference_mode(), meter.recording():
            for batch in images.split(int(run.data.batch_size)):
                model.eval()(batch)
    finally:
        meter.remove()
    cost = instantiate(cfg.energy)
    if cost.rate is not None:
        if cfg.get("figures"):
            raise UserError("figures=true shows measured spikes: leave energy.rate out (input=noise needs no data)")
        notes.append(f"firing rate {cost.rate:g} assumed in every layer: nothing was measured but shapes")
        more = []
    report = EnergyReport(meter.counts(), cost, meter.samples, [*notes, *more, *meter.notes])
    if cfg.get("figures"):
        report.activity = activity(model, images[:1], report.layers)
    return report


def network(cfg: DictConfig, given: Sequence[str] = ()) -> tuple[nn.Module, DictConfig, list[str]]:
    """The model, the configuration it belongs to, and what a reader must know about its weights."""
    if cfg.checkpoint is None:
        torch.manual_seed(cfg.seed)
        note = "random weights, normalised on these samples: give checkpoint=… for a trained network's firing rates"
        return instantiate(cfg.model), cfg, [note]
    stored = configuration(read_checkpoint(cfg.checkpoint))
    run, notes = cfg, []
    if stored is not None:
        if not cfg.get("trust"):
            own = OmegaConf.to_container(cfg, resolve=False)
            trust.check(stored, f"checkpoint {cfg.checkpoint}", "trust", own)
        run = copy.deepcopy(cfg)
        with open_dict(run):  # another class of network has other keys
            run.update({key: stored[key] for key in ("model", "data") if key in stored})
        if idle := _change(run, cfg, given):
            notes.append(f"the checkpoint brings its own network and data, so this changes nothing: {', '.join(idle)}")
    return load_checkpoint(instantiate(run.model), cfg.checkpoint), run, notes


def _change(run: DictConfig, cfg: DictConfig, given: Sequence[str]) -> list[str]:
    """Set in ``run``, which a checkpoint brings, what overrides say of network and data; those without effect."""
    idle = []
    for argument in given:
        override = override_parser().parse_override(argument)
        key = override.key_or_group
        if key.startswith(("model.", "data.")) and key not in COPIED and not override.is_delete():
            OmegaConf.update(run, key, OmegaConf.select(cfg, key), force_add=True)
        elif key.partition(".")[0] in NETWORKS:
            idle.append(argument)
    return idle


def samples(cfg: DictConfig, run: DictConfig) -> tuple[Tensor, list[str]]:
    """Test images ``(samples, C, H, W)`` or events ``(samples, T, C, H, W)``, or noise where the data is not there.

    Raises:
        UserError: ``cfg.samples`` or ``cfg.input`` are none, or data missing although there are trained weights.
    """
    if not isinstance(cfg.samples, int) or cfg.samples < 1:
        raise UserError(f"samples={cfg.samples}: energy is a mean over samples, a whole number of at least 1")
    if cfg.input not in ("data", "noise"):
        raise UserError(f"input={cfg.input}: use data or noise")
    count = 1 if cfg.energy.get("rate") is not None else cfg.samples
    data = build_data(run.data, timesteps=run.model.timesteps)
    try:
        if cfg.input == "noise":
            raise UserError("input=noise")
        data.check()
    except UserError as error:
        if cfg.checkpoint is not None and cfg.input != "noise" and cfg.energy.get("rate") is None:
            raise UserError(f"{error}; or set input=noise to measure on noise") from error
        noise = torch.randn(count, *sample_shape(run), generator=torch.Generator().manual_seed(cfg.seed))
        return noise, [f"input is noise ({error}): firing rates are not those of real samples"]
    data.setup("test")
    found: list[Any] = list(islice(iter(data.test_dataloader()), -(-count // data.batch_size)))
    return torch.cat([images for images, *_ in found])[:count], []


def settle(model: nn.Module, images: Tensor) -> None:
    """Give a network with random weights the batch statistics of ``images``: without them its neurons stay silent."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.momentum = None  # a plain average
    with torch.no_grad():
        model.train()(images[:32])
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
