"""A network of whole numbers as a file holds it: weights of 8 bits, or two of 4 bits in a byte, all else of 32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spikefront.errors import UserError
from spikefront.nn.fixed.conversion import synapse
from spikefront.nn.fixed.whole_layers import WholeConv, WholeLinear, WholeNeuron
from spikefront.nn.inference import folded, replace


def stored(network: nn.Module, bits: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name, and what else ``restored`` must know, JSON-ready."""
    tensors: dict[str, Tensor] = {}
    about: dict[str, Any] = {"bits": bits, "layers": {}, "neurons": {}}
    for name, module in network.named_modules():
        if isinstance(module, WholeNeuron):
            about["neurons"][name] = module.constants_of()
            own = {"thresholds": module.thresholds, "drop": module.drop}
        elif isinstance(module, WholeConv | WholeLinear):
            about["layers"][name] = module.constants_of()
            whole = module.weight.to(torch.int8)
            tensors[f"{name}.weight"] = packed(whole) if bits == 4 else whole
            own = {"gain": module.gain, "offset": module.offset}
        else:
            continue
        tensors |= {f"{name}.{key}": value.to(torch.int32) for key, value in own.items() if value is not None}
    return tensors, about


def restored(model: nn.Module, tensors: Mapping[str, Tensor], about: Mapping[str, Any], where: str) -> nn.Module:
    """The network of whole numbers in the place of ``model``, which is of its configuration.

    Raises:
        UserError: the file is of another network.
    """
    network = folded(model).double()
    try:
        for name, settings in about["layers"].items():
            layer: Any = network.get_submodule(name)
            weight = tensors[f"{name}.weight"]
            shape = layer.weight.shape
            weight = (unpacked(weight)[: shape.numel()] if about["bits"] == 4 else weight).reshape(shape)
            replace(network, name, synapse(layer, weight, tensors[f"{name}.gain"], tensors[f"{name}.offset"], settings))
        for name, own in about["neurons"].items():
            neuron = WholeNeuron(tensors[f"{name}.thresholds"], drop=tensors.get(f"{name}.drop"), **own)
            replace(network, name, neuron)
    except (AttributeError, KeyError, RuntimeError, TypeError) as error:
        raise UserError(f"{where} is of another network: {' '.join(str(error).split())}") from error
    return network.eval().requires_grad_(False)


def packed(weight: Tensor) -> Tensor:
    """Two numbers of 4 bits, in two's complement, in each byte; the first of them in its lower half."""
    flat = nn.functional.pad(weight.flatten(), (0, weight.numel() % 2)).view(-1, 2).to(torch.int16) & 15
    return (flat[:, 0] | flat[:, 1] << 4).to(torch.uint8)


def unpacked(stored: Tensor) -> Tensor:
    """What ``packed`` took, flat, perhaps with a zero at its end."""
    halves = torch.stack([stored & 15, stored >> 4], 1).flatten().to(torch.int8)
    return torch.where(halves > 7, halves - 16, halves)
