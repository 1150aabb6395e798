"""What a graph takes and gives, in words that travel with it, and whether it gives what the network does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from spikefront.exporting.origin import Origin
from spikefront.nn.programs import OUTPUTS, Deployed

CLOSE = 1e-4  # of logits: more is no rounding


def interface(deployed: Deployed, sample: Tensor, origin: Origin | None) -> dict[str, Any]:
    """Inputs and outputs with their shapes, T, the neurons by name and, where they are known, the classes."""
    shape, T = list(sample.shape[1:]), int(deployed.network.timesteps)
    axes = "T, C, H, W" if len(shape) == 4 else "C, H, W"
    shown = "frames of events, one a timestep" if len(shape) == 4 else f"images, each shown {T} times"
    about: dict[str, Any] = {
        "timesteps": T,
        "inputs": {"images": f"(batch, {axes}) = (batch, {', '.join(map(str, shape))}), float32: {shown}"},
        "outputs": {
            "logits": "(batch, classes): the mean over time of steps",
            "steps": f"(T, batch, classes), T = {T}: logits of each timestep; the mean of the first t stops after t",
            "spikes": f"(T, batch, {len(deployed.neurons)}): how many spikes each layer of neurons fired in a timestep",
        },
        "neurons": deployed.neurons,
    }
    if origin is not None:
        about["classes"] = origin.classes
        about["preprocessing"] = origin.preprocessing
    return about


def told(about: dict[str, Any], expected: Sequence[Tensor], found: Sequence[Tensor], where: str) -> dict[str, Any]:
    """``about``, and how far what ``where`` computes is from what the network gives for the same samples."""
    apart = {name: float((a - b).abs().max()) for name, a, b in zip(OUTPUTS, expected, found, strict=True)}
    steps = (expected[1] - found[1]).abs().amax((0, 2)) < CLOSE
    equal = int(steps.sum())
    line = (
        f"{where}: logits of {equal} of {len(steps)} samples equal up to rounding, at most {apart['logits']:.2g} apart"
    )
    if equal < len(steps):
        line += "; in the others rounding flips a spike"
    return {"interface": about, "apart": apart, "equal": equal, "of": len(steps), "lines": [line]}
