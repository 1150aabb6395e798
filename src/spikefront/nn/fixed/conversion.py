"""From a trained network to whole numbers: units, weights, thresholds.

A channel's potentials are counted in a unit of its own, ``2 ** -FRACTION`` of which is 1. Layers that add to one stream
share it; the finest of them says what it is, and each other multiplies its sums by a whole number, ``gain``. Nothing is
scaled back: a neuron's threshold is divided by its channel's unit once, here.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from spikefront.errors import UserError
from spikefront.nn.fixed.flow import Flow, Stream, flow
from spikefront.nn.fixed.rounding import products, rounded, rounded_together
from spikefront.nn.fixed.whole_layers import LEAK_BITS, WholeConv, WholeLinear, WholeNeuron
from spikefront.nn.inference import folded, replace
from spikefront.nn.integers import ILIF, Integer
from spikefront.nn.neurons import IF, LIF, PLIF

FRACTION = 8  # bits of a potential below a channel's unit
LARGEST = 2**30  # that a threshold or an offset may be
SHRINK = torch.linspace(0.4, 1, 25, dtype=torch.float64)  # of the largest weight: what scales are tried


def in_whole_numbers(model: nn.Module, batch: Tensor, bits: int) -> nn.Module:
    """A copy of a trained network whose weights have ``bits`` bits and whose potentials are integers.

    Batch norms are folded; ``whole_layers`` stand in the place of convolutions, linear layers and neurons.

    Args:
        batch: typical inputs, whose largest value becomes the largest that 8 bits can say; on what layers read of
            them their outputs lose least.

    Raises:
        UserError: something that whole numbers can't express (``flow``), or a neuron that has no such form.
    """
    network = folded(model).double()
    units = _Units(network, flow(network, batch[:1].double()), batch.double(), 2 ** (bits - 1) - 1)
    made: dict[str, nn.Module] = {name: units.synapse(name) for name in units.flow.synapses}
    made |= {name: units.neuron(name) for name in units.flow.neurons}
    for name, module in made.items():
        replace(network, name, module.eval().requires_grad_(False))
    return network


@torch.no_grad()
def check_whole(model: nn.Module, batch: Tensor) -> None:
    """Raise UserError if whole numbers can't express a network on inputs such as ``batch``, whatever its weights."""
    network = folded(model).double()
    units = _Units(network, flow(network, batch[:1].double()), batch.double(), 1)
    for stream in units.flow.streams.values():
        units.unit(stream)
    for name in units.flow.neurons:
        units.neuron(name)


class _Units:
    def __init__(self, network: nn.Module, found: Flow, batch: Tensor, most: int) -> None:
        self.network, self.flow, self.most = network, found, most
        self.image_step = image_step(batch)
        self.batch = batch
        self._of: dict[Stream, Tensor] = {}
        self._asked: list[Stream] = []

    @cached_property
    def products(self) -> dict[str, Tensor]:
        return products(self.network, list(self.flow.synapses), self.batch)

    def unit(self, stream: Stream) -> Tensor:
        """Of each channel of a stream, in real numbers; of logits one for all, or their order would be lost."""
        stream = stream.whole()
        if stream in self._asked:
            raise UserError(f"whole numbers can't express this network: {stream.layers[0]} reads what it adds to")
        if stream not in self._of:
            self._asked.append(stream)
            needed = torch.stack([self.scale(name) for name in stream.layers])
            unit = needed.amin(0).clamp_min(self._least(stream))
            self._of[stream] = unit.max().expand_as(unit).clone() if stream.last else unit
            self._asked.pop()
        return self._of[stream]

    def _least(self, stream: Stream) -> Tensor:
        """So that offsets and thresholds stay numbers of 32 bits."""
        layers = [self._layer(name) for name in stream.layers]
        largest = torch.stack([_bias(layer).abs() for layer in layers]).amax(0).clamp_min(1e-12)
        for name, value in self.flow.neurons.items():
            if value.stream is not None and value.stream.whole() is stream:
                threshold = float(getattr(self.network.get_submodule(name), "threshold", 1.0))
                largest = largest.clamp_min(threshold / (value.scale * value.parts))
        return largest * 2**FRACTION / LARGEST

    def _layer(self, name: str) -> Any:
        return self.network.get_submodule(name)

    def weight(self, name: str) -> Tensor:
        """What a layer multiplies the whole numbers that it reads by, in real numbers."""
        layer, value = self._layer(name), self.flow.synapses[name]
        weight = layer.weight.detach().double() * value.scale * self.step(name)
        if value.stream is None or name in self.flow.images:
            return weight
        unit = self.unit(value.stream) * 2.0**-FRACTION
        groups = getattr(layer, "groups", 1)
        by = unit.view(groups, -1).repeat_interleave(len(weight) // groups, 0)  # (out, in of its group)
        return weight * by.view(*by.shape, *[1] * (weight.dim() - 2))

    def step(self, name: str) -> float:
        """What a layer divides its input by to have whole numbers; potentials lose their fraction."""
        value = self.flow.synapses[name]
        if name in self.flow.images:
            return self.image_step
        return value.parts if value.stream is None else value.parts * 2**FRACTION

    def scale(self, name: str) -> Tensor:
        """Of each output channel the scale that its weights lose least with, by the squares of what they lose."""
        weight = self.weight(name).flatten(1)
        largest = weight.abs().amax(1)
        scales = (SHRINK[:, None] * largest / self.most).clamp_min(1e-30)
        lost = torch.stack([(rounded(weight, s, self.most) * s[:, None] - weight).square().sum(1) for s in scales])
        best = scales.gather(0, lost.argmin(0, keepdim=True))[0]
        return torch.where(largest > 0, best, torch.inf)

    def synapse(self, name: str) -> nn.Module:
        layer, stream = self._layer(name), self.flow.streams[name].whole()
        unit = self.unit(stream)
        unit = torch.where(unit.isfinite(), unit, 1.0)
        own = torch.minimum(self.scale(name), unit * LARGEST / 2**FRACTION).maximum(unit)
        gain = (own / unit * 2**FRACTION).round()
        whole = self._whole(name, gain * unit * 2.0**-FRACTION)
        offset = (_bias(layer) / unit * 2**FRACTION).round()
        last = float(unit[0]) * 2.0**-FRACTION if stream.last else None
        most = 127 if name in self.flow.images else None
        return synapse(layer, whole, gain, offset, {"step": self.step(name), "most": most, "unit": last})

    def _whole(self, name: str, scale: Tensor) -> Tensor:
        """A layer's weights over ``scale``, rounded so that together they lose least on the batch's inputs."""
        weight, real = self.weight(name), self._layer(name).weight.detach().double()
        rows = weight.flatten(1)
        together = self.products.get(name)
        if together is None:
            return rounded(rows, scale, self.most).view_as(weight)
        largest = real.flatten(1).abs().argmax(0, keepdim=True)
        step = (rows.gather(0, largest) / real.flatten(1).gather(0, largest)).squeeze(0)  # of each input
        step = torch.where(step.isfinite() & (step > 0), step, 1.0)
        return rounded_together(rows, scale, self.most, together / step / step[:, None]).view_as(weight)

    def neuron(self, name: str) -> WholeNeuron:
        old, value = self._layer(name), self.flow.neurons[name]
        unit, step = torch.full((1,), 2.0**-FRACTION, dtype=torch.float64), value.parts
        if value.stream is None:  # counts of spikes, of which a membrane holds parts, too
            step *= 2.0**-FRACTION
        if value.stream is not None:
            unit = self.unit(value.stream)
            unit = torch.where(unit.isfinite(), unit, 1.0) * 2.0**-FRACTION
        threshold = float(old.threshold) / (unit * value.scale * value.parts)
        leak, gain, at = _dynamics(name, old)
        thresholds = torch.stack([(threshold * n).floor() + 1 if up else (threshold * n).ceil() for n, up in at])
        drop = threshold.round() if old.reset == "soft" else None
        return WholeNeuron(thresholds, leak, gain, drop, step, self.flow.channel[name])


def image_step(batch: Tensor) -> float:
    """What inputs are divided by to be whole numbers of 8 bits: exactly where they have few levels at equal distances,
    as counts of events have."""
    levels = batch.abs().unique()
    largest = float(levels[-1])
    step = float(torch.cat([levels.new_zeros(1), levels]).diff().clamp_min(0).unique()[:2].max())
    if step and largest / step <= 127.5 and torch.allclose(levels / step, (levels / step).round(), atol=1e-3):
        return step
    return largest / 127 or 1.0


def _dynamics(name: str, neuron: nn.Module) -> tuple[int, int, list[tuple[float, bool]]]:
    """Leak and gain in parts of ``2 ** LEAK_BITS``, and for each level the share of the threshold that it is reached
    at, and whether it has to be passed."""
    one = 2**LEAK_BITS
    if type(neuron) in (LIF, IF, PLIF):
        gain, leak = neuron.gain_and_leak()  # type: ignore[operator]
        leak = 1 - float(gain) if leak is None else leak
        return round(leak * one), round(float(gain) * one), [(1.0, False)]
    if type(neuron) is ILIF:
        return round(neuron.leak * one), one, [(n - 0.5, False) for n in range(1, neuron.levels + 1)]
    if type(neuron) is Integer:  # a half is rounded to the even number, or up
        even = neuron.rounding == "even"
        return 0, one, [(n - 0.5, even and n % 2 == 1) for n in range(1, neuron.levels + 1)]
    raise UserError(
        f"whole numbers can't express this network: {name} is a {type(neuron).__name__}; use lif, if, plif,"
        " integer or ilif"
    )


def synapse(layer: Any, weight: Tensor, gain: Tensor, offset: Tensor, settings: dict[str, Any]) -> nn.Module:
    """The layer of whole numbers in the place of one with the same shapes."""
    made: Any
    if isinstance(layer, nn.Linear):
        made = WholeLinear(layer.in_features, layer.out_features, False)
    else:
        shape = layer.in_channels, layer.out_channels, layer.kernel_size
        made = WholeConv(*shape, layer.stride, layer.padding, layer.dilation, layer.groups, False)
    made.weight = nn.Parameter(weight.double(), False)
    made.register_buffer("gain", gain.double())
    made.register_buffer("offset", offset.double())
    for key, value in settings.items():
        setattr(made, key, value)
    return made


def _bias(layer: Any) -> Tensor:
    return layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias.detach().double()
