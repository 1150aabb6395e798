"""What the neurons and the attention of a network do with one sample, as plain records for figures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from spikefront.energy.counts import LayerCount
from spikefront.nn.integers import are_counts, norms

UNITS = 48  # of each layer in the raster


def activity(model: nn.Module, sample: Tensor, layers: Iterable[LayerCount], units: int = UNITS) -> dict[str, Any]:
    """Run ``sample`` (``(1, C, H, W)`` or ``(1, T, C, H, W)``) and keep what fires.

    Args:
        layers: as ``EnergyMeter.counts`` gives them: which modules are neurons and which attention operators.
        units: how many of a layer's neurons to keep, evenly spaced over its channels and pixels.

    Returns:
        ``image``: the sample as ``(C, H, W)`` or frames ``(T, C, H, W)``.
        ``neurons``: ``{name, spikes, units}``, spikes ``(T, units)`` of the neurons numbered in ``units``.
        ``attention``: ``{name, maps, open}``. ``maps``: for each stream that enters the operator and for what
        ``leaves`` it, the firing rate at every patch, ``(H, W)``, mean over channels and timesteps. ``open``: the
        share of channels that a mask over channels lets through at each timestep, None for operators without one.
    """
    kinds = {layer.name: layer.kind for layer in layers}
    modules = dict(model.named_modules())
    neurons: list[dict[str, Any]] = []
    attention: list[dict[str, Any]] = []
    gates: dict[str, Tensor] = {}
    scales = norms(model)

    def fired(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], out: Tensor) -> None:
            spikes = out.detach().float()
            if _masks(spikes):
                gates[name] = spikes
            flat = spikes.reshape(spikes.shape[0], -1)
            chosen = torch.linspace(0, flat.shape[1] - 1, min(units, flat.shape[1])).long()
            neurons.append({"name": name, "spikes": flat[:, chosen].tolist(), "units": chosen.tolist()})

        return hook

    def attended(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], out: Tensor) -> None:
            streams = [a for a in args if isinstance(a, Tensor) and a.dim() == 5 and are_counts(a, scales)]
            parent = modules[name.rpartition(".")[0]]
            letters = getattr(parent, "streams", "")
            names = letters if len(letters) == len(streams) else [f"input {i + 1}" for i in range(len(streams))]
            maps = {n: _patches(s) for n, s in zip(names, streams, strict=True)}
            if streams:
                maps["leaves"] = _patches(out.reshape(*streams[0].shape[:2], -1, *streams[0].shape[3:]))
            inside = [s for gate, s in gates.items() if gate.startswith(name.rpartition(".")[0] + ".")]
            attention.append({"name": name, "maps": maps, "open": _open(inside[-1]) if inside else None})

        return hook

    hooks = []
    for name, kind in kinds.items():
        if kind == "neuron":
            hooks.append(modules[name].register_forward_hook(fired(name)))
        elif kind == "attention":
            hooks.append(modules[name].register_forward_hook(attended(name)))
    try:
        with torch.inference_mode():
            model.eval()(sample)
    finally:
        for hook in hooks:
            hook.remove()
    return {"image": sample[0].tolist(), "neurons": neurons, "attention": attention}


def _patches(spikes: Tensor) -> list[list[float]]:
    """``(T, 1, D, H, W)`` -> the rate at every patch ``(H, W)``."""
    return spikes.detach().float().mean((0, 1, 2)).tolist()


def _masks(spikes: Tensor) -> bool:
    return spikes.dim() == 5 and spikes.shape[3] == spikes.shape[4] == 1


def _open(mask: Tensor) -> list[float]:
    return (mask > 0).float().flatten(1).mean(1).tolist()
