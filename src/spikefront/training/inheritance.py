"""Networks that inherit their weights from an elastic training: evaluated as they are, or taken out of it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor, nn

from spikefront.config import Composer, flat, override
from spikefront.data import ImageData, build_data
from spikefront.errors import UserError, in_a_line
from spikefront.nn.checkpoints import configuration, network_state, read_checkpoint, stated
from spikefront.nn.elastic import PASS, Slopes, estimate_norms, inherit
from spikefront.nn.transfer import Transfer, transfer
from spikefront.training.preemption import Signals
from spikefront.training.result import Evaluation
from spikefront.training.setup import build_model, build_trainer, evaluate_part, for_evaluation, quiet
from spikefront.training.supernet import scalars
from spikefront.training.together import together
from spikefront.trust import check, check_override

KEPT = 4  # data sets as members read them: event data differ with the timesteps


class Heirs:
    """Evaluates members of one elastic training, one after another.

    Args:
        checkpoint: the elastic training's.

    Raises:
        UserError: it is not an elastic training's.
    """

    def __init__(self, checkpoint: str | Path) -> None:
        content = read_checkpoint(checkpoint)
        self.checkpoint = str(checkpoint)
        self.settings = settings_of(content, checkpoint)
        self._content = content
        self._data: dict[str, tuple[ImageData, list[Tensor]]] = {}

    def evaluate(self, cfg: DictConfig, callbacks: Sequence[pl.Callback] = ()) -> tuple[nn.Module, Evaluation]:
        """A member, composed as ``train.py`` would train it, with its figures on the validation part, by as many
        processes as ``cfg.trainer`` says; ``cfg`` is resolved where it stands.

        Raises:
            UserError: a tensor of it is no part of the largest network's.
        """
        mates = [callback.elsewhere() for callback in callbacks if hasattr(callback, "elsewhere")]
        OmegaConf.resolve(cfg)
        with together(cfg.trainer, partial(_evaluate_beside, self.checkpoint, cfg, mates)):
            return self._evaluate(cfg, callbacks)

    def _evaluate(self, cfg: DictConfig, callbacks: Sequence[pl.Callback]) -> tuple[nn.Module, Evaluation]:
        quiet()
        pl.seed_everything(cfg.seed, workers=True, verbose=False)
        model = heir(self._content, cfg)
        module = for_evaluation(model, cfg)
        run = cfg.copy()
        with open_dict(run):
            run.callbacks = {"energy": run.callbacks.energy}
            run.trainer.enable_model_summary = False
        data, images = self._of(cfg)
        norms = OwnNorms(self.settings["norm_batches"], images)
        return model, evaluate_part(build_trainer(run, None, [norms, *callbacks]), module, data, "val")

    def _of(self, cfg: DictConfig) -> tuple[ImageData, list[Tensor]]:
        """A member's data, and the images that norms are estimated on once one has read them."""
        timesteps = int(cfg.model.timesteps)
        key = f"{OmegaConf.to_yaml(cfg.data, resolve=True)}{timesteps}"
        if key not in self._data:
            while len(self._data) >= KEPT:
                self._data.pop(next(iter(self._data)))
            data = build_data(cfg.data, timesteps=timesteps)
            if cfg.trainer.get("limit_val_batches") in (None, 1.0):  # else it counts batches of that size
                data.at_once = PASS
            self._data[key] = data, []
        return self._data[key]


@lru_cache(maxsize=1)
def _heirs(checkpoint: str) -> Heirs:
    return Heirs(checkpoint)


def _evaluate_beside(checkpoint: str, cfg: DictConfig, mates: Sequence[Any], signals: Signals) -> None:
    """What the other processes of an evaluation do."""
    _heirs(checkpoint)._evaluate(cfg, [mate(signals) for mate in mates])


class OwnNorms(pl.Callback):
    """Has an evaluation begin with norms estimated anew from the first ``batches`` of the training part, or from
    ``images`` if there are some; if not, these are put there."""

    def __init__(self, batches: int, images: list[Tensor] | None = None) -> None:
        self.batches, self.images = batches, [] if images is None else images
        self._done = False

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self._done:
            return
        self._done = True
        if not self.images:
            loader: Any = trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]
            self.images.extend(images for images, _ in itertools.islice(loader, self.batches))
        precision = trainer.precision_plugin
        with precision.val_step_context():
            given = (precision.convert_input(images.to(pl_module.device)) for images in self.images)
            estimate_norms(pl_module.model, given)
        pl_module.model.eval()

    on_test_start = on_validation_start


TRAINED = (
    "optimizer",
    "schedule",
    "loss",
    "callbacks",
    "logger",
    "teacher",
    "init",
    "finetune",
)  # nodes that a network is not made of


def heir(content: Mapping[str, Any], cfg: DictConfig, model: nn.Module | None = None) -> nn.Module:
    """The network of a run, or ``model`` in its place, with its part of an elastic training's weights."""
    made = build_model(cfg) if model is None else model
    with torch.no_grad():
        return inherit(made, heirs_weights(content, cfg))


def heirs_weights(content: Mapping[str, Any], cfg: DictConfig) -> dict[str, Tensor]:
    """An elastic training's weights by name, as they are at a run's settings: its network's are parts of these."""
    weights, settings = network_state(content), settings_of(content, "given")
    whole = Slopes(nn.Module(), settings["scalars"])
    prefix = "slopes."
    for place, _ in enumerate(whole.origin):
        own = f"{prefix}of.{place}."
        state = {k.removeprefix(own): v for k, v in content["state_dict"].items() if k.startswith(own)}
        whole.of[place] = nn.ParameterDict(state)
    with torch.no_grad():
        return whole.at(scalars(cfg, whole.origin), weights)


def beginning(cfg: DictConfig) -> tuple[str | None, bool]:
    """The address of the checkpoint that a run begins with, None for none, and whether it is cut to the run's size."""
    init = cfg.get("init")
    if OmegaConf.is_config(init):
        return init.get("checkpoint"), bool(init.get("slice"))
    return init, False  # a file of the user's own that says init: <checkpoint>


def begin(model: nn.Module, cfg: DictConfig) -> Transfer | None:
    """Give a run's network the weights it begins with, ``init.checkpoint``; of an elastic training its part of them.

    Returns:
        What was taken; None of a run that begins with random weights.

    Raises:
        UserError: no such checkpoint, or of another network.
    """
    address, slice = beginning(cfg)
    if not address:
        return None
    content = read_checkpoint(address)
    elastic = bool((configuration(content) or {}).get("elastic"))
    state = heirs_weights(content, cfg) if elastic else stated(content)
    taken = transfer(model, state, str(address), slice or elastic)
    model.load_state_dict(taken.state, assign=any(p.is_meta for p in model.parameters()))  # copies need a place
    return taken


def settings_of(content: Mapping[str, Any], where: str | Path) -> dict[str, Any]:
    """What an elastic training's checkpoint says of its members.

    Raises:
        UserError: it is another training's.
    """
    found = (configuration(content) or {}).get("elastic")
    if not found:
        raise UserError(f"checkpoint {where} is not of an elastic training (search/engine=elastic): it has no members")
    return dict(found)


def configuration_of(content: Mapping[str, Any], where: str | Path, given: Any, trusted: bool = False) -> DictConfig:
    """The configuration of a member of an elastic training.

    Args:
        content: of the checkpoint at ``where``.
        given: its keys, nested or dotted, ``{"model.depth": 1, "model.dim": 48}``; what isn't named is the largest's.
        trusted: what the checkpoint names may be anything, see ``trust``.

    Raises:
        UserError: no elastic training's checkpoint, no such key.
    """
    settings = settings_of(content, where)
    if not isinstance(given, Mapping):
        raise UserError(f"member={given}: give the member's keys, such as {{model.depth: 1, model.dim: 48}}")
    keys = flat(given) if given else {}
    if idle := [key for key in keys if key.partition(".")[0] in TRAINED]:
        raise UserError(f"member.{idle[0]} changes nothing: it is of the training, which is over")
    own = [override(key, value) for key, value in keys.items()]
    largest = [o for o in settings["largest"] if o.partition("=")[0] not in keys]
    if not trusted:
        for text in (*settings["base"], *largest):
            check_override(text, f"checkpoint {where}", "trust")
    compose = Composer(settings["base"])
    with in_a_line("member: "):
        cfg = compose([*largest, *own])
    for key, origin in settings["scalars"].items():
        if not isinstance(value := OmegaConf.select(cfg, key, default=origin), int | float) or value <= 0:
            raise UserError(f"member.{key} is {value}: give a number above 0")
        least, greatest = settings.get("ranges", {}).get(key, (value, value))
        if not least <= value <= greatest:
            raise UserError(f"member.{key} is {value}: it was trained with {least:g} to {greatest:g}")
    most = compose(settings["largest"]).model.timesteps
    if not isinstance(cfg.model.timesteps, int) or not 1 <= cfg.model.timesteps <= most:
        raise UserError(f"member.model.timesteps is {cfg.model.timesteps}: it was trained with 1 to {most}")
    OmegaConf.resolve(cfg)
    if not trusted:
        check(OmegaConf.to_container(cfg), f"checkpoint {where}", "trust")
    return cfg


def extract(checkpoint: str | Path, member: Any, *, trust: bool = False) -> nn.Module:
    """A member of an elastic training as an ordinary network: to deploy, to audit, to train on.

    Its norms are estimated on the first batches of the training part, so the data must be where the checkpoint's
    configuration says; ``overrides`` of that are keys of ``member`` like any others, ``{"data.root": "/data"}``.

    Its ``classes`` are the classes' names, where they are known; its ``data`` what is known of a user's own folder.

    Args:
        checkpoint: an elastic training's.
        member: its keys, nested or dotted, ``{"model.depth": 1, "model.dim": 48}``; the others are the largest's.
        trust: the checkpoint may name any class, see SECURITY.md.

    Raises:
        UserError: no such checkpoint or member, no data.
    """
    content = read_checkpoint(checkpoint)
    cfg = configuration_of(content, checkpoint, member, trust)
    with in_a_line("member: "):
        model = heir(content, cfg)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    data = data_of(cfg, content)
    data.setup()
    vars(model).update(classes=data.classes, data=data.described())
    own_norms(model, data, settings_of(content, checkpoint))
    return model.eval()


def data_of(cfg: DictConfig, content: Mapping[str, Any]) -> ImageData:
    """A run's data as the training of a checkpoint's ``content`` knew them.

    Raises:
        UserError: they are not there.
    """
    data = build_data(cfg.data, timesteps=int(cfg.model.timesteps))
    data.recall(data.kept_in(content))
    data.check()
    return data


def own_norms(model: nn.Module, data: ImageData, settings: Mapping[str, Any]) -> None:
    """Estimate a member's norms on the first batches of the training part, as many as its training says."""
    batches = itertools.islice(data.train_dataloader(), settings["norm_batches"])
    estimate_norms(model, (images for images, _ in batches))
