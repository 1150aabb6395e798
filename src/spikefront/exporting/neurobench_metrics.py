"""NeuroBench's metrics of a network, under its own names, beside ours (Yik et al. 2025, arXiv 2304.04640).

Counted here by the rules of its package, version 2.3.0, which isn't needed for it; docs/deploy.md says how they differ
from ours.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikefront.energy import EnergyReport, measure_energy
from spikefront.energy.survey import evaluating
from spikefront.files import write_atomically
from spikefront.nn.layers import over_frames, shown
from spikefront.nn.neurons import IF, LIF, PLIF, Activation

FILE = "neurobench.json"
CONNECTIONS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
FUNCTIONS = (nn.ReLU, nn.Sigmoid, Activation)
STEPPED = (LIF, IF, PLIF)  # whose membrane potentials are followed


def write(
    model: nn.Module, sample: Tensor, directory: Path, *, origin: Any = None, samples: int = 64
) -> dict[str, Any]:
    """Measure ``model``, as it is, on a batch, and write ``neurobench.json``.

    Args:
        sample: ``(B, C, H, W)`` images or ``(B, T, C, H, W)`` events.
        origin: of what is exported, ``origin.Origin``: then the first ``samples`` of its test part are measured.

    Returns:
        ``neurobench``: what its ``Benchmark.run`` would return (operations and updates a sample, footprint in bytes);
        ``spikefront``: our counts of the same batch, a sample, and joules; ``samples``; ``notes``.

    Raises:
        UserError: an empty batch, weights or inputs that aren't finite.
    """
    if origin is not None:
        sample = origin.sample(samples)
    report = measure_energy(model, sample)
    notes: list[str] = []
    found: dict[str, Any] = {
        "neurobench": {**static(model), **workload(model, sample, report, notes)},
        "spikefront": ours(report),
        "samples": len(sample),
        "notes": [*notes, *report.notes],
    }
    write_atomically(directory / FILE, json.dumps(found, indent=2) + "\n")
    measured: Any = found["neurobench"]
    return {**found, "lines": [f"of {len(sample)} samples", *(f"{k:<20} {v}" for k, v in measured.items())]}


def static(model: nn.Module) -> dict[str, Any]:
    """What needs no data: ``Footprint``, ``ParameterCount`` and ``ConnectionSparsity``, of parameters used or not."""
    stored = [*model.parameters(), *model.buffers()]
    weights = [m.weight for m in model.modules() if isinstance(m, CONNECTIONS)]
    zeros = sum(int((w == 0).sum()) for w in weights)
    return {
        "Footprint": sum(t.numel() * t.element_size() for t in stored),
        "ParameterCount": sum(p.numel() for p in model.parameters()),
        "ConnectionSparsity": round(zeros / max(sum(w.numel() for w in weights), 1), 4),
    }


def workload(model: nn.Module, sample: Tensor, report: EnergyReport, notes: list[str]) -> dict[str, Any]:
    """What one pass of ``sample`` shows; ``report``, of our meter, knows which modules are neurons."""
    firing = {layer.name for layer in report.layers if layer.kind == "neuron"}
    operations = {"Effective_MACs": 0, "Effective_ACs": 0, "Dense": 0}
    silent = values = updates = 0
    unknown: set[str] = set()

    def connection(layer: Any, args: tuple[Tensor, ...]) -> None:
        effective, dense, spiking = synaptic_operations(layer, args[0])
        operations["Effective_ACs" if spiking else "Effective_MACs"] += effective
        operations["Dense"] += dense

    def activation(module: nn.Module, args: tuple[Any, ...], out: Tensor) -> None:
        nonlocal silent, values, updates
        silent, values = silent + int((out == 0).sum()), values + out.numel()
        if isinstance(module, STEPPED):
            updates += membrane_updates(module, *args)
        elif not isinstance(module, FUNCTIONS):
            updates += out.numel()
            unknown.add(type(module).__name__)

    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, CONNECTIONS):
            hooks.append(module.register_forward_pre_hook(connection))
        elif name in firing or isinstance(module, FUNCTIONS):
            hooks.append(module.register_forward_hook(activation))
    with evaluating(model), torch.inference_mode():
        model(sample)
    for hook in hooks:
        hook.remove()
    notes += [f"MembraneUpdates: every step of every {name} is counted as one" for name in sorted(unknown)]
    return {
        "ActivationSparsity": silent / values if values else 0.0,
        "SynapticOperations": {name: count / len(sample) for name, count in operations.items()},
        "MembraneUpdates": updates / len(sample),
    }


def synaptic_operations(layer: Any, x: Tensor) -> tuple[int, int, bool]:
    """Operations that an input makes a layer do, those with no zero left out, and whether it is 0, 1 and -1 alone.

    Effective are those of which neither the input nor the weight is 0; those of padding are in neither. Biases are
    free. As all is linear, frames are summed before they are counted.
    """
    spiking = bool(((x == 0) | (x.abs() == 1)).all())
    inner = 1 if isinstance(layer, nn.Linear) else layer.weight.dim() - 1
    frames = x.reshape(-1, *x.shape[x.dim() - inner :])
    if inner == 1:
        apply: Any = F.linear
    else:
        settings = {k: getattr(layer, k) for k in ("stride", "padding", "dilation", "groups")}
        apply = partial(CONVOLUTIONS[inner - 2], **settings)
    fired, weight = (frames != 0).sum(0, keepdim=True).double(), (layer.weight != 0).double()
    dense = apply(torch.ones_like(fired), torch.ones_like(weight)).sum() * len(frames)
    return int(apply(fired, weight).sum()), int(dense), spiking


def membrane_updates(neuron: Any, x: Tensor, norm: nn.Module | None = None, timesteps: int | None = None) -> int:
    """How often a potential was another after a step, its reset included, than before; at the first step all count."""
    x = shown(x if norm is None else over_frames(x, norm), timesteps)
    gain, leak = neuron.gain_and_leak()
    leak = 1 - gain if leak is None else leak
    h = gain * x[0]
    v, updates = neuron.after(h, (h >= neuron.threshold).to(h.dtype), neuron.threshold), x[0].numel()
    for current in x[1:]:
        h = leak * v + gain * current
        after = neuron.after(h, (h >= neuron.threshold).to(h.dtype), neuron.threshold)
        updates += int((after != v).sum())
        v = after
    return updates


def ours(report: EnergyReport) -> dict[str, Any]:
    """The same, a sample, as our meter counts: an attention's additions too, and every step of every neuron."""
    counted = {
        kind: [x for x in report.layers if x.kind == kind] for kind in ("analog", "spikes", "attention", "neuron")
    }
    synapses = counted["analog"] + counted["spikes"]
    return {
        "multiply_accumulates": sum(x.potential * x.timesteps for x in counted["analog"]),
        "additions": sum(float(x.additions.sum()) for x in counted["spikes"]),
        "attention_additions": sum(float(x.additions.sum()) for x in counted["attention"]),
        "dense_operations": sum(x.potential * x.timesteps for x in synapses),
        "neuron_updates": sum(float(x.additions.sum()) for x in counted["neuron"]),
        "firing_rate": report.firing_rate,
        "joules": report.total_joules,
        "convention": report.convention,
    }
