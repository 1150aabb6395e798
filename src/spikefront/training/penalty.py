"""Training for energy: the network's joules as a differentiable term of the loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spikefront.energy import CostModel, LayerCount
from spikefront.energy.meter import count
from spikefront.energy.survey import looking, survey
from spikefront.energy.values import is_whole
from spikefront.errors import UserError
from spikefront.training.ddp import mean_of_all

SPIKES, SIGNED, REAL = "spikes", "spikes of either sign", "real values"
PENALTY_KEYS = ("energy_weight", "energy_budget")


class EnergyPenalty:
    """``weight * E / E_full``, or with a budget ``weight * max(0, E / budget - 1)``; gradients flow through spikes.

    E is the energy a sample of the training pass just made, of all processes together, in ``cost``'s joules: each
    layer's mean firing rate times what it would cost if everything fired (its fan-out), so a spike is penalised by the
    additions it causes, as in the spiking synaptic penalty (arXiv 2302.01500) and the SynOp loss of Sorbaro et al.
    (2020, arXiv 1912.01268). E_full is E with every neuron firing. What does not depend on spikes enters as a constant.

    Args:
        weight: how much a network that always fires (or that exceeds its budget by the budget again) adds to the loss.
        budget: joules a sample.

    Raises:
        UserError: a negative weight or a budget that isn't positive.
    """

    def __init__(self, model: nn.Module, cost: CostModel, weight: float, budget: float | None = None) -> None:
        if weight < 0:
            raise UserError(f"loss.energy_weight is {weight}: it must be 0 or above")
        if budget is not None and budget <= 0:
            raise UserError(f"loss.energy_budget is {budget}: give joules a sample, such as 2e-6")
        self.model, self.cost, self.weight, self.budget = model, cost, float(weight), budget
        self._slopes: dict[str, float] = {}
        self._constant = self._full = 0.0
        self._rates: dict[str, Tensor] = {}
        self._units: dict[str, float] = {}  # by layer: what makes its input whole
        self._reads: dict[str, str] = {}  # by layer: spikes, of either sign, or real values
        self._inside = False  # a recomputation in the backward pass (activation checkpointing) is outside
        self._hooks = [model.register_forward_pre_hook(self._enter)]

    def __getstate__(self) -> dict[str, Any]:
        """Of a copy, as of the model that is watched: without the graph of the last pass."""
        return {**self.__dict__, "_rates": {}, "_hooks": []}

    def __call__(self) -> Tensor:
        """The term of the last training pass: a scalar."""
        energy = self.energy()
        self._inside, self._rates = False, {name: rate.detach() for name, rate in self._rates.items()}
        if self.budget is None:
            return self.weight * energy / self._full
        return self.weight * (mean_of_all(energy) / self.budget - 1).clamp_min(0)

    def energy(self) -> Tensor:
        """Joules a sample of the last training pass, differentiable."""
        moving = torch.stack([self._slopes[name] * rate for name, rate in self._rates.items()])
        return moving.sum() + self._constant

    def remove(self) -> None:
        """Take the hooks off the model."""
        while self._hooks:
            self._hooks.pop().remove()

    def _enter(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if looking() or not (module.training and torch.is_grad_enabled()):
            return
        if not self._slopes:
            self._prepare(args[0])
        self._inside, self._rates = True, {}

    def _prepare(self, images: Tensor) -> None:
        timesteps = int(self.model.timesteps)  # type: ignore[arg-type]
        modules = dict(self.model.named_modules())
        for layer in survey(self.model, images, timesteps).layers.values():
            full = count(layer, None, 1, timesteps)
            self._full += self._joules(full)
            self._units[layer.name] = layer.unit
            silent = full.at_rate(0.0)
            self._constant += self._joules(silent)
            self._slopes[layer.name] = self._joules(full) - self._joules(silent)
            if self._slopes[layer.name]:
                # whose copy goes with a copy of the model
                self._hooks.append(modules[layer.name].register_forward_pre_hook(partial(self._look, full)))

    def _joules(self, layer: LayerCount) -> float:
        return float(self.cost.joules(layer).sum())

    def _look(self, layer: LayerCount, module: Any, args: tuple[Any, ...]) -> None:
        if looking() or not (self.model.training and torch.is_grad_enabled()):
            return
        rate = self._rate(layer, module, args)  # of a recomputed block too, which must do what it did
        if self._inside:
            self._rates[layer.name] = rate

    def _rate(self, layer: LayerCount, module: Any, args: tuple[Any, ...]) -> Tensor:
        """Of what fires into a layer, from 0 to 1, or beyond of spikes of several values."""
        unit = self._units[layer.name]
        args = tuple(a * unit if unit != 1 and isinstance(a, Tensor) else a for a in args)
        if layer.kind == "attention":
            done, potential = module.operations(*args)
            return done.float().mean() / potential
        x = args[0]
        if layer.name not in self._reads:
            self._reads[layer.name] = REAL if not is_whole(x) else SIGNED if bool((x < 0).any()) else SPIKES
            if self._reads[layer.name] == REAL and layer.kind == "spikes":  # multiplications, whatever fires
                analog = self._joules(replace(layer, kind="analog"))
                self._full += analog - self._slopes[layer.name] - self._joules(layer.at_rate(0.0))
                self._slopes[layer.name] = analog
        reads = self._reads[layer.name]
        fired = x.abs() if reads == SIGNED else x  # of spikes alone: a silent neuron's gradient is not 0
        return torch.ones((), device=x.device) if reads == REAL else fired.float().mean()


def build_penalty(loss: Mapping[str, Any], model: nn.Module, cost: CostModel) -> EnergyPenalty | None:
    """The penalty that ``loss.energy_weight`` and ``loss.energy_budget`` ask for; a budget alone has weight 1."""
    weight, budget = float(loss.get("energy_weight") or 0.0), loss.get("energy_budget")
    if not weight and budget is None:
        return None
    return EnergyPenalty(model, cost, weight or 1.0, budget)
