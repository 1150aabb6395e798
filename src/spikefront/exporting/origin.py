"""What is exported: a checkpoint's network, the configuration that it belongs to, and what it is worth on its data."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor, nn

from spikefront.config import ROOT
from spikefront.data import ImageData
from spikefront.errors import UserError
from spikefront.nn.checkpoints import configuration, load_checkpoint, read_checkpoint
from spikefront.training.evaluation import configured, load
from spikefront.training.inheritance import data_of, own_norms, settings_of
from spikefront.training.result import Evaluation
from spikefront.training.setup import (
    build_model,
    build_trainer,
    energy_of,
    evaluate_part,
    for_evaluation,
    quiet,
    sample_shape,
)

PARTS = {"validation": "val", "test": "test"}


@dataclass
class Figures:
    """A network's figures on the validation and the test part, and the convention of its energy."""

    validation: Evaluation
    test: Evaluation
    convention: str
    layers: list[Any] = field(default_factory=list, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds them."""
        parts = {part: asdict(getattr(self, part)) for part in PARTS}
        return {**parts, "convention": self.convention}


class Origin:
    """A checkpoint, as ``evaluate`` reads it: one of ours, a member of an elastic training's, or a published one.

    Args:
        cfg: ``checkpoint``, ``member``, ``overrides``, ``trust`` and ``measure``, and for a published checkpoint
            ``model``, ``data`` and all else that ``conf/train.yaml`` has.

    Attributes:
        run: the network's configuration, and that of its data, energy and trainer.
        member: of an elastic training which network, None of any other.

    Raises:
        UserError: an unreadable or foreign checkpoint, one whose configuration would run what it shouldn't.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg, self.checkpoint = cfg, str(cfg.checkpoint)
        self.content = read_checkpoint(cfg.checkpoint)
        member = cfg.get("member")
        self.member: Any = OmegaConf.to_container(member) if OmegaConf.is_config(member) else member
        self.ours = configuration(self.content) is not None
        self.run = configured(cfg) if self.ours else self._published()
        self.measured = bool(cfg.get("measure", True))

    def _published(self) -> DictConfig:
        if self.member is not None:
            raise UserError(f"member={self.member}: checkpoint {self.checkpoint} is not of an elastic training")
        if self.cfg.get("overrides"):
            raise UserError(
                f"overrides={self.cfg.overrides}: checkpoint {self.checkpoint} has no configuration to change;"
                " give model=…, data=… and their keys as they are"
            )
        run = copy.deepcopy(self.cfg)
        with open_dict(run):
            run.callbacks, run.logger = {"energy": run.callbacks.energy}, {}
            run.data.mixup = None
        return run

    def model(self) -> nn.Module:
        """The network in evaluation mode; of an elastic training's member with norms of its own.

        Raises:
            UserError: weights of another network, or no data to estimate a member's norms on.
        """
        quiet()
        pl.seed_everything(self.run.seed, workers=True, verbose=False)
        model = build_model(self.run)
        if not self.ours:
            return load_checkpoint(model, self.checkpoint).eval()
        load(model, self.cfg, self.run)
        if self.member is not None:
            own_norms(model, self.data, settings_of(self.content, self.checkpoint))
        return model.eval()

    @cached_property
    def data(self) -> ImageData:
        """The data it was trained and tested on, ready.

        Raises:
            UserError: they are not there.
        """
        data = data_of(self.run, self.content)
        data.setup()
        return data

    @cached_property
    def commit(self) -> str | None:
        """Of the clone that this runs from; None of an installed package."""
        with suppress(OSError, subprocess.CalledProcessError):
            asked = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
            inside = (ROOT / ".git").exists()
            return subprocess.check_output(asked, text=True, stderr=subprocess.DEVNULL).strip() if inside else None
        return None

    @property
    def classes(self) -> list[str] | None:
        """The classes' names by number, where they are known."""
        kept = (content for content in self.content.values() if isinstance(content, dict))
        stored = next((content["classes"] for content in kept if "classes" in content), None)
        found = stored or (self.data.classes if self.measured else None)
        return list(map(str, found)) if found else None

    @property
    def preprocessing(self) -> list[str]:
        """What a sample goes through before the network sees it, a line each; empty where the data are not here."""
        return [str(step) for step in self.data.seen(train=False)] if self.measured else []

    def sample(self, count: int = 2) -> Tensor:
        """So many inputs of the test part, or with ``measure=false`` noise of their shape."""
        if self.measured:
            images = next(iter(self.data.test_dataloader()))[0]
            return images[:count]
        return torch.rand(count, *sample_shape(self.run), generator=torch.Generator().manual_seed(0))

    def training(self, count: int) -> Tensor:
        """So many inputs of the training part, as the network is trained on them."""
        found: list[Tensor] = []
        for images, *_ in self.data.train_dataloader():
            found.append(images)
            if sum(map(len, found)) >= count:
                break
        return torch.cat(found)[:count]

    def figures(self, model: nn.Module, energy: Mapping[str, Any] | None = None) -> Figures:
        """What a network is worth on every sample of the checkpoint's validation and test part.

        Args:
            energy: a configuration of a cost model in place of the checkpoint's own.
        """
        run = self.run.copy()
        with open_dict(run):
            if energy is not None:
                run.energy = energy
            if "precision" in run.trainer and next(model.parameters()).dtype == torch.float64:
                run.trainer.precision = "64-true"
        module = for_evaluation(model, run)
        trainer = build_trainer(run, None, [])
        parts = {part: evaluate_part(trainer, module, self.data, split) for part, split in PARTS.items()}
        callback = energy_of(trainer)
        assert callback.report is not None
        return Figures(**parts, convention=callback.report.convention, layers=callback.layers)
