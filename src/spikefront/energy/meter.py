"""The meter: counts operations from shapes and spikes from forward passes that run anyway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from spikefront.energy.costs import CostModel, Paper
from spikefront.energy.report import EnergyReport, LayerCount
from spikefront.errors import UserError

SYNAPSES = (nn.Conv1d, nn.Conv2d, nn.Linear)
GROUPS = {
    "patch_embed": "embedding",
    "attn.op": "attention operator",
    "attn": "attention projections",
    "mlp": "mlp",
    "head": "head",
}


@dataclass
class _Tally:
    """Sums over samples, on the device, of one layer; ``(T,)`` each."""

    kind: str
    input_shape: tuple[int, ...]
    static: bool
    potential: float = 0.0  # sum over samples of operations a timestep
    spikes: Tensor | None = None
    elements: float = 0.0  # sum over samples of inputs a timestep
    additions: Tensor | None = None

    def add(self, spikes: Tensor, elements: float, additions: Tensor, potential: float) -> None:
        self.spikes = spikes if self.spikes is None else self.spikes + spikes
        self.additions = additions if self.additions is None else self.additions + additions
        self.elements += elements
        self.potential += potential


class EnergyMeter:
    """Hooks every convolution, linear layer, max-pool and attention operator of a spiking network.

    Counting happens only inside ``recording()``, in the passes that run there; outside it a hook is one ``if``.
    A layer's input is *analog* if it is the network's first layer or holds anything but whole numbers, else spikes; an
    integer spike of value n counts as n additions (arXiv 2407.20708, section 4.2).

    Args:
        model: any module whose spiking tensors have the timesteps in front, flattened with the batch or not.
        timesteps: T, by default ``model.timesteps``.
    """

    def __init__(self, model: nn.Module, timesteps: int | None = None) -> None:
        self.timesteps = int(timesteps if timesteps is not None else model.timesteps)  # type: ignore[arg-type]
        self._recording = False
        self._batch = 0
        self._first = ""
        self.reset()
        self._hooks = [model.register_forward_pre_hook(self._enter)]
        for name, module in model.named_modules():
            if isinstance(module, SYNAPSES):
                hook = self._synapse(name)
            elif isinstance(module, nn.MaxPool2d):
                hook = self._pool(name)
            elif hasattr(module, "operations"):
                hook = self._operator(name)
            else:
                continue
            self._hooks.append(module.register_forward_hook(hook))

    def reset(self) -> None:
        """Forget everything counted."""
        self._tallies: dict[str, _Tally] = {}
        self.samples = 0

    def remove(self) -> None:
        """Take the hooks off the model."""
        for hook in self._hooks:
            hook.remove()

    @contextmanager
    def recording(self) -> Iterator[EnergyMeter]:
        """Count in the forward passes inside this context."""
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def start(self) -> None:
        """Count from here on."""
        self._recording = True

    def stop(self) -> None:
        """Stop counting; what was counted stays."""
        self._recording = False

    def _enter(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if self._recording:
            self._batch = args[0].shape[0]
            self.samples += self._batch
            self._first = ""

    def _count(self, x: Tensor) -> tuple[Tensor, int]:
        """Spikes a timestep ``(T,)`` summed over the batch, and whether the input was one static frame."""
        static = x.shape[0] == self._batch and x.numel() // x.shape[0] and self.timesteps > 1 and x.dim() == 4
        frames = 1 if static else self.timesteps
        a_frame = x.detach().reshape(frames * self._batch, -1).sum(-1, dtype=torch.float32)  # exact below 2^24 spikes
        spikes = a_frame.double().view(frames, self._batch).sum(1)
        return spikes.expand(self.timesteps), static

    def _tally(self, name: str, kind: str, x: Tensor, static: bool) -> _Tally:
        if name not in self._tallies:
            shape = tuple(x.shape[1:] if x.dim() == 4 else x.shape[2:])
            self._tallies[name] = _Tally(kind, shape, static)
        return self._tallies[name]

    def _synapse(self, name: str) -> Any:
        def hook(module: Any, args: tuple[Tensor, ...], out: Tensor) -> None:
            if not self._recording:
                return
            x = args[0].detach()
            spikes, static = self._count(x)
            frames = self._batch * (1 if static else self.timesteps)
            potential = out.numel() / frames * prod(module.weight.shape[1:])
            if name not in self._tallies:
                analog = self._first in ("", name) or not bool((x == x.round()).all())
                self._tally(name, "analog" if analog else "spikes", x, bool(static))
            self._first = self._first or name
            elements = x.numel() / frames
            self._tallies[name].add(
                spikes, elements * self._batch, spikes / elements * potential, potential * self._batch
            )

        return hook

    def _pool(self, name: str) -> Any:
        def hook(module: nn.MaxPool2d, args: tuple[Tensor, ...], out: Tensor) -> None:
            if not self._recording:
                return
            x = args[0]
            spikes, static = self._count(x)
            frames = self._batch * self.timesteps
            window = module.kernel_size if isinstance(module.kernel_size, tuple) else (module.kernel_size,) * 2
            potential, elements = out.numel() / frames * prod(window), x.numel() / frames
            if not bool((x == x.round()).all()):  # membrane potentials: every comparison happens
                spikes = torch.full_like(spikes, elements * self._batch)
            tally = self._tally(name, "pool", x, bool(static))
            tally.add(spikes, elements * self._batch, spikes / elements * potential, potential * self._batch)

        return hook

    def _operator(self, name: str) -> Any:
        def hook(module: Any, args: tuple[Any, ...], out: Tensor) -> None:
            if not self._recording:
                return
            done, potential = module.operations(*args)
            additions = done.detach().double().sum(1)
            tally = self._tally(name, "attention", args[0], False)
            tally.add(additions, potential * self._batch, additions, potential * self._batch)

        return hook

    def report(self, cost: CostModel | None = None) -> EnergyReport:
        """What was counted since the last reset, a sample.

        Raises:
            UserError: nothing was recorded.
        """
        if not self.samples:
            raise UserError("no samples were measured: the energy meter saw no forward pass")
        layers = []
        for name, t in self._tallies.items():
            assert t.spikes is not None and t.additions is not None
            rates = (t.spikes / t.elements).tolist()
            additions = (t.additions / self.samples).tolist()
            potential = t.potential / self.samples
            layers.append(
                LayerCount(
                    name, _group(name), t.kind, t.input_shape, potential, tuple(rates), tuple(additions), t.static
                )
            )
        return EnergyReport(layers, cost or Paper(), self.samples)


def measure_energy(model: nn.Module, batch: Tensor, cost: CostModel | None = None) -> EnergyReport:
    """Run ``batch`` (``(B, C, H, W)`` images or ``(B, T, C, H, W)`` events) through ``model`` and count its energy.

    The model is evaluated in inference mode and left as it was. Joules are a sample, by default under the papers'
    convention.

    Raises:
        UserError: an empty batch.
    """
    if len(batch) == 0:
        raise UserError("no samples: the batch to measure energy on is empty")
    training, meter = model.training, EnergyMeter(model)
    try:
        with torch.inference_mode(), meter.recording():
            model.eval()(batch)
    finally:
        model.train(training)
        meter.remove()
    return meter.report(cost)


def _group(name: str) -> str:
    parts = [p for p in name.split(".") if not p.isdigit() and p != "block"]
    path = ".".join(parts)
    for prefix, group in GROUPS.items():
        if path == prefix or path.startswith(prefix + "."):
            return group
    return parts[0] if parts else name
