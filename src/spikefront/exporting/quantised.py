"""A network in whole numbers, for chips without floats: weights of 8 or 4 bits, integer membranes and thresholds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from torch import Tensor, nn

from spikefront.config import CONF
from spikefront.errors import UserError
from spikefront.exporting.bundle import described, put
from spikefront.exporting.origin import Figures, Origin
from spikefront.nn.fixed.conversion import in_whole_numbers
from spikefront.nn.fixed.exactness import exactness
from spikefront.nn.fixed.keeping import stored
from spikefront.units import joules

CHIP = "chip_8bit"
FLOAT_BITS = 32


def write(
    model: nn.Module, sample: Tensor, directory: Path, *, origin: Origin, format: str, calibration: int = 64
) -> dict[str, Any]:
    """A bundle of integers, which ``spikefront.from_pretrained`` reads; its figures beside those of floats.

    Args:
        calibration: how many samples of the training part say which values the network's input takes.

    Raises:
        UserError: no data, or a network that whole numbers can't express.
    """
    if not origin.measured:
        raise UserError(f"measure=false: format={format} needs samples, to know which values the input takes")
    if not isinstance(calibration, int) or calibration < 1:
        raise UserError(f"options.calibration={calibration}: give a whole number of at least 1")
    bits = int(format.removeprefix("int"))
    network = in_whole_numbers(model, origin.training(calibration), bits)
    exact = exactness(network, sample[:2])
    figures = {"float": origin.figures(model, chip(FLOAT_BITS)), format: origin.figures(network, chip(bits))}
    tensors, integers = stored(network, bits)
    about = described(origin, figures[format].to_dict())
    put(directory, tensors, {**about, "integers": integers, "energy": chip(bits)})
    line = f"{exact.equal} of {exact.of} layers give in integer arithmetic what they give here; {exact.bits}-bit sums"
    return {
        "bits": bits,
        "figures": {name: found.to_dict() for name, found in figures.items()},
        "exact": vars(exact),
        "lines": [*table(figures), line],
    }


def chip(weight_bits: int) -> dict[str, Any]:
    """The configuration of ``chip_8bit`` with weights of so many bits."""
    node: Any = OmegaConf.to_container(OmegaConf.load(CONF / "energy" / f"{CHIP}.yaml"))
    return {**node, "weight_bits": weight_bits}


def table(figures: dict[str, Figures]) -> list[str]:
    """A line a network: accuracy on both parts, and energy under which convention."""
    lines = [f"{'':<7}{'validation':>11}{'test':>9}{'energy':>11}   convention"]
    for name, found in figures.items():
        spent = joules(found.test.energy_joules)
        accuracies = f"{found.validation.accuracy:>11.4f}{found.test.accuracy:>9.4f}"
        lines.append(f"{name:<7}{accuracies}{spent:>11}   {found.convention}")
    return lines
