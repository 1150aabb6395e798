"""Neurons that fire several spikes at once: whole numbers, each of which is as many additions after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from spikefront.errors import UserError
from spikefront.nn import kernels
from spikefront.nn.kernels import gpu
from spikefront.nn.layers import over_frames, shown
from spikefront.nn.neurons import SpikingNeuron, Step


class ILIF(SpikingNeuron):
    """Integer LIF: up to ``levels`` spikes at once, binary over as many virtual steps (arXiv 2407.20708).

    ``h = leak v + x``, ``s = clip(round(h), 0, levels)``, ``v = h - s``; the published gradient is 1 between the first
    and the last level, which ``surrogate=rectangle`` of width 1 gives. ``threshold`` is the potential of one spike.
    """

    def __init__(self, levels: int = 4, leak: float = 0.25, reset: str = "soft", **kwargs: Any) -> None:
        super().__init__(reset=reset, **kwargs)
        if levels < 1:
            raise UserError(f"neuron.levels is {levels}: an integer neuron needs at least 1")
        self.levels, self.leak = int(levels), float(leak)

    def forward(self, x: Tensor) -> Tensor:
        v, spikes = torch.zeros_like(x[0]), []
        for current in x:
            h = self.leak * v + current
            s: Tensor = Step.apply(h / self.threshold - 0.5, self.surrogate, self.levels)
            v = self.after(h, s, self.threshold)
            spikes.append(s)
        return torch.stack(spikes)


class Quantise(torch.autograd.Function):
    """Whole spikes of a potential between 0 and ``levels``, divided by ``norm``; backward: 1 where it is in that range.

    ``up`` rounds halves up, else to even; ``closed`` counts the ends as in the range.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, levels: int, norm: float, up: bool, closed: bool) -> Tensor:
        clamped = u.clamp(0, levels)
        inside = clamped == u
        if not closed:
            inside &= (u > 0) & (u < levels)
        ctx.save_for_backward(inside)
        ctx.norm = norm
        return rounded_(clamped, norm, up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (inside,) = ctx.saved_tensors
        return (grads[0] * inside).div_(ctx.norm), None, None, None, None


def rounded_(u: Tensor, norm: float, up: bool) -> Tensor:
    """Whole numbers over ``norm``, in the memory of ``u``: whoever follows that still knows spikes by it."""
    out = u.add_(0.5).floor_() if up else u.round_()
    return out if norm == 1 else out.div_(norm)


class Integer(SpikingNeuron):
    """E-SpikeFormer's neuron: ``clip(round(x), 0, levels) / norm``, without memory (arXiv 2411.16061, section 3.1).

    k levels are k binary spikes in as many virtual steps: layers after it add a weight k times. Its state never passes
    from one step to the next.

    Args:
        levels: D, the most spikes at once. ``threshold`` is the potential of one.
        norm: what the count is divided by, None: ``levels``; it folds into the weights that read it.
        rounding: of halves, ``even`` (the published 5 to 19 M) or ``up`` (83 and 171 M).
        gradient: where it is 1: on the ``closed`` range from 0 to ``levels``, or the ``open`` one. As published with
            the two roundings.

    ``forward``: ``(T, ...)`` -> spikes of the same shape and dtype; ``norm``, ``timesteps`` and ``over`` as LIF takes
    them.
    """

    fuses = writes_over = True

    def __init__(
        self,
        levels: int = 4,
        norm: float | None = None,
        rounding: str = "even",
        gradient: str = "closed",
        threshold: float = 1.0,
    ) -> None:
        super().__init__(threshold)
        if levels < 1:
            raise UserError(f"neuron.levels is {levels}: an integer neuron needs at least 1")
        for name, value, known in (
            ("rounding", rounding, ("even", "up")),
            ("gradient", gradient, ("closed", "open")),
        ):
            if value not in known:
                raise UserError(f"neuron.{name} is {value!r}: use {known[0]!r} or {known[1]!r}")
        if norm is not None and not norm > 0:
            raise UserError(f"neuron.norm is {norm}: it must be above 0")
        self.levels, self.norm = int(levels), float(norm or levels)
        self.rounding, self.gradient = rounding, gradient

    def forward(self, x: Tensor, norm: Any = None, timesteps: int | None = None, over: bool = False) -> Tensor:
        up, closed = self.rounding == "up", self.gradient == "closed"
        if self.levels <= kernels.MOST_LEVELS and kernels.usable(x) and (norm is None or kernels.normalises(norm)):
            spikes = kernels.fire_levels(x, norm, self.threshold, self.levels, self.norm, up, closed, over)
            return shown(spikes, timesteps)
        if norm is not None:
            biased = isinstance(norm, gpu.Biased)
            on_gpu = gpu.usable(x) and (biased or kernels.normalises(norm))
            x = gpu.normalise(x, norm) if on_gpu else over_frames(x, norm)
        x = shown(x, timesteps)
        u = x if self.threshold == 1 else x / self.threshold
        if not (torch.is_grad_enabled() and u.requires_grad):
            return rounded_(u.clamp(0, self.levels), self.norm, up)
        out: Tensor = Quantise.apply(u, self.levels, self.norm, up, closed)
        return out

    def settings(self) -> tuple[object, ...]:
        return type(self), self.threshold, self.levels, self.norm, self.rounding

    def extra_repr(self) -> str:
        return f"levels={self.levels}, norm={self.norm:g}, rounding={self.rounding}, gradient={self.gradient}"


def most_spikes(model: nn.Module) -> int:
    """The most spikes that a neuron of a network fires at once."""
    return max((m.levels for m in _several(model)), default=1)


@contextmanager
def at_most(model: nn.Module, spikes: int) -> Iterator[None]:
    """Context in which no neuron of a network fires more than ``spikes`` at once, each worth what it was.

    That is what a neuron has fired after so many virtual steps, if the first of its D come first: ``min(k, spikes)`` of
    k, still over its ``norm``.
    """
    several = _several(model)
    before = [m.levels for m in several]
    try:
        for m, levels in zip(several, before, strict=True):
            m.levels = min(levels, spikes)
        yield
    finally:
        for m, levels in zip(several, before, strict=True):
            m.levels = levels


def _several(model: nn.Module) -> list[Any]:
    """Neurons that fire several spikes at once."""
    return [m for m in model.modules() if isinstance(getattr(m, "levels", None), int)]


def norms(model: nn.Module) -> tuple[float, ...]:
    """What integer neurons of a network divide their spikes by, other than 1."""
    found = {float(norm) for m in model.modules() if isinstance(norm := getattr(m, "norm", None), int | float)}
    return tuple(sorted(found - {1.0}))


def are_counts(x: Tensor, norms: tuple[float, ...]) -> bool:
    """Whether ``x`` are whole spikes, or such over one of ``norms``, which folds into the weights that read them."""
    return any(bool((c == c.round()).all()) for c in (x * norm for norm in (1.0, *norms)))
