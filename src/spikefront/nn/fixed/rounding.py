"""How weights become whole numbers: one by one, or so that on typical inputs their sums lose least."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

POSITIONS = 8192  # of a layer's inputs, at least, that are looked at where there are as many
SAMPLES = 8  # at once
ELEMENTS = 2**25  # of a layer's inputs side by side
BLOCK = 128  # inputs whose losses are made up for among them first
DAMPING = 0.01


def rounded(weight: Tensor, scale: Tensor, most: int) -> Tensor:
    """Each weight of ``(out, in)`` over its output's scale, to the nearest whole number up to ``most``."""
    return (weight / scale[:, None]).round().clamp(-most, most)


def rounded_together(weight: Tensor, scale: Tensor, most: int, products: Tensor) -> Tensor:
    """The same an input after the other, what each loses being made up for by those after it.

    That keeps the outputs, not the weights, on inputs of these mean ``products`` (GPTQ, arXiv 2210.17323, section 3).
    """
    n = len(products)
    damped = products + torch.eye(n, dtype=products.dtype) * (DAMPING * products.diagonal().mean()).clamp_min(1e-12)
    upper = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
    left, out = weight.clone(), torch.empty_like(weight)
    for start in range(0, n, BLOCK):
        end = min(n, start + BLOCK)
        part, lost = left[:, start:end].clone(), weight.new_empty(len(weight), end - start)
        for i in range(end - start):
            row = upper[start + i, start:end]
            out[:, start + i] = (part[:, i] / scale).round().clamp(-most, most)
            lost[:, i] = (part[:, i] - out[:, start + i] * scale) / row[i]
            part[:, i:] -= lost[:, i, None] * row[i:]
        left[:, end:] -= lost @ upper[start:end, end:]
    return out


@torch.no_grad()
def products(network: nn.Module, names: list[str], batch: Tensor) -> dict[str, Tensor]:
    """Of each layer without groups the mean product of every two of its inputs ``(in taps, in taps)`` in ``batch``."""
    layers = {name: network.get_submodule(name) for name in names}
    sums: dict[str, tuple[Tensor, int]] = {}
    parts = batch.split(SAMPLES)

    def hook(name: str) -> Any:
        def keep(layer: Any, args: tuple[Tensor, ...]) -> None:
            rows = _rows(layer, args[0])
            rows = rows[:: max(1, len(rows) * len(parts) // POSITIONS)]
            total, n = sums.get(name, (0.0, 0))
            sums[name] = total + rows.T @ rows, n + len(rows)

        return keep

    handles = [
        layer.register_forward_pre_hook(hook(name))
        for name, layer in layers.items()
        if getattr(layer, "groups", 1) == 1
    ]
    try:
        for part in parts:
            network(part)
    finally:
        for handle in handles:
            handle.remove()
    return {name: total / n for name, (total, n) in sums.items()}


def _rows(layer: Any, x: Tensor) -> Tensor:
    """What a layer adds up for an output, a row each."""
    if not isinstance(layer, nn.Conv2d):
        return x.reshape(-1, x.shape[-1])
    frame = x[0].numel() * layer.kernel_size[0] * layer.kernel_size[1] // (layer.stride[0] * layer.stride[1])
    x = x[:: max(1, len(x) * frame // ELEMENTS)]
    sizes: Any = layer.kernel_size, layer.dilation, layer.padding, layer.stride
    sides = nn.functional.unfold(x, *sizes)
    return sides.transpose(1, 2).flatten(0, 1)
