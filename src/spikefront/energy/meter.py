"""The meter: counts operations from shapes, once, and spikes from the forward passes that run anyway."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikefront.energy.costs import CostModel, Paper
from spikefront.energy.counts import LayerCount
from spikefront.energy.layer import Layer
from spikefront.energy.report import EnergyReport
from spikefront.energy.survey import Survey, looking, survey
from spikefront.energy.values import all_whole, is_binary
from spikefront.errors import UserError

COUNTED = ("synapse", "pool", "attention")


class EnergyMeter:
    """Counts the spikes that enter every convolution, linear layer, max-pool and attention operator of a network.

    Which layers there are is found at the first recorded pass (``survey``). From then on a layer costs a few reductions
    of its input a pass; nothing waits for a GPU. Counting happens only inside ``recording()``. Counts are exact: sums
    of whole numbers in float32 over one channel of one frame, and in float64 beyond.

    A layer that reads the network's input, or any value that is not a whole number, is *analog*; an integer spike of
    value n or -n counts as n additions (I-LIF, arXiv 2407.20708), also where a neuron divides it by its ``norm``.

    Args:
        model: any module whose spiking tensors have the timesteps in front, flattened with the batch or not.
        timesteps: T, by default ``model.timesteps``.
        per_sample: also keep each sample's additions at each timestep, which early stopping needs.
    """

    def __init__(self, model: nn.Module, timesteps: int | None = None, per_sample: bool = False) -> None:
        self.model, self.per_sample = model, per_sample
        self.timesteps = int(timesteps if timesteps is not None else model.timesteps)  # type: ignore[arg-type]
        self._survey: Survey | None = None
        self._shape: tuple[int, ...] = ()
        self._recording = self._inside = False
        self._stance: Any = None
        self.reset()
        self._hooks = [model.register_forward_pre_hook(self._enter), model.register_forward_hook(self._leave)]
        self._on_layers: list[Any] = []

    @property
    def notes(self) -> list[str]:
        """What could not be classified, a line each; empty before the first pass."""
        return self._survey.notes if self._survey else []

    def reset(self) -> None:
        """Forget everything counted."""
        self.samples = 0
        self._sums: dict[str, Tensor] = {}
        self._whole: dict[str, Tensor] = {}
        self._each: dict[str, list[Tensor]] = {}
        self._last: tuple[Tensor, tuple[Tensor, Tensor]] | None = None

    def remove(self) -> None:
        """Take the hooks off the model."""
        for hook in (*self._hooks, *self._on_layers):
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
        """Count from here on. Compiled networks run eagerly until ``stop``, so that what is counted is what ran."""
        self._recording = True
        if "torch._dynamo" in sys.modules and self._stance is None:
            self._stance = torch.compiler.set_stance("force_eager")
            self._stance.__enter__()
        if self._survey is not None:
            self._watch()

    def stop(self) -> None:
        """Stop counting; what was counted stays."""
        self._recording = False
        while self._on_layers:  # layers that nobody watches may be fused
            self._on_layers.pop().remove()
        if self._stance is not None:
            self._stance.__exit__(None, None, None)
            self._stance = None

    def survey(self, example: Tensor) -> Survey:
        """Find the layers with one sample of ``example``; done at the first recorded pass if not before."""
        self._survey, self._shape = survey(self.model, example, self.timesteps), tuple(example.shape[1:])
        self._watch()
        return self._survey

    def _watch(self) -> None:
        if self._on_layers or self._survey is None or not self._recording:
            return
        modules = dict(self.model.named_modules())
        for name, layer in self._survey.layers.items():
            if layer.kind in COUNTED:
                hook = self._operator(layer) if layer.kind == "attention" else self._spikes(layer)
                self._on_layers.append(modules[name].register_forward_pre_hook(hook))

    def _enter(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if not self._recording or looking():
            return
        if self._survey is None:
            self.survey(args[0])
        elif tuple(args[0].shape[1:]) != self._shape:
            raise UserError(
                f"the energy meter counted samples of shape {self._shape} and now sees {tuple(args[0].shape[1:])}:"
                " measure each resolution with a meter of its own"
            )
        self._inside = True  # a recomputation in the backward pass (activation checkpointing) is outside
        self.samples += args[0].shape[0]

    def _leave(self, module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        if not looking():
            self._inside, self._last = False, None

    def _spikes(self, layer: Layer) -> Any:
        steps = 1 if layer.static else self.timesteps

        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            if self._inside and not looking():
                sums, whole = self._per_frame(args[0].detach(), layer)
                self._add(layer.name, sums.view(steps, -1, self._channels(layer)), whole)

        return hook

    @staticmethod
    def _channels(layer: Layer) -> int:
        return layer.input_shape[-1 if layer.channels_last else 0]

    def _per_frame(self, x: Tensor, layer: Layer) -> tuple[Tensor, Tensor]:
        """Magnitudes summed over space, ``(frames, channels)``, and whether all values are whole numbers.

        Query, key and value read the same tensor, which is summed once.
        """
        last, read = self._last, x
        if layer.shares and last is not None and last[0].data_ptr() == x.data_ptr() and last[0].shape == x.shape:
            return last[1]
        x = layer.spikes(x)
        binary = x.is_cpu and is_binary(x)
        whole = torch.ones((), dtype=torch.bool) if binary else all_whole(x)
        magnitudes = x if binary else x.abs()
        space = range(layer.lead, x.dim() - 1) if layer.channels_last else range(layer.lead + 1, x.dim())
        sums = magnitudes.sum(tuple(space), dtype=torch.float32) if len(space) else magnitudes.float()
        self._last = (read, (sums, whole))
        return sums, whole

    def _operator(self, layer: Layer) -> Any:
        def hook(module: Any, args: tuple[Any, ...]) -> None:
            if self._inside and not looking():
                streams = [layer.spikes(a.detach()) if isinstance(a, Tensor) else a for a in args]
                done, _ = module.operations(*streams)
                self._add(layer.name, done.unsqueeze(-1))

        return hook

    def _add(self, name: str, counts: Tensor, whole: Tensor | None = None) -> None:
        """``counts``: ``(T, B, channels)``; ``whole``: whether they are of whole numbers."""
        if whole is not None:
            self._whole[name] = self._whole[name] & whole if name in self._whole else whole
        total = counts.sum(1, dtype=torch.float64)
        if name in self._sums:
            self._sums[name] += total
        else:
            self._sums[name] = total
        if self.per_sample:
            self._each.setdefault(name, []).append(counts.sum(2, dtype=torch.float64).cpu())

    def gather(self) -> None:
        """Sum the counts over all processes of a distributed run; every process then has the whole."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return
        sums, whole = ({name: value.cpu() for name, value in found.items()} for found in (self._sums, self._whole))
        parts: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, (self.samples, sums, whole, self._survey, self._each))
        self.reset()
        for samples, sums, whole, found, each in parts:
            self.samples += samples
            self._survey = self._survey or found
            for name, counts in sums.items():
                self._sums[name] = self._sums[name] + counts if name in self._sums else counts
            for name, judged in whole.items():
                self._whole[name] = self._whole[name] & judged if name in self._whole else judged
            for name, batches in each.items():
                self._each.setdefault(name, []).extend(batches)

    def report(self, cost: CostModel | None = None) -> EnergyReport:
        """What was counted since the last reset, a sample.

        Raises:
            UserError: nothing was recorded, or NaN reached a layer.
        """
        return EnergyReport(self.counts(), cost or Paper(), self.samples, self.notes)

    def counts(self) -> list[LayerCount]:
        """The counts alone, a sample. Raises as ``report``."""
        if not self.samples or self._survey is None:
            raise UserError("no samples were measured: the energy meter saw no forward pass")
        layers = self._survey.layers.values()
        whole = {name: bool(judged) for name, judged in self._whole.items()}
        return [count(x, self._sums.get(x.name), self.samples, self.timesteps, whole.get(x.name, True)) for x in layers]

    def sample_counts(self) -> list[LayerCount]:
        """As ``counts``, with spikes and additions of every sample: ``(T, samples)``. Needs ``per_sample``."""
        each = {n: torch.cat(batches, 1).numpy() for n, batches in self._each.items()}
        shape = (self.timesteps, self.samples)
        return [layer.with_spikes(np.broadcast_to(each.get(layer.name, 0.0), shape)) for layer in self.counts()]


def count(layer: Layer, sums: Tensor | None, samples: int, timesteps: int, whole: bool = True) -> LayerCount:
    """A layer's counts a sample from ``sums`` ``(T, channels)`` over all; without sums, as if everything fired.

    Args:
        whole: whether what was summed are whole numbers.
    """
    shares = {"dead": 0.0, "saturated": 0.0}
    if sums is None:
        full = layer.potential if layer.kind == "attention" else layer.inputs or layer.potential
        spikes = np.full(timesteps, full)
    else:
        channels = sums.cpu().numpy() / samples
        if not np.isfinite(channels).all():
            raise UserError(f"NaN or infinite values reached {layer.name}: are the weights and inputs finite?")
        spikes = np.broadcast_to(channels.sum(1), (timesteps,)).copy()
        if layer.kind == "synapse":
            rates = channels.mean(0) / (layer.inputs / channels.shape[1])
            shares = {"dead": float((rates == 0).mean()), "saturated": float((rates >= 1).mean())}
    kind = layer.kind
    if kind == "synapse":
        kind = "analog" if layer.first or not whole else "spikes"
    elif kind == "attention" and layer.analog:
        kind = "analog"
    elif kind == "pool" and not whole:  # membrane potentials: every comparison happens
        spikes = np.full(timesteps, layer.inputs)
    if kind != "spikes":
        shares = {"dead": 0.0, "saturated": 0.0}
    ceiling = layer.potential if kind == "attention" else layer.inputs or layer.potential
    return LayerCount(
        name=layer.name,
        group=layer.group,
        kind=kind,
        input_shape=layer.input_shape,
        potential=layer.potential,
        ceiling=ceiling,
        spikes=spikes,
        inputs=layer.inputs,
        outputs=layer.outputs,
        parameters=layer.parameters,
        static=layer.static,
        tokens=layer.tokens,
        width=layer.width,
        levels=layer.levels,
        chunk=layer.chunk,
        **shares,
    )


def measure_energy(model: nn.Module, batch: Tensor, cost: CostModel | None = None) -> EnergyReport:
    """Run ``batch`` (``(B, C, H, W)`` images or ``(B, T, C, H, W)`` events) through ``model`` and count its energy.

    The model is evaluated in inference mode and left as it was. Joules are a sample, by default under the papers'
    convention.

    Raises:
        UserError: an empty batch, weights or inputs that aren't finite.
    """
    if len(batch) == 0:
        raise UserError("no samples: the batch to measure energy on is empty")
    check_finite(model)
    modes, meter = {m: m.training for m in model.modules()}, EnergyMeter(model)
    try:
        with torch.inference_mode(), meter.recording():
            model.eval()(batch)
    finally:
        for module, training in modes.items():
            module.training = training
        meter.remove()
    return meter.report(cost)


def check_finite(model: nn.Module) -> None:
    """Raise UserError for NaN or infinite weights: neurons turn them into silence, which looks cheap."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.detach().sum(dtype=torch.float64))):
            raise UserError(f"weight {name} holds NaN or infinite values: the network can't be measured")
