"""The fused neuron against autograd through the steps, one by one."""

from __future__ import annotations

import itertools

import pytest
import torch

from spikefront.nn import IF, LIF, PLIF, ATan, FastSigmoid, Rectangle, Sigmoid, StraightThrough, Triangle
from spikefront.nn.neurons import Step

SURROGATES = [Sigmoid(), ATan(), Triangle(), FastSigmoid(), Rectangle(), StraightThrough()]


def step_by_step(x, gain, leak, threshold, soft, detach, surrogate):
    v, spikes = torch.zeros_like(x[0]), []
    for current in x:
        h = leak * v + gain * current
        s = Step.apply(h - threshold, surrogate)
        spikes.append(s)
        s = s.detach() if detach else s
        v = h - threshold * s if soft else h * (1 - s)
    return torch.stack(spikes)


@pytest.mark.parametrize(("soft", "detach"), itertools.product([False, True], [False, True]))
@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: type(s).__name__)
def test_gradients_equal_autograd(surrogate, soft, detach):
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(6, 3, 50, generator=generator, dtype=torch.float64) + 0.5) * 1.5
    weight = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    kwargs = {"reset": "soft" if soft else "hard", "detach_reset": detach, "surrogate": surrogate, "threshold": 0.8}
    for neuron in (LIF(tau=1.7, **kwargs), IF(**kwargs), PLIF(tau=3.0, **kwargs).double()):
        gain = neuron.w.sigmoid() if isinstance(neuron, PLIF) else 1 / getattr(neuron, "tau", 1.0)
        leak = 1.0 if isinstance(neuron, IF) else 1 - gain
        results = []
        for run in (neuron, lambda y, g=gain, a=leak: step_by_step(y, g, a, 0.8, soft, detach, surrogate)):
            neuron.zero_grad()
            y = x.clone().requires_grad_()
            spikes = run(y)
            (spikes * weight).sum().backward()
            results.append((spikes.detach(), y.grad, *(p.grad.clone() for p in neuron.parameters())))
        assert torch.equal(results[0][0], results[1][0]) and 0.1 < results[0][0].mean() < 0.9
        for ours, autograd in zip(results[0][1:], results[1][1:], strict=True):
            torch.testing.assert_close(ours, autograd, rtol=1e-10, atol=1e-12)
