"""Training that begins with a trained network: what of it stays, what learns first, and at which rates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from torch import nn

from spikefront.errors import UserError
from spikefront.nn.groups import tensors_of


class Finetuning(pl.Callback):
    """Keeps parts of a network as they are: parameters, and what its norms and attentions estimate along the way.

    A part is frozen for the whole training, or all but the classifier for the first epochs, which then learns to read
    what is there before that changes. Frozen parameters cost no gradients; but of several processes in the first
    epochs, whose exchange of gradients must stay the same to the end, these are computed and dropped.

    Args:
        freeze: parts as ``nn.groups.tensors_of`` takes them.
        head_epochs: the first, in which the classifier alone learns.

    Raises:
        UserError: no such part, or nothing left that learns.
    """

    def __init__(self, freeze: list[str], head_epochs: int = 0) -> None:
        self.freeze, self.head_epochs = freeze, head_epochs
        self._frozen: set[str] = set()
        self._body: set[str] = set()
        self._parameters: list[nn.Parameter] = []
        self._estimates: list[tuple[nn.Module, set[str]]] = []

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        if stage != "fit":
            return
        model: nn.Module = pl_module.model
        self._frozen = tensors_of(model, self.freeze, "finetune.freeze")
        self._body = set(model.state_dict()) - tensors_of(model, ["head"], "finetune.head_epochs")
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in self._frozen)
        learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        if not learns or (self.head_epochs and learns <= self._body):
            raise UserError(f"finetune.freeze={self.freeze} leaves nothing that learns: leave a part out")

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        model: nn.Module = pl_module.model  # as strategies have left it
        later = self._body - self._frozen
        self._parameters = [parameter for name, parameter in model.named_parameters() if name in later]
        self._estimates = [
            (module, own)
            for name, module in model.named_modules()
            if (own := {f"{name}.{buffer}" for buffer, _ in module.named_buffers(recurse=False)} & self._body)
        ]

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        head_alone = trainer.current_epoch < self.head_epochs
        if trainer.world_size == 1:
            for parameter in self._parameters:
                parameter.requires_grad_(not head_alone)
        for module, own in self._estimates:
            module.train(not (head_alone or own <= self._frozen))

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        if trainer.current_epoch < self.head_epochs:
            for parameter in self._parameters:
                parameter.grad = None


def finetuning(cfg: DictConfig) -> list[pl.Callback]:
    """The callback that a run's ``finetune`` asks for, if it asks for one.

    Raises:
        UserError: beside what it can't be.
    """
    asked: Any = OmegaConf.to_container(cfg.finetune, resolve=True) if cfg.get("finetune") else {}
    freeze, epochs = asked.get("freeze") or [], asked.get("head_epochs") or 0
    if isinstance(freeze, str):
        freeze = [freeze]
    if not (freeze or epochs):
        return []
    key = f"finetune.freeze={freeze}" if freeze else f"finetune.head_epochs={epochs}"
    if cfg.get("elastic"):
        raise UserError(f"{key} of an elastic training: its members' norms are each one's own; leave it out")
    if cfg.model.get("compile"):
        raise UserError(f"{key} with model.compile=true: what is compiled learns as a whole; leave one out")
    return [Finetuning(freeze, epochs)]


def scaled_rates(groups: list[dict[str, Any]], model: nn.Module, rates: Mapping[str, float]) -> list[dict[str, Any]]:
    """An optimizer's parameter groups, parted where ``rates`` gives a part of the network a share of the rate.

    Raises:
        UserError: no such part, a share that is no number of at least 0.
    """
    share: dict[int, float] = defaultdict(lambda: 1.0)
    named = dict(model.named_parameters())
    for part, factor in rates.items():
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 <= factor < float("inf"):
            raise UserError(f"finetune.rates.{part} is {factor}: give a share of the rate, a number of at least 0")
        for name in tensors_of(model, [part], "finetune.rates") & named.keys():
            share[id(named[name])] *= factor
    parted: list[dict[str, Any]] = []
    for group in groups:
        shares: dict[float, list[Any]] = {}
        for parameter in group["params"]:
            shares.setdefault(share[id(parameter)], []).append(parameter)
        for factor, parameters in shares.items():
            scale = {} if factor == 1 else {"lr_scale": group.get("lr_scale", 1) * factor}
            parted.append({**group, "params": parameters, **scale})
    return parted
