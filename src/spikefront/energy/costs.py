"""Hardware cost models: what a layer's counted operations cost in joules, under a convention with a name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from spikefront.errors import UserError

if TYPE_CHECKING:
    from spikefront.energy.report import LayerCount


class CostModel(Protocol):
    """Joules a sample of one layer at each timestep. ``convention`` stands beside every figure made with it."""

    convention: str

    def joules(self, layer: LayerCount) -> list[float]: ...


class Paper:
    """The convention of the Spike-driven Transformer and most papers since (arXiv 2307.01694, section 5 and table 1).

    45 nm figures of Horowitz (ISSCC 2014): 4.6 pJ a 32-bit multiply-accumulate, 0.9 pJ an addition. Layers that read
    real or count values cost ``e_mac * FL`` a timestep, layers that read spikes ``e_ac * R * FL``, FL the layer's
    multiply-accumulates and R the measured firing rate of its input. BN folds into the layer before it.

    Args:
        e_mac, e_ac: joules an operation.
        first_layer: whether the convolution that reads a static image counts ``per_timestep`` (T times, as the
            paper's formula is written) or ``once`` (as it may be computed). Event frames differ in time and always
            count T times.
    """

    def __init__(self, e_mac: float = 4.6e-12, e_ac: float = 0.9e-12, first_layer: str = "per_timestep") -> None:
        if first_layer not in ("per_timestep", "once"):
            raise UserError(f"energy.first_layer is {first_layer!r}: use per_timestep or once")
        self.e_mac, self.e_ac, self.first_layer = float(e_mac), float(e_ac), first_layer
        self.convention = f"paper, first layer {first_layer.replace('_', ' ')}"

    def joules(self, layer: LayerCount) -> list[float]:
        if layer.kind != "analog":
            return [self.e_ac * a for a in layer.additions]
        per_step = self.e_mac * layer.potential
        if layer.static and self.first_layer == "once":
            return [per_step] + [0.0] * (layer.timesteps - 1)
        return [per_step] * layer.timesteps
