"""Firing rates of a network brought close to its teacher's, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from spikefront.energy.survey import survey
from spikefront.errors import UserError, near_matches
from spikefront.nn.external import SnnTorch, SpikingJelly
from spikefront.nn.neurons import SpikingNeuron
from spikefront.training.ddp import mean_of_all

SPIKING = (SpikingNeuron, SpikingJelly, SnnTorch)


class RateMatching:
    """The mean over layers of the squared difference between a network's firing rates and its teacher's.

    A rate is a neuron's mean over time, so the two may have another number of timesteps; spiking teachers of spiking
    networks are of arXiv 2005.00288, the squared difference of a layer's rates is KDSNN's (arXiv 2304.05627). Each
    neuron's rate is compared where layers are of one shape; where their widths differ alone, the mean over channels at
    each pixel; else the mean of the layer. Of a teacher without timesteps a layer's output stands for its rates.

    Args:
        weight: how many times the distance counts in the loss.
        layers: ``{the network's module: the teacher's}``; None: the spiking neurons that both have under one name.

    Raises:
        UserError: a weight that isn't a positive number.
    """

    def __init__(self, weight: float, layers: Mapping[str, str] | None = None) -> None:
        if not isinstance(weight, int | float) or not weight > 0:
            raise UserError(f"teacher.rate_weight is {weight}: give 0, or how much unlike firing rates add to the loss")
        self.weight, self.layers = float(weight), dict(layers) if layers else None
        self._seen: dict[bool, dict[str, Tensor]] = {}
        self._timed = True

    def __repr__(self) -> str:
        what = f"{len(self.layers)} layers" if self.layers else "layers"
        return f"firing rates of {what} times {self.weight:g}"

    def fit(self, student: nn.Module, teacher: nn.Module, sample: Tensor, shown: Tensor) -> None:
        """Find the layers; ``sample``, of one, as the network is given it and, ``shown``, as the teacher is.

        Raises:
            UserError: no such layer, none in common, or a network that runs its blocks again in the backward pass.
        """
        if getattr(student, "checkpoint_blocks", False):
            raise UserError("teacher.rate_weight and model.checkpoint_blocks: blocks that run twice can't be watched")
        self._timed = hasattr(teacher, "timesteps")
        if self.layers is None:
            if not self._timed:
                raise UserError("teacher.rate_weight of a teacher without spikes: name teacher.rate_layers={ours: its}")
            ours, theirs = (neurons(n, x) for n, x in ((student, sample), (teacher, shown)))
            self.layers = {name: name for name in ours if name in theirs}
            if not self.layers:
                raise UserError(
                    f"teacher.rate_weight: no neuron has one name in both networks ({', '.join(ours[:2])} here,"
                    f" {', '.join(theirs[:2])} in the teacher): name teacher.rate_layers={{ours: its}}"
                )
        for key, names, network in (("", self.layers, student), (" of the teacher", self.layers.values(), teacher)):
            known = {name for name, _ in network.named_modules() if name}
            for name in names:
                if name not in known:
                    raise UserError(f"teacher.rate_layers: no layer{key} is called {name}; {near_matches(name, known)}")

    @contextmanager
    def watching(self, network: nn.Module, ours: bool) -> Iterator[None]:
        """Context of a forward pass, whose layers' outputs are kept: the trained network's (``ours``), the teacher's.

        Nothing is computed with them in it, so a pass is what it was; only there do layers have hooks.
        """
        assert self.layers is not None, "call fit first"
        modules = dict(network.named_modules())
        names = self.layers if ours else self.layers.values()
        with _watched({name: modules[name] for name in names}, lambda out: out) as self._seen[ours]:
            yield

    def distance(self) -> Tensor:
        """Of the last two passes: a scalar, whose gradients flow through the trained network's spikes."""
        assert self.layers is not None
        ours, theirs = self._seen.pop(True), self._seen.pop(False)
        each = []
        for name, other in self.layers.items():
            a, b = ours[name].float().mean(0), theirs[other].detach().float()
            each.append(_differing(a, b.mean(0) if self._timed else b).square().mean())
        return torch.stack(each).mean()


class LayerRates:
    """Mean firing rates of a network's layers, over time, batch (of all processes) and neurons, and how far those of
    two networks are.

    Args:
        weight: what the mean over layers of their squared difference is taken times; 0: nothing is watched.
    """

    def __init__(self, weight: float) -> None:
        self.weight = weight

    @contextmanager
    def of(self, network: nn.Module) -> Iterator[dict[str, Tensor]]:
        """Context of one pass, whose rates are in what it gives, by layer."""
        layers = {n: m for n, m in network.named_modules() if isinstance(m, SPIKING)} if self.weight else {}
        with _watched(layers, Tensor.mean) as found:
            yield found

    def apart(self, own: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> Tensor:
        """``weight`` times the distance of ``own`` rates from ``others``, which learn nothing of it."""
        each = [rate - others[name].detach() for name, rate in own.items() if name in others]
        return self.weight * mean_of_all(torch.stack(each)).square().mean() if each else torch.zeros(())


def neurons(network: nn.Module, sample: Tensor) -> list[str]:
    """Names of a spiking network's neurons, as one sample's pass finds them."""
    sample = sample.to(next(network.parameters()).dtype)
    found = survey(network, sample, int(network.timesteps))  # type: ignore[arg-type]
    return [name for name, layer in found.layers.items() if layer.kind == "neuron"]


@contextmanager
def _watched(layers: Mapping[str, nn.Module], what: Callable[[Tensor], Tensor]) -> Iterator[dict[str, Tensor]]:
    """Context of a pass: ``what`` of each layer's output, by its name."""
    found: dict[str, Tensor] = {}

    def kept(name: str) -> Callable[..., None]:
        return lambda module, args, out: found.__setitem__(name, what(out))

    handles = [layer.register_forward_hook(kept(name)) for name, layer in layers.items()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _differing(a: Tensor, b: Tensor) -> Tensor:
    """The difference of two layers' rates ``(B, …)``, as finely as their shapes allow."""
    if a.shape == b.shape:
        return a - b
    if a.dim() == b.dim() and a.shape[2:] == b.shape[2:]:
        return a.mean(1) - b.mean(1)
    return a.flatten(1).mean(1) - b.flatten(1).mean(1)
