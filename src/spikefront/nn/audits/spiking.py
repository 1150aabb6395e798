"""What is sent from layer to layer: spikes, how large, whether they unroll in time, and layers that say nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spikefront.nn.audit import BINARY, EXEMPT, IMAGE, INTEGER, REAL, is_synapse
from spikefront.nn.audits.finding import Finding, fails, holds, not_tried
from spikefront.nn.audits.independence import RANDOM
from spikefront.nn.audits.subject import Subject
from spikefront.nn.audits.trace import watching
from spikefront.nn.audits.trace import whole as all_of_it
from spikefront.nn.integers import are_counts, norms
from spikefront.nn.neurons import SpikingNeuron

NO_SPIKES = "no layer reads spikes: it is no spiking network"
LIMIT = 1 << 10  # of virtual steps that are unrolled


def spikes(subject: Subject) -> Finding:
    """What enters each convolution and linear layer but the first: 0 and 1, whole numbers, or anything."""
    found = subject.adds
    kinds = set(found.inputs.values()) - {IMAGE}
    if not kinds & {BINARY, INTEGER}:
        return not_tried("spikes", NO_SPIKES)
    tried = "what enters every layer with weights, in a copy in which all paths fire"
    largest = {name: found.largest[name] for name, kind in found.inputs.items() if kind in (BINARY, INTEGER)}
    several = [name for name, kind in found.inputs.items() if kind == INTEGER]
    most = max(largest, key=lambda name: largest[name])
    said = (
        f"integers up to {largest[most]:g} in {len(several)} layers, the largest into {most}" if several else "binary"
    )
    if real := [name for name, kind in found.inputs.items() if kind == REAL]:
        return fails("spikes", tried, f"{len(real)} layers read real values; else {said}", real, figures=largest)
    return holds("spikes", tried, said, figures=largest)


def unrolled(subject: Subject) -> Finding:
    """Every integer spike as as many binary ones in virtual steps: the network must answer the same."""
    whole = [name for name, kind in subject.adds.inputs.items() if kind == INTEGER]
    if not whole:
        return not_tried("unrolled", "no layer reads integers: there is nothing to unroll")
    if subject.random:
        return not_tried("unrolled", RANDOM)
    model, scales, most = copy.deepcopy(subject.driven), norms(subject.original), [0]
    expected, before = subject.run(model, subject.batch), subject.traced(model, subject.batch, all_of_it)
    for name in whole:
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, _Unrolled(model.get_submodule(name), scales, most))
    tried = (
        f"{len(whole)} layers computed as the sum of binary virtual steps, logits and what every module gives compared"
    )
    after, answer = subject.traced(model, subject.batch, all_of_it), subject.answers(model, subject.batch)
    place = subject.first_different(before, after)
    products = [what for what in subject.adds.multiplications if INTEGER in what]
    extra = f"; {len(products)} products of integers with integers take D² steps: {products[0]}" if products else ""
    if not place and subject.equal(expected, answer):
        return holds("unrolled", tried, f"equal up to rounding, {most[0]} virtual steps at most{extra}")
    return fails("unrolled", tried, subject.difference(expected, answer) + extra, place)


class _Unrolled(nn.Module):
    """A linear map of integers as the sum of what it makes of each virtual step's binary spikes."""

    def __init__(self, layer: nn.Module, scales: tuple[float, ...], most: list[int]) -> None:
        super().__init__()
        self.layer, self.scales, self.most = layer, scales, most

    def forward(self, x: Tensor) -> Tensor:
        unit = next((u for u in (1.0, *self.scales) if are_counts(x, (u,) if u != 1 else ())), None)
        if unit is None:
            return torch.full_like(self.layer(x), torch.nan)
        counts = (x * unit).round()
        sign, counts = counts.sign(), counts.abs()
        levels = int(counts.max())
        if levels > LIMIT:
            return torch.full_like(self.layer(x), torch.nan)
        self.most[0] = max(self.most[0], levels)
        constant = self.layer(torch.zeros_like(x))
        return constant + sum(
            ((self.layer(sign * (counts >= step)) - constant) / unit for step in range(1, levels + 1)),
            torch.zeros_like(constant),
        )


def silent(subject: Subject) -> Finding:
    """Neurons, and layers that read spikes, of which nothing ever comes."""
    return _extreme(subject, "silent", lambda x: ~x.flatten(1).any(1))


def saturated(subject: Subject) -> Finding:
    """Neurons that fire everywhere and always: they pass no information on."""
    return _extreme(subject, "saturated", lambda x: x.flatten(1).bool().all(1))


def _extreme(subject: Subject, check: str, judge: Callable[[Tensor], Tensor]) -> Finding:
    if subject.lively is not subject.given:
        return not_tried(check, "untrained: these weights are nobody's")
    fired = _firing(subject, subject.given)
    if not fired:
        return not_tried(check, "nothing in it is known as a neuron")
    shares = {name: float(judge(x).double().mean()) for name, x in fired.items()}
    whole = [name for name, share in shares.items() if share == 1]
    tried = f"{len(fired)} layers of neurons, {len(subject.batch)} samples, its own weights"
    mean = f"{100 * sum(shares.values()) / len(shares):.3g} % of the channels"
    if whole:
        return fails(check, tried, f"{len(whole)} whole layers; {mean}", whole, figures=shares)
    return holds(check, tried, f"no whole layer; {mean}", figures=shares)


def _firing(subject: Subject, model: nn.Module) -> dict[str, Tensor]:
    """Spikes of every layer of neurons, channels in front: ours, and foreign ones told by what they give."""
    found: dict[str, Tensor] = {}
    model, inside = copy.deepcopy(model), tuple(EXEMPT[:3])

    def see(name: str, module: nn.Module, args: tuple[Any, ...], out: Tensor) -> None:
        ours = isinstance(module, inside)
        other = not any(module.children()) and args and isinstance(args[0], Tensor) and _fires(module, args[0], out)
        if (ours or other) and not any(name.startswith(f"{known}.") for known in found):
            channel = 2 if out.dim() >= 4 and out.dim() != 4 else 1 if out.dim() > 1 else 0
            found[name] = out.transpose(0, channel).clone()

    with watching(model, see):
        subject.answers(model, subject.batch)
    return found


def _fires(module: nn.Module, x: Tensor, out: Tensor) -> bool:
    """Whether a module of another library behaves as neurons do: 0 and 1 of real values, in the same shape."""
    if is_synapse(module) or isinstance(module, SpikingNeuron) or x.shape != out.shape or torch.equal(x, out):
        return False
    return bool(((out == 0) | (out == 1)).all()) and not bool(((x == 0) | (x == 1)).all())
