"""Gradients of spikes only where a surrogate lets them through: those of the parameters stay the same."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import spikefront
from spikefront.nn import IF, LIF, PLIF, Rectangle, Sigmoid, Triangle
from spikefront.nn.kernels import MaxPool, masked, sparse
from spikefront.nn.kernels.build import library
from spikefront.nn.layers import over_frames
from spikefront.nn.sparse_conv import SparseConv2d, add_sparsely

pytestmark = pytest.mark.skipif(library("masked") is None, reason="no compiled kernels here")


@pytest.fixture(autouse=True)
def anywhere(monkeypatch):
    """On processors for which it isn't chosen, too, and however many places there are."""
    monkeypatch.setattr(masked, "runs", lambda: True)
    monkeypatch.setattr(masked, "MOST", 1)


@pytest.fixture
def used(monkeypatch):
    """What each call gave."""
    found, gradient = [], masked.gradient

    def spy(*arguments):
        found.append(gradient(*arguments))
        return found[-1]

    monkeypatch.setattr(masked, "gradient", spy)
    return found


def frames(*shape):
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("rate", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("size", [(2, 70, 48, 5, 3), (1, 1, 16, 1, 1), (3, 512, 272, 4, 6), (9, 7, 32, 8, 8)], ids=str)
def test_equals_the_dense_gradient_there_and_is_0_elsewhere(size, rate, kernel):
    torch.manual_seed(0)
    N, C, D, H, W = size
    places, weight = (torch.rand(N, C, H, W) < rate).float(), torch.randn(D, C, kernel, kernel)
    bits, grad = sparse.encode(places.contiguous(memory_format=torch.channels_last)).bits, frames(N, D, H, W)
    got = masked.gradient(masked.Mask(lambda: bits, 0), grad, weight, torch.Size((N, C, H, W)))
    exact = nn.grad.conv2d_input((N, C, H, W), weight.double(), grad.double(), padding=kernel // 2)
    torch.testing.assert_close(got.double(), exact * places, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("surrogate", [Rectangle(), Rectangle(0.3), Triangle(1.3)], ids=["wide", "narrow", "triangle"])
@pytest.mark.parametrize("steps", [None, 4])
def test_the_places_are_those_of_the_derivative(steps, surrogate):
    torch.manual_seed(0)
    shape = (1 if steps else 3, 2, 70, 5, 4)
    x = frames(shape[0] * 2, *shape[2:]).unflatten(0, shape[:2]).mul_(2)
    for neuron in (LIF(1.7, surrogate=surrogate), IF(reset="soft", surrogate=surrogate), PLIF(surrogate=surrogate)):
        bn = nn.BatchNorm2d(70)
        nn.init.normal_(bn.bias)
        for norm in (None, bn):
            fired = neuron(x.clone(memory_format=torch.preserve_format).requires_grad_(), norm, steps)
            found = sparse.Spikes(masked.mask_of(fired.flatten(0, 1)).bits, fired.shape).dense()
            plain = copy.deepcopy(neuron)
            potentials: list = []
            plain.surrogate = type(surrogate)()
            plain.surrogate.derivative = lambda u, seen=potentials: seen.append(surrogate.derivative(u)) or seen[-1]
            del plain.surrogate.kernel
            again = norm and copy.deepcopy(norm)
            plain(x.clone().requires_grad_(), again, steps).sum().backward()
            assert torch.equal(found, (torch.stack(potentials[::-1]) != 0).float())
            assert 0.01 < found.mean() < 0.9


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [6, 70])
def test_a_pool_hands_places_on(channels, stride):
    torch.manual_seed(0)
    x = (torch.rand(3, channels, 7, 6) < 0.2).float().contiguous(memory_format=torch.channels_last).requires_grad_()
    places = (torch.rand(x.shape) < 0.3).float().contiguous(memory_format=torch.channels_last)
    masked.mark(x, lambda: sparse.encode(places).bits)
    out = MaxPool(stride)(x)
    found = sparse.Spikes(masked.mask_of(out).bits, out.shape).dense()
    winners = torch.autograd.grad(out, x, torch.arange(1, out.numel() + 1.0).view(out.shape), retain_graph=True)[0]
    through = torch.autograd.grad(out, x, found * torch.arange(1, out.numel() + 1.0).view(out.shape))[0]
    assert torch.equal(winners * places, through) and found.any()


@pytest.mark.parametrize("surrogate", [Rectangle(), Triangle()])
@pytest.mark.parametrize("settings", [{}, {"neuron": "plif"}, {"data": "dvs128_gesture"}], ids=str)
def test_parameters_gradients_are_the_same(settings, surrogate, used, monkeypatch):
    torch.manual_seed(0)
    overrides = [f"neuron={settings['neuron']}"] if "neuron" in settings else []
    data = settings.get("data", "cifar10")
    model = spikefront.create_model("sdt_2_256", data=data, num_classes=3, timesteps=2, overrides=overrides).train()
    add_sparsely(model, True)
    for module in model.modules():
        if hasattr(module, "surrogate"):
            module.surrogate = surrogate
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, 0.2)
    images = torch.rand(2, 2, 2, 16, 16) if "data" in settings else torch.rand(2, 3, 32, 32)
    results = []
    for on in (True, False):
        monkeypatch.setattr(masked, "runs", lambda on=on: on)
        twin = copy.deepcopy(model)
        twin(images).square().sum().backward()
        results.append([p.grad for p in twin.parameters() if p.grad is not None])
    largest = max(g.abs().max() for g in results[1])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=float(1e-5 * largest))
    assert len([g for g in used if g is not None]) >= 9  # where no more than 0.4 spike


def test_dense_where_it_must_be(used, monkeypatch):
    torch.manual_seed(0)

    def learn(surrogate=None, change=lambda x: x, hook=False, layer=None):
        neuron, conv = LIF(surrogate=surrogate or Rectangle()), layer or SparseConv2d(nn.Conv2d(8, 16, 1), True)
        handle = conv.register_full_backward_hook(lambda *_: None) if hook else None
        fired = neuron(frames(6, 8, 5, 4).unflatten(0, (3, 2)).requires_grad_())
        over_frames(change(fired), conv).sum().backward()
        if handle is not None:
            handle.remove()
        return used.pop() is not None if used else None

    assert learn() is True
    assert learn(surrogate=Sigmoid()) is None  # nowhere 0
    assert learn(change=lambda x: x * 1) is None  # someone else's spikes
    assert learn(change=lambda x: x[:2]) is None  # some of them
    assert learn(change=lambda x: x.mul_(1)) is None  # written since
    assert learn(hook=True) is None  # someone looks at the gradient
    assert learn(layer=SparseConv2d(nn.Conv2d(8, 15, 1), True)) is False
    monkeypatch.setattr(masked, "MOST", 0.01)
    assert learn() is False
