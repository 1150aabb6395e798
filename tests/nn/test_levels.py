"""The kernel of neurons of several spikes at once against PyTorch, alone and after a batch norm."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from twins import SHAPES, both, layouts, needs_compiler

import spikefront
from spikefront.nn import Integer, integers
from spikefront.nn.layers import conv_bn_fire

NEURONS = [
    Integer(levels, per, rounding, gradient, threshold)
    for (rounding, gradient), (levels, per), threshold in itertools.product(
        (("even", "closed"), ("up", "open")), ((1, None), (4, 1.0), (8, 3.0)), (1.0, 0.7)
    )
]


@needs_compiler
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_pytorch(shape):
    """Halves and the ends of the range are among the potentials."""
    torch.manual_seed(0)
    weight = torch.randn(shape)
    for values in (torch.randn(shape) * 3 + 1, (torch.randn(shape) * 8).round() / 2):
        for x, neuron in itertools.product(layouts(values), NEURONS):

            def run(x=x, neuron=neuron):
                y = x.clone(memory_format=torch.preserve_format).requires_grad_()
                spikes = neuron(y)
                (spikes * weight).sum().backward()
                with torch.no_grad():
                    assert torch.equal(neuron(y), spikes)
                return spikes.detach(), y.grad

            (spikes, grad), plain = both(run)
            assert torch.equal(spikes, plain[0]) and spikes.stride() == plain[0].stride() and spikes.any()
            torch.testing.assert_close(grad, plain[1], rtol=1e-6, atol=0)


@needs_compiler
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("neuron", NEURONS[::4], ids=str)
@pytest.mark.parametrize("timesteps", [None, 3])
def test_after_a_norm_equals_float64(neuron, timesteps, training):
    """In float64 no kernel runs."""
    torch.manual_seed(0)
    for x in layouts(torch.randn(1 if timesteps else 3, 2, 5, 9, 8)):
        conv, weight = nn.Conv2d(5, 24, 3), torch.randn(3, 2, 24, 7, 6)

        def run(dtype, x=x, conv=conv, weight=weight):
            torch.manual_seed(1)
            bn = nn.BatchNorm2d(24).train(training)
            nn.init.uniform_(bn.weight, 1, 3), nn.init.normal_(bn.bias)
            nn.init.normal_(bn.running_mean, std=0.1), nn.init.uniform_(bn.running_var, 0.5, 1)
            conv.to(dtype).zero_grad()
            y = x.detach().to(dtype, copy=True).requires_grad_()
            spikes = conv_bn_fire(y, conv, bn.to(dtype), neuron, timesteps)
            (spikes * weight.to(dtype)).sum().backward()
            gradients = [y.grad, conv.weight.grad.clone(), bn.weight.grad, bn.bias.grad]
            return spikes.detach(), *gradients, *(b.clone() for b in bn.buffers())

        fused, exact = run(torch.float32), run(torch.float64)
        assert fused[0].unique().numel() > min(neuron.levels, 4)
        for a, b in zip(fused, exact, strict=True):
            torch.testing.assert_close(a.double(), b.double(), rtol=1e-3, atol=2e-4)


@needs_compiler
def test_in_bfloat16_rounds_once():
    """Potentials stay in float32: the same spikes from the same currents."""
    torch.manual_seed(0)
    neuron, bn = Integer(norm=1.0), nn.BatchNorm2d(24).eval()
    nn.init.constant_(bn.weight, 2.0)
    for x in layouts((torch.randn(3, 2, 24, 7, 6) + 0.5).bfloat16()):
        assert torch.equal(neuron(x, bn), neuron(x.float(), bn).bfloat16())
        assert neuron(x, bn).dtype == torch.bfloat16


@needs_compiler
def test_what_is_no_number_stays_none():
    x = torch.tensor([[0.4, float("nan"), float("inf"), -float("inf"), 2.5]])
    for neuron in (Integer(norm=1.0), Integer(norm=1.0, rounding="up")):
        fused, plain = both(lambda neuron=neuron: neuron(x))
        assert torch.equal(fused.isnan(), plain.isnan()) and torch.equal(fused.nan_to_num(), plain.nan_to_num())


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    depths = {f"stages.s{i}.depth": 1 for i in range(1, 6)}
    model = spikefront.create_model("e_spikeformer", data="digits", dim=32, **depths)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.constant_(m.bias, 0.5)
            m.momentum = 1.0  # one batch settles it
    with torch.no_grad():
        model.train()(torch.rand(16, 1, 8, 8))
    return model.eval()


@needs_compiler
@pytest.mark.parametrize("form", ["compiled", "deployed", "fewer levels"])
def test_networks_agree(network, form):
    images = torch.rand(4, 1, 8, 8)
    with torch.no_grad():
        if form == "compiled":
            other = torch.compile(network, backend="aot_eager")(images)
            torch.testing.assert_close(other, network(images))
            return
        deployed = network.for_inference() if form == "deployed" else network
        with integers.at_most(deployed, 2 if form == "fewer levels" else 4):
            fused, plain = both(lambda: deployed(images))
        torch.testing.assert_close(fused, plain, rtol=1e-3, atol=1e-3)
        if form == "deployed":
            assert any(getattr(m, "joint_lif", None) is not None for m in deployed.modules())
            torch.testing.assert_close(fused, network(images), rtol=1e-3, atol=1e-3)
        else:
            assert not torch.allclose(fused, network(images), rtol=1e-2, atol=1e-2)
