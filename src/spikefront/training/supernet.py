"""Elastic training: one network whose slices are the networks of a whole search space, all trained at once.

Each step trains the largest network, the smallest and some drawn from a pool ("sandwich", BigNAS, arXiv 2003.11142,
section 3.1); all but the largest learn in part from what that says of the batch (in-place distillation, section 3.2),
and to fire as much as it does, layer by layer: shared weights suit a network as long as its neurons work where the
largest network's do.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from spikefront.config import Composer
from spikefront.energy import CostModel, EnergyMeter
from spikefront.errors import UserError
from spikefront.nn.elastic import Member, Slopes, estimate_norms, inherit
from spikefront.training.lightning_internals import layer_sync
from spikefront.training.module import AnytimeAccuracy, SpikingClassifier
from spikefront.training.rate_matching import LayerRates
from spikefront.training.setup import build_model

Settings = Mapping[str, Any]
"""``elastic`` of a run's configuration: ``base``, the overrides that all members have; ``smallest`` and ``pool``, what
each has beyond them; ``scalars``, the largest network's of the settings that change no shape, and ``ranges``, their
least and most; ``random``, how many a step draws; ``distillation``, ``rate_weight``, ``warmup_epochs``,
``norm_batches``."""


def check_elastic(cfg: DictConfig) -> None:
    """Raise UserError for what an elastic training can't have beside it."""
    if not cfg.get("elastic"):
        return
    for key, why in (
        ("model.compile", "its members change with every step"),
        ("model.checkpoint_blocks", "members have no weights of their own to run again with"),
        ("loss.energy_weight", "it would see the largest network alone"),
        ("teacher", "the members learn from the largest network"),
    ):
        if OmegaConf.select(cfg, key):
            raise UserError(f"{key}={OmegaConf.select(cfg, key)} of an elastic training: {why}; leave it out")


class ElasticClassifier(SpikingClassifier):
    """Trains ``model``, the largest network, and its members with it.

    Args:
        settings: see ``Settings``.
        given: ``(images, timesteps) -> images`` as a member with fewer timesteps is given them.
        cost: of the energies that are logged of members.
        training: what ``SpikingClassifier`` takes.
    """

    faster = 3.0  # slopes begin at 0 and have a whole training's way to go; see docs/elastic.md

    def __init__(
        self,
        *training: Any,
        settings: Settings,
        given: Callable[[Tensor, int], Tensor],
        cost: CostModel,
    ) -> None:
        super().__init__(*training)
        self._settings, self._given, self._cost = settings, given, cost
        self._compose = Composer(settings["base"])
        self.slopes = Slopes(self.model, settings["scalars"])
        self._members: dict[int, tuple[Member, dict[str, float]]] = {}
        self._recent: deque[Tensor] = deque(maxlen=settings["norm_batches"])
        self._rates = LayerRates(settings.get("rate_weight", 0.0))

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        images, target = batch
        self._recent.append(images)
        with self._rates.of(self.model) as largest:
            steps = self.model(images, per_step=True)
        losses = [self.loss(steps, target)]
        self._log_training(losses[0], steps, target)
        if self.current_epoch >= self._settings["warmup_epochs"]:
            teacher = steps.detach().mean(0).softmax(-1)
            losses += [self._loss(place, images, target, teacher, largest) for place in self._drawn(index)]
            self.log("train/members_loss", torch.stack(losses[1:]).mean(), on_epoch=True, batch_size=len(images))
        return torch.stack(losses).mean() + self.slopes.nothing()

    def beside(self) -> list[nn.Parameter]:
        return list(self.slopes.parameters())

    def _drawn(self, index: int) -> list[int]:
        """The smallest and those of the pool that this step trains: the same on all processes, and when repeated."""
        pool, number = len(self._settings["pool"]), self._settings["random"]
        draw = random.Random(f"{self.hparams['config']['seed']} {self.current_epoch} {index}")
        return [SMALLEST, *draw.sample(range(pool), min(number, pool))]

    def _loss(
        self, place: int, images: Tensor, target: Tensor, teacher: Tensor, largest: Mapping[str, Tensor]
    ) -> Tensor:
        if place not in self._members:
            network, at = self.network(place)
            self._synchronise(network)
            self._members[place] = Member(network.train(), self.device), at
        member, at = self._members[place]
        weights = self.slopes.at(at, dict(self.model.named_parameters()))
        with self._rates.of(member.network) as own:
            steps = member(weights, self._given(images, self.timesteps_of(member.network)))
        share = self._settings["distillation"]
        loss: Tensor = self.loss(steps, target)
        if share:
            loss = (1 - share) * loss + share * F.cross_entropy(steps.mean(0), teacher)
        return loss + self._rates.apart(own, largest)

    def _synchronise(self, network: nn.Module) -> None:
        """Norms of members are synchronised over processes where the largest network's are."""
        if (sync := layer_sync(self.trainer)) is not None:
            sync.apply(network)

    @staticmethod
    def timesteps_of(network: Any) -> int:
        return int(network.timesteps)

    def network(self, place: int) -> tuple[nn.Module, dict[str, float]]:
        """A member of the pool, or the smallest, as an ordinary network with random weights; and its scalars."""
        own = self._settings["smallest"] if place == SMALLEST else self._settings["pool"][place]
        cfg = self._compose(own)
        with torch.random.fork_rng(devices=[]):  # a training that goes on builds them at other moments
            network = build_model(cfg)
        return network, scalars(cfg, self._settings["scalars"])

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        if not self._recent or self.trainer.sanity_checking or self.trainer.state.fn != "fit":
            return
        pool = len(self._settings["pool"])
        for name, place in (("smallest", SMALLEST), ("member", self.current_epoch % pool)):
            network, at = self.network(place)
            inherit(network, self.slopes.at(at, self.model.state_dict()))
            accuracy, joules = self._measured(network)
            self.log_dict({f"val/{name}/accuracy": accuracy, f"val/{name}/energy_joules": joules})

    @torch.no_grad()
    def _measured(self, network: nn.Module) -> tuple[float, float]:
        """Accuracy and joules a sample of a member with norms of its own, on the validation part."""
        network.to(self.device)
        timesteps = self.timesteps_of(network)
        self._synchronise(network)
        precision = self.trainer.precision_plugin
        with precision.val_step_context():
            estimate_norms(network, [self._given(images, timesteps) for images in self._recent])
        network.eval()
        accuracy, meter = AnytimeAccuracy(timesteps).to(self.device), EnergyMeter(network)
        loaders: Any = self.trainer.val_dataloaders
        limit = self.trainer.num_val_batches[0]
        with meter.recording():
            for index, batch in enumerate(loaders):
                if index >= limit:
                    break
                images, target = precision.convert_input(self.trainer.strategy.batch_to_device(batch))
                with precision.val_step_context():
                    steps = network(self._given(images, timesteps), per_step=True)
                accuracy.update(steps, target)
        meter.gather()
        return float(accuracy.compute().reshape(-1)[-1]), meter.report(self._cost).total_joules


def build_module(cfg: DictConfig, parts: Sequence[Any], given: Callable[[Tensor, int], Tensor]) -> SpikingClassifier:
    """A run's LightningModule, of what every one is made of."""
    if not cfg.get("elastic"):
        return SpikingClassifier(*parts)
    settings: Any = OmegaConf.to_container(cfg.elastic, resolve=True)
    return ElasticClassifier(*parts, settings=settings, given=given, cost=instantiate(cfg.energy))


def scalars(cfg: DictConfig, largest: Mapping[str, float]) -> dict[str, float]:
    """A run's settings that leave the shapes of its weights as they are, by key; one that it hasn't got, as the
    ``largest`` network has it."""
    found = {key: OmegaConf.select(cfg, key) for key in largest}
    return {key: float(largest[key] if value is None else value) for key, value in found.items()}


SMALLEST = -1  # a place beside those of the pool
