"""Spiking neurons: ``(T, ...) currents -> (T, ...) spikes``.

A neuron is stateless between calls: one call is one sequence that starts from a silent membrane. There is nothing to
reset, so compilation, DDP and activation checkpointing need no special care.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikefront.errors import UserError
from spikefront.nn import kernels
from spikefront.nn.kernels import gpu
from spikefront.nn.layers import over_frames, shown
from spikefront.nn.surrogates import Sigmoid, Surrogate


class IntegrateAndFire(torch.autograd.Function):
    """The T steps of ``h = leak v + gain x``, ``s = (h >= threshold)``, reset, as one differentiable operation.

    Saves only the membrane potential ``h``; spikes and reset states are recomputed from it in the backward pass, which
    is truncated nowhere: it is back-propagation through all T steps with the surrogate's derivative for the step's.
    ``gain`` is a float or a 0-dim tensor (then ``leak = 1 - gain`` and its gradient is returned, as PLIF needs).
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gain: Tensor | float,
        leak: float | None,
        threshold: float,
        soft_reset: bool,
        detach_reset: bool,
        surrogate: Surrogate,
    ) -> Tensor:
        a = 1 - gain if leak is None else leak
        potential = torch.empty_like(x, memory_format=torch.contiguous_format)
        spikes = torch.empty_like(potential)
        v: Tensor | None = None
        for t in range(x.shape[0]):
            h = x[t] * gain if v is None else a * v + gain * x[t]
            s = (h >= threshold).to(x.dtype)
            v = h - threshold * s if soft_reset else h * (1 - s)
            potential[t], spikes[t] = h, s
        ctx.save_for_backward(potential, *([gain] if isinstance(gain, Tensor) else []))
        ctx.constants = (gain, leak, threshold, soft_reset, detach_reset, surrogate)
        return spikes

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad_spikes,) = grads
        potential, *gains = ctx.saved_tensors  # once: a block that is run again gives them once
        gain, leak, threshold, soft_reset, detach_reset, surrogate = ctx.constants
        if gains:
            (gain,) = gains
        a = 1 - gain if leak is None else leak
        grad_x = torch.empty_like(potential)
        grad_gain = torch.zeros((), dtype=potential.dtype, device=potential.device)
        grad_v: Tensor | None = None
        for t in reversed(range(potential.shape[0])):
            h = potential[t]
            step = surrogate.derivative(h - threshold)
            grad_h = grad_spikes[t] * step
            if grad_v is not None:
                if soft_reset:
                    through = 1.0 if detach_reset else 1 - threshold * step
                else:
                    through = (h < threshold).to(h.dtype)
                    if not detach_reset:
                        through = through - h * step
                grad_h = grad_h + grad_v * through
            grad_x[t] = grad_h * gain
            grad_v = grad_h * a
            if leak is None and isinstance(gain, Tensor):
                if t == 0:
                    drive = h / gain
                else:
                    before = potential[t - 1]
                    fired = (before >= threshold).to(h.dtype)
                    v = before - threshold * fired if soft_reset else before * (1 - fired)
                    drive = (h - v) / gain
                grad_gain = grad_gain + (grad_h * drive).sum()
        return grad_x, grad_gain if ctx.needs_input_grad[1] else None, None, None, None, None, None


class Step(torch.autograd.Function):
    """Whole spikes of a normalised potential ``u``: how many of the thresholds 0, 1, … ``levels - 1`` it has reached.

    With one level the exact Heaviside step. Backward: the surrogate's derivative at every threshold, summed.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, surrogate: Surrogate, levels: int = 1) -> Tensor:
        ctx.save_for_backward(u)
        ctx.constants = surrogate, levels
        return (u.floor() + 1).clamp(0, levels)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (u,), (surrogate, levels) = ctx.saved_tensors, ctx.constants
        return grads[0] * sum(surrogate.derivative(u - n) for n in range(levels)), None, None


class SpikingNeuron(nn.Module):
    """Threshold, reset and surrogate, shared by every neuron that integrates and fires."""

    def __init__(
        self,
        threshold: float = 1.0,
        reset: str = "hard",
        detach_reset: bool = True,
        surrogate: Surrogate | None = None,
    ) -> None:
        super().__init__()
        if not threshold > 0:
            raise UserError(f"neuron.threshold is {threshold}: a threshold must be above 0")
        if reset not in ("hard", "soft"):
            raise UserError(f"neuron.reset is {reset!r}: use 'hard' (to 0) or 'soft' (subtract the threshold)")
        self.threshold, self.reset, self.detach_reset = float(threshold), reset, detach_reset
        self.surrogate: Surrogate = surrogate if surrogate is not None else Sigmoid()
        self.readers: tuple[nn.Module, ...] = ()  # that take bits: set by for_inference(sparse=...)

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}, reset={self.reset}"

    def fire(
        self,
        x: Tensor,
        norm: Any,
        timesteps: int | None,
        before: Tensor | None = None,
        after: Tensor | None = None,
        over: bool = False,
    ) -> Any:
        """Spikes of ``norm(x)``, where one frame is shown ``timesteps`` times; as bits if ``readers`` take those.

        ``norm``: a module, None, or ``gpu.Biased``. ``before`` is added to the currents, ``after`` to the spikes: one
        of the two, to neurons without ``readers``. ``over``: ``x`` is nobody else's, and may become the spikes.
        """
        if self.readers and (norm is None or type(norm) is nn.Identity) and kernels.sparse.hands_over(self, x):
            return kernels.sparse.fire(x, timesteps, self.constants())
        gain, leak = self.gain_and_leak()
        settings = self.threshold, self.reset == "soft", self.detach_reset, self.surrogate
        known = hasattr(self.surrogate, "kernel")
        if known and gpu.usable(x):
            if isinstance(norm, nn.Module) and not kernels.normalises(norm):
                x, norm = over_frames(x, norm), None
            if before is not None:
                x, norm = before + (gpu.normalise(x, norm) if norm is not None else x), None
            spikes = gpu.fire(x, gain, leak, *settings, norm, timesteps)
            return spikes if after is None else after + spikes
        gain = gain.to(x.dtype) if isinstance(gain, Tensor) else gain
        constants = gain, leak, *settings
        other = before if after is None else after
        fits = other is None or kernels.joins(x, other, timesteps)
        if known and fits and kernels.usable(x) and (norm is None or kernels.normalises(norm)):
            return kernels.fire(x, *constants, norm, timesteps, before, after, over)
        if norm is not None:
            x = over_frames(x, norm)
        x = x if before is None else before + x
        spikes = IntegrateAndFire.apply(shown(x, timesteps), *constants)
        return spikes if after is None else after + spikes

    def constants(self) -> kernels.sparse.Neuron:
        """What a kernel must know, of LIF, IF and PLIF."""
        gain, leak = self.gain_and_leak()
        g = float(gain)
        return kernels.sparse.Neuron(g, 1 - g if leak is None else leak, self.threshold, self.reset == "soft")

    def gain_and_leak(self) -> tuple[Tensor | float, float | None]:
        """Of ``h = leak v + gain x``; a leak of None is ``1 - gain``."""
        raise NotImplementedError

    def settings(self) -> tuple[object, ...]:
        """What neurons have in common that fire alike, element by element, and may be one; () if more is to it."""
        return (type(self), *self.gain_and_leak(), self.threshold, self.reset) if type(self) in (LIF, IF) else ()

    def after(self, h: Tensor, s: Tensor, threshold: Tensor | float) -> Tensor:
        """The membrane potential left after ``s`` spikes at potential ``h``."""
        s = s.detach() if self.detach_reset else s
        return h - threshold * s if self.reset == "soft" else h * (1 - s.clamp_max(1))


class LIF(SpikingNeuron):
    """Leaky integrate-and-fire: ``v += (x - v) / tau`` (arXiv 2307.01694, section 3.1; published tau 2, threshold 1).

    ``forward``: currents ``(T, ...)`` -> spikes 0/1 of the same shape and dtype; with ``norm``, of ``norm(x)``, which
    the fused kernel does in the same pass; with ``timesteps``, a single frame is shown that often; ``before``,
    ``after`` and ``over`` as ``fire`` takes them.
    """

    fuses = fuses_more = writes_over = True

    def __init__(self, tau: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tau = _at_least_one("neuron.tau", tau)

    def forward(self, x: Tensor, norm: Any = None, timesteps: int | None = None, **more: Any) -> Tensor:
        return self.fire(x, norm, timesteps, **more)

    def gain_and_leak(self) -> tuple[Tensor | float, float | None]:
        return 1 / self.tau, 1 - 1 / self.tau


class IF(SpikingNeuron):
    """Integrate-and-fire: LIF without the leak, ``v += x`` (Lapicque's neuron; as in arXiv 2102.04159)."""

    fuses = fuses_more = writes_over = True

    def forward(self, x: Tensor, norm: Any = None, timesteps: int | None = None, **more: Any) -> Tensor:
        return self.fire(x, norm, timesteps, **more)

    def gain_and_leak(self) -> tuple[Tensor | float, float | None]:
        return 1.0, 1.0


class PLIF(SpikingNeuron):
    """LIF whose decay ``sigmoid(w)`` is learned, one scalar a layer (arXiv 2007.05785, eq. 8); ``tau`` is its start."""

    fuses = fuses_more = writes_over = True

    def __init__(self, tau: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not tau > 1:
            raise UserError(f"neuron.tau is {tau}: PLIF's initial time constant must be above 1 timestep")
        self.w = nn.Parameter(torch.tensor(-math.log(tau - 1)))

    def forward(self, x: Tensor, norm: Any = None, timesteps: int | None = None, **more: Any) -> Tensor:
        return self.fire(x, norm, timesteps, **more)

    def gain_and_leak(self) -> tuple[Tensor | float, float | None]:
        return self.w.sigmoid(), None


class ALIF(SpikingNeuron):
    """LIF whose threshold rises with its own spikes (LSNN, Bellec et al., NeurIPS 2018, arXiv 1803.09574).

    ``threshold + beta a``, where ``a`` decays by ``exp(-1 / tau_adaptation)`` a step and moves towards 1 at each spike.
    """

    def __init__(self, tau: float = 2.0, beta: float = 1.8, tau_adaptation: float = 20.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tau = _at_least_one("neuron.tau", tau)
        self.beta, self.decay = float(beta), math.exp(-1 / _at_least_one("neuron.tau_adaptation", tau_adaptation))

    def forward(self, x: Tensor) -> Tensor:
        v, a, spikes = torch.zeros_like(x[0]), torch.zeros_like(x[0]), []
        for current in x:
            h = v + (current - v) / self.tau
            threshold = self.threshold + self.beta * a
            s: Tensor = Step.apply(h - threshold, self.surrogate)
            v, a = self.after(h, s, threshold), self.decay * a + (1 - self.decay) * s
            spikes.append(s)
        return torch.stack(spikes)


class Activation(nn.Module):
    """A function where a neuron would be: the network without spikes that energy is compared with.

    ``forward``: any tensor -> ``function`` of it. Neuron settings (threshold, tau) are accepted and mean nothing here.
    """

    def __init__(self, function: Callable[[Tensor], Tensor] = F.relu, **_: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _at_least_one(name: str, value: float) -> float:
    if not value >= 1:
        raise UserError(f"{name} is {value}: a time constant must be at least 1 timestep")
    return float(value)
