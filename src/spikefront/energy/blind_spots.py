"""What the meter, or the papers' formula, leaves out of a network's energy, in joules."""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from spikefront.energy.costs import Paper
from spikefront.energy.counts import LayerCount
from spikefront.energy.layer import is_synapse
from spikefront.energy.meter import EnergyMeter
from spikefront.energy.survey import ARITHMETIC
from spikefront.nn.audits.finding import Finding, fails, holds
from spikefront.nn.audits.subject import Subject
from spikefront.nn.torch_internals import TorchDispatchMode
from spikefront.units import joules

ADD, MULTIPLY = 0.9e-12, 3.7e-12  # joules, 32 bits at 45 nm (Horowitz, ISSCC 2014)
SUMS = {"add", "sub", "mean", "sum", "cumsum", "_adaptive_avg_pool2d", "avg_pool2d"}
PRODUCTS = {name.rstrip("_") for name in ARITHMETIC} - SUMS


def blind_spots(subject: Subject) -> Finding:
    """Everything a forward pass computes, held against what the meter counts and the formula charges.

    By agreement the formula leaves out neurons' updates, shortcuts, biases and averages: their joules are given. The
    claim fails where there is more than that: products and functions that no convention charges, or multiply-
    accumulates outside any layer that the meter knows.
    """
    n = len(subject.batch)
    metered, model = (BatchFirst(copy.deepcopy(subject.lively), subject.time_first) for _ in range(2))
    meter = EnergyMeter(metered, subject.timesteps)
    whole, outside = _Integers(), _Outside(model)
    with torch.no_grad():
        with meter.recording():
            metered(subject.batch)
        counts = meter.counts()
        meter.remove()
        whole.watch(model, [layer for layer in counts if layer.kind == "spikes"])
        outside.skip(counts)
        with outside:
            model(subject.batch)
        whole.stop()
        outside.stop()
    cost = Paper()
    total = float(sum(cost.joules(layer).sum() for layer in counts))
    modules = dict(model.named_modules())
    biases = sum(
        layer.outputs * (1 if layer.static else layer.timesteps)
        for layer in counts
        if getattr(modules.get(layer.name), "bias", None) is not None
    )
    left_out = {
        "neurons' updates": (ADD + MULTIPLY) * sum(float(x.additions.sum()) for x in counts if x.kind == "neuron"),
        "biases": ADD * biases,
        "shortcuts and averages": ADD * sum(outside.sums.values()) / n,
        "sums of spikes taken as one spike": ADD * whole.surplus(counts),
        "products and functions": MULTIPLY * sum(outside.products.values()) / n,
    }
    unknown = [layer.name for layer in counts if layer.kind == "unclassified"]
    figures = {"charged": total, **left_out}
    said = ", ".join(f"{what} {joules(value)}" for what, value in left_out.items() if value)
    tried = "every operation of a pass held against the layers that the meter counts; joules a sample at 45 nm"
    why = f"of {joules(total)} charged by the paper's formula are left out: {said or 'nothing'}"
    if outside.products or unknown:
        kinds = list(outside.kinds.items())[:2]
        notes = [f"{', '.join(sorted(names))} in {_own(where) or 'the network'}" for where, names in kinds]
        places = [_own(name) for name in (*outside.products, *unknown)]
        return fails("blind_spots", tried, "; ".join([why, *notes]), places, figures=figures)
    return holds("blind_spots", tried, why, figures=figures)


class BatchFirst(nn.Module):
    """A network that takes ``(B, T, ...)`` whichever order its own is; the meter surveys it with one sample."""

    def __init__(self, network: nn.Module, time_first: bool) -> None:
        super().__init__()
        self.network, self.time_first = network, time_first

    def forward(self, x: Tensor) -> Any:
        return self.network(x.transpose(0, 1) if self.time_first and x.dim() == 5 else x)


def _own(name: str) -> str:
    """A module's name in the network that ``BatchFirst`` holds."""
    return name.removeprefix("network").lstrip(".")


class _Outside(TorchDispatchMode):
    """Elements of sums and products by the innermost module, outside of layers that are counted."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # PyTorch's
        self.model, self.stack, self.inside = model, [""], 0
        self.sums: dict[str, float] = defaultdict(float)
        self.products: dict[str, float] = defaultdict(float)
        self.kinds: dict[str, set[str]] = defaultdict(set)
        self.handles: list[Any] = []

    def skip(self, counts: list[LayerCount]) -> None:
        """Leave out what happens inside of layers with ``counts``, batch norms, and what folds away."""
        known = {layer.name for layer in counts}
        for name, module in self.model.named_modules():
            free = isinstance(module, nn.modules.batchnorm._BatchNorm) or getattr(module, "folds_away", False)
            counted = free or name in known or is_synapse(module)
            self.handles.append(module.register_forward_pre_hook(self._enter(name, counted)))
            self.handles.append(module.register_forward_hook(self._leave(counted)))

    def stop(self) -> None:
        for handle in self.handles:
            handle.remove()

    def _enter(self, name: str, counted: bool) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            self.stack.append(name)
            self.inside += counted

        return hook

    def _leave(self, counted: bool) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
            self.stack.pop()
            self.inside -= counted

        return hook

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__.rstrip("_")
        if not self.inside and isinstance(out, Tensor) and out.is_floating_point():
            elements = float(max([out.numel(), *(a.numel() for a in args if isinstance(a, Tensor))]))
            if name in SUMS:
                self.sums[self.stack[-1]] += elements
            elif name in PRODUCTS:
                self.products[self.stack[-1]] += elements
                self.kinds[self.stack[-1]].add(name)
        return out


class _Integers:
    """Of what enters layers that read spikes, the share that is not zero, beside its sum."""

    def __init__(self) -> None:
        self.once: dict[str, float] = {}
        self.handles: list[Any] = []

    def watch(self, model: nn.Module, layers: list[LayerCount]) -> None:
        modules = dict(model.named_modules())

        def see(name: str) -> Any:
            def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
                self.once[name] = float((args[0] != 0).double().mean())

            return hook

        self.handles = [modules[x.name].register_forward_pre_hook(see(x.name)) for x in layers if x.name in modules]

    def stop(self) -> None:
        for handle in self.handles:
            handle.remove()

    def surplus(self, counts: list[LayerCount]) -> float:
        """Additions beyond one for each value that is not zero, a sample."""
        layers = [x for x in counts if x.name in self.once]
        more = [(x.rate - self.once[x.name]) * x.potential * x.timesteps for x in layers]
        return sum(value for x, value in zip(layers, more, strict=True) if value > 1e-9 * x.potential)
