"""Hardware cost models: what a layer's counted operations cost in joules, under a convention with a name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from spikefront.errors import UserError

if TYPE_CHECKING:
    from spikefront.energy.counts import LayerCount

WORD = 32  # bits
DEAREST = 1e-6  # joules: no operation and no memory access costs as much


class CostModel(Protocol):
    """Joules a sample of one layer.

    Attributes:
        convention: stands beside every figure made with it.
        rate: a firing rate assumed in place of the measured ones, or None.
    """

    convention: str
    rate: float | None

    def joules(self, layer: LayerCount) -> np.ndarray:
        """Energy at each timestep, of the shape of ``layer.additions``: ``(T,)`` or ``(T, samples)``."""
        ...

    def dense(self, layer: LayerCount, bits: int | None = None, operations: float | None = None) -> float:
        """Energy of the same layer in a network without spikes, run once: every multiply-accumulate is done.

        ``bits``: width of its activations, None for full precision. ``operations`` replaces the layer's own count.
        """
        ...


class Paper:
    """The convention of the Spike-driven Transformer and most papers since (arXiv 2307.01694, section 5 and table 1).

    45 nm figures of Horowitz (ISSCC 2014): 4.6 pJ a 32-bit multiply-accumulate, 0.9 pJ an addition. Layers that read
    real or count values cost ``e_mac * FL`` a timestep, layers that read spikes ``e_ac * R * FL``, FL the layer's
    multiply-accumulates and R the measured firing rate of its input. BN folds into the layer before it; neurons and
    memory cost nothing.

    Args:
        e_mac, e_ac: joules an operation.
        first_layer: whether the convolution that reads a static image counts ``per_timestep`` (T times, as the
            paper's formula is written) or ``once`` (as it may be computed). Event frames differ in time and always
            count T times.
        rate: assume this firing rate (0-1) everywhere instead of the measured ones.
    """

    def __init__(
        self,
        e_mac: float = 4.6e-12,
        e_ac: float = 0.9e-12,
        first_layer: str = "per_timestep",
        rate: float | None = None,
    ) -> None:
        self.e_mac, self.e_ac = positive("energy.e_mac", e_mac), positive("energy.e_ac", e_ac)
        self.first_layer, self.rate = check_first_layer(first_layer), check_rate(rate)
        self.convention = f"paper, first layer {first_layer.replace('_', ' ')}{assumed(rate)}"

    def joules(self, layer: LayerCount) -> np.ndarray:
        if layer.kind in ("analog", "unclassified"):
            return self.e_mac * layer.potential * times_done(layer, self.first_layer)
        if layer.kind == "neuron":
            return np.zeros_like(layer.additions)
        return self.e_ac * layer.additions

    def dense(self, layer: LayerCount, bits: int | None = None, operations: float | None = None) -> float:
        if layer.kind == "neuron":
            return 0.0
        operations = layer.potential if operations is None else operations
        if layer.kind == "pool":
            return self.e_ac * operations
        return operations * self._mac(None if layer.kind == "analog" else bits)

    def _mac(self, bits: int | None) -> float:
        # a multiplier's energy grows with the product of its widths (Horowitz: 8-bit 0.2 pJ, 32-bit 3.1 pJ)
        return self.e_mac if bits is None else self.e_ac + (self.e_mac - self.e_ac) * bits / WORD


class Chip:
    """Event-driven hardware with its memory counted: a cost model that a YAML file writes down for a chip.

    A spike is read once and, for each of its synapses, a weight is read, the target's membrane potential read and
    written, and an addition done; every neuron is updated at every timestep (a multiplication for the leak, an
    addition, its potential read and written). A layer that reads real values does a multiplication and an addition a
    synapse, reads a weight and an input value for each, accumulates in a register and writes each output once. So
    counts arXiv 2210.13107 (Lemaire et al., "An Analytical Estimation of Spiking Neural Networks Energy Efficiency").

    Args:
        name: names the convention.
        add, multiply: joules an operation, for every bit width the chip offers: ``{8: 0.03e-12, 32: 0.1e-12}``.
        memory: joules to move one 32-bit word, either one figure or ``{bytes of the memory: joules}``, between which
            is interpolated (below the first towards 0, above the last the last's): each layer's weights, potentials
            and spikes lie in memories of their own size. Narrower words cost in proportion.
        weight_bits, potential_bits: widths; operations use the narrowest offered width that holds them.
        leak: whether neurons multiply by a leak at every timestep.
        first_layer, rate: as in ``Paper``.
    """

    def __init__(
        self,
        name: str,
        add: Mapping[int, float],
        multiply: Mapping[int, float],
        memory: float | Mapping[int, float],
        weight_bits: int = WORD,
        potential_bits: int = WORD,
        leak: bool = True,
        first_layer: str = "per_timestep",
        rate: float | None = None,
    ) -> None:
        self.add, self.multiply = widths("energy.add", add), widths("energy.multiply", multiply)
        curve = {1: memory, 2: memory} if isinstance(memory, int | float) else dict(memory)
        self.flat = isinstance(memory, int | float)
        self.memory = {float(k): positive("energy.memory", v) for k, v in sorted(curve.items())}
        self.weight_bits, self.potential_bits, self.leak = int(weight_bits), int(potential_bits), leak
        at_width("energy.add", self.add, self.potential_bits)
        at_width("energy.multiply", self.multiply, max(self.weight_bits, self.potential_bits if leak else 0))
        self.first_layer, self.rate = check_first_layer(first_layer), check_rate(rate)
        self.convention = (
            f"{name}, {weight_bits}-bit weights, {potential_bits}-bit potentials,"
            f" first layer {first_layer.replace('_', ' ')}{assumed(rate)}"
        )

    def access(self, elements: float, bits: int) -> float:
        """Joules to read or write one value of ``bits`` in a memory that holds ``elements`` of them."""
        if self.flat:
            return next(iter(self.memory.values())) * bits / WORD
        sizes, joules = [0.0, *self.memory], [0.0, *self.memory.values()]
        return float(np.interp(elements * bits / 8, sizes, joules)) * bits / WORD

    def joules(self, layer: LayerCount) -> np.ndarray:
        add = at_width("energy.add", self.add, self.potential_bits)
        potential = 2 * self.access(layer.outputs, self.potential_bits)
        spike = self.access(layer.inputs, 1)
        if layer.kind in ("analog", "unclassified"):
            return self._dense(layer, self.weight_bits, layer.potential) * times_done(layer, self.first_layer)
        if layer.kind == "neuron":
            leak = at_width("energy.multiply", self.multiply, self.potential_bits) if self.leak else 0.0
            return (leak + add + potential) * layer.additions
        if layer.kind == "spikes":
            weight = self.access(layer.parameters, self.weight_bits)
            return (add + weight + potential) * layer.additions + spike * layer.spikes
        return (add + spike) * layer.additions

    def dense(self, layer: LayerCount, bits: int | None = None, operations: float | None = None) -> float:
        if layer.kind == "neuron":
            return 0.0
        operations = layer.potential if operations is None else operations
        width = self.weight_bits if bits is None or layer.kind == "analog" else bits
        if layer.kind == "pool":
            add = at_width("energy.add", self.add, self.potential_bits)
            return operations * (add + self.access(layer.inputs, width))
        return self._dense(layer, width, operations)

    def _dense(self, layer: LayerCount, bits: int, operations: float) -> float:
        add = at_width("energy.add", self.add, self.potential_bits)
        full = at_width("energy.multiply", self.multiply, self.weight_bits)
        multiply = full * min(bits, self.weight_bits) / self.weight_bits
        reads = self.access(layer.inputs, bits)
        reads += self.access(layer.parameters, self.weight_bits) if layer.parameters else reads
        return operations * (multiply + add + reads) + layer.outputs * self.access(layer.outputs, bits)


def times_done(layer: LayerCount, first_layer: str) -> np.ndarray:
    """How often a layer that reads real values runs at each timestep: a static image's perhaps only at the first."""
    done = np.ones_like(layer.additions)
    if layer.static and first_layer == "once":
        done[1:] = 0
    return done


def assumed(rate: float | None) -> str:
    return "" if rate is None else f", firing rate {rate:g} assumed"


def check_first_layer(value: str) -> str:
    if value not in ("per_timestep", "once"):
        raise UserError(f"energy.first_layer is {value!r}: use per_timestep or once")
    return value


def check_rate(value: float | None) -> float | None:
    if value is not None and not 0 <= value <= 1:
        raise UserError(f"energy.rate is {value}: a firing rate lies between 0 and 1")
    return value


def positive(where: str, value: float) -> float:
    if not 0 <= float(value) < DEAREST:
        meant = f": {value}e-12 if you mean picojoules" if float(value) >= DEAREST else ", such as 0.9e-12"
        raise UserError(f"{where} is {value}: give joules an operation{meant}")
    return float(value)


def widths(where: str, table: Mapping[int, float]) -> dict[int, float]:
    if not table:
        raise UserError(f"{where} is empty: give joules for at least one bit width, such as {{32: 0.1e-12}}")
    return {int(bits): positive(where, joules) for bits, joules in sorted(table.items(), key=lambda item: int(item[0]))}


def at_width(where: str, table: Mapping[int, float], bits: int) -> float:
    for width, joules in table.items():
        if width >= bits:
            return joules
    raise UserError(f"{where} has no width of {bits} bits or more: it offers {', '.join(map(str, table))}")
