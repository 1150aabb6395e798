"""What a network really does: python src/audit.py checkpoint=outputs/train/…/checkpoints/best.ckpt"""

from __future__ import annotations

import importlib
import io
import json
import shutil
import sys
from collections.abc import Callable
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.table import Table
from torch import Tensor, nn

from spikefront.api import audit
from spikefront.commands.cli import entry
from spikefront.commands.energy import network, samples
from spikefront.commands.memory import keep_freed_memory
from spikefront.console import console as plain_console
from spikefront.errors import UserError, near_matches, one_line
from spikefront.nn.audit import Audit
from spikefront.nn.audits.finding import HEADER
from spikefront.training.devices import threads

FORMATS = ("table", "json", "markdown")
WIDE = 160  # columns of an output that isn't a terminal


@entry("audit")
def main(cfg: DictConfig) -> None:
    """Print what ``spikefront.audit`` finds of a network; exit with 1 if a claim fails."""
    keep_freed_memory()
    if cfg.format not in FORMATS:
        raise UserError(f"format={cfg.format} does not exist; {near_matches(str(cfg.format), FORMATS)}")
    screen = plain_console(stderr=True)
    with threads(cfg.get("threads")), screen.status("building the network") as status:  # silent but in a terminal
        found, notes = audited(cfg, lambda name: status.update(f"audit: {name}"))
    shown = {"json": _json, "markdown": Audit.to_markdown, "table": table}[cfg.format](found)
    print(shown)
    for note in notes:
        print(f"note: {note}", file=sys.stdout if cfg.format == "table" else sys.stderr)
    if found.failed:
        sys.stdout.flush()
        sys.exit(1)


def audited(cfg: DictConfig, progress: Callable[[str], None] | None = None) -> tuple[Audit, list[str]]:
    """What was found, and what a reader must know of the weights and samples.

    Raises:
        UserError: a network, a checkpoint or samples that can't be had, a check that there is not.
    """
    checks: Any = OmegaConf.to_container(cfg.checks) if OmegaConf.is_config(cfg.checks) else cfg.checks
    if not isinstance(checks, str | list) or not checks:
        raise UserError(f"checks={checks}: give all, or names in brackets, such as checks=[batch,causality]")
    if cfg.target is None:
        for key in ("arguments", "shape", "time_first", "timesteps"):
            if cfg[key]:
                raise UserError(f"{key}={cfg[key]} says something of a target, and there is none: give target=… too")
        model, run, notes = network(cfg, HydraConfig.get().overrides.task if HydraConfig.initialized() else ())
        batch, more = samples(cfg, run)
        return audit(model, batch, checks, progress=progress), [*(note.split(",")[0] for note in notes), *more]
    if cfg.checkpoint is not None:
        raise UserError("target=… brings its own weights: leave checkpoint=… out, or load it in the callable")
    given: Any = OmegaConf.to_container(cfg.arguments) if cfg.arguments is not None else {}
    model = made(str(cfg.target), given)
    batch, notes = _shaped(cfg) if cfg.shape is not None else samples(cfg, cfg)
    if cfg.time_first and batch.dim() == 5:
        batch = batch.transpose(0, 1)
    return audit(model, batch, checks, cfg.timesteps, bool(cfg.time_first), progress), notes


def made(target: str, arguments: Any) -> nn.Module:
    """The module that ``package.module:callable`` gives.

    Raises:
        UserError: no such name, a callable that fails, or gives something else.
    """
    module, colon, name = target.partition(":")
    if not colon or not name:
        raise UserError(f"target={target}: write package.module:callable, such as torchvision.models:resnet18")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise UserError(f"target={target} can't be found: {one_line(error)}") from error
    if not isinstance(found, nn.Module) or isinstance(found, type):
        try:
            found = found(**arguments)
        except Exception as error:
            raise UserError(f"target={target} with arguments={arguments} fails: {one_line(error)}") from error
    if not isinstance(found, nn.Module):
        raise UserError(f"target={target} gives a {type(found).__name__}: an audit needs an nn.Module")
    return found


def _shaped(cfg: DictConfig) -> tuple[Tensor, list[str]]:
    shape: Any = OmegaConf.to_container(cfg.shape) if OmegaConf.is_config(cfg.shape) else cfg.shape
    if not isinstance(shape, list) or not all(isinstance(n, int) and n > 0 for n in shape) or not shape:
        raise UserError(f"shape={shape}: give a sample's sizes without the batch, such as shape=[3,224,224]")
    if not isinstance(cfg.samples, int) or cfg.samples < 1:
        raise UserError(f"samples={cfg.samples}: give a whole number of at least 1")
    noise = torch.randn(cfg.samples, *shape, generator=torch.Generator().manual_seed(cfg.seed))
    return noise, ["input is noise of the shape that was given"]


def _json(found: Audit) -> str:
    return json.dumps(found.to_dict(), indent=2, allow_nan=False)


def table(found: Audit) -> str:
    """For a terminal: a row a check, then how many failed."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for title in HEADER[:4]:
        grid.add_column(title, overflow="fold", no_wrap=title in HEADER[:2])
    for finding in found.findings:
        grid.add_row(*finding.cells()[:4])
    buffer, terminal = io.StringIO(), sys.stdout.isatty()
    console = plain_console(file=buffer, width=shutil.get_terminal_size().columns if terminal else WIDE)
    console.print(grid)
    names = [finding.check for finding in found.failed]
    console.print(f"\n{len(names)} fail: {', '.join(names)}" if names else "\nno claim fails")
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())
