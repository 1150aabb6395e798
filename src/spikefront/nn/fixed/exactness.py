"""What a network of whole numbers computes, computed once more with integers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikefront.nn.fixed.whole_layers import WholeConv, WholeLinear, WholeNeuron


@dataclass
class Exactness:
    """How many layers gave what integer arithmetic gives, of how many, and how many bits their largest number has."""

    equal: int
    of: int
    bits: int


@torch.no_grad()
def exactness(network: nn.Module, batch: Tensor) -> Exactness:
    """Run ``batch`` through a network of whole numbers, and every layer of it again in int64, number by number."""
    found = Exactness(0, 0, 0)

    def hook(layer: Any, args: tuple[Any, ...], out: Tensor) -> None:
        if isinstance(layer, WholeNeuron):
            x = args[0] if layer.step == 1 else (args[0] / layer.step).round()
            again = layer.fired(x.long())
            largest = max(float(x.abs().max()) * 2, float(layer.thresholds.abs().max()))
            expected = out
        else:
            x = layer.whole(args[0])
            total = summed(layer, x.long())
            again = _scaled(layer, total)
            largest = max(float(total.abs().max()), float(again.abs().max()))
            expected = out if layer.unit is None else out / layer.unit
        found.of += 1
        found.equal += bool((x == x.round()).all()) and torch.equal(again.double(), expected.round())
        found.bits = max(found.bits, math.ceil(math.log2(largest + 1)) + 1)

    layers = [m for m in network.modules() if isinstance(m, WholeConv | WholeLinear | WholeNeuron)]
    handles = [m.register_forward_hook(hook) for m in layers]
    try:
        network(batch.double())
    finally:
        for handle in handles:
            handle.remove()
    return found


def summed(layer: Any, x: Tensor) -> Tensor:
    """The sums of a layer in the integer type of ``x``."""
    weight = layer.weight.to(x.dtype)
    if isinstance(layer, WholeLinear):
        return x @ weight.T
    (kh, kw), (sh, sw), (ph, pw) = layer.kernel_size, layer.stride, layer.padding
    windows = F.pad(x, (pw, pw, ph, ph)).unfold(2, kh, sh).unfold(3, kw, sw)  # (N, C, H, W, kh, kw)
    n, _, h, w = windows.shape[:4]
    parts = windows.unflatten(1, (layer.groups, -1)).permute(1, 0, 3, 4, 2, 5, 6).reshape(layer.groups, n * h * w, -1)
    out = parts @ weight.reshape(layer.groups, len(weight) // layer.groups, -1).transpose(1, 2)
    return out.view(layer.groups, n, h, w, -1).permute(1, 0, 4, 2, 3).reshape(n, len(weight), h, w)


def _scaled(layer: Any, total: Tensor) -> Tensor:
    shape = (-1,) if isinstance(layer, WholeLinear) else (-1, 1, 1)
    return total * layer.gain.to(total.dtype).view(shape) + layer.offset.to(total.dtype).view(shape)
