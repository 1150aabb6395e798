"""Norm, neuron and pool in one kernel against plain PyTorch in float64 on the CPU."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import nn

from spikefront.nn import surrogates
from spikefront.nn.kernels import MaxPool, launches
from spikefront.nn.layers import conv_bn, conv_bn_fire, conv_bn_fire_pool
from spikefront.nn.neurons import IF, LIF, PLIF

CUDA = torch.cuda.is_available()
SHAPE = (2, 24, 15, 9) if CUDA else (1, 6, 5, 3)
RELATIVE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.5e-2}


def norm_of(channels, train):
    norm = nn.BatchNorm2d(channels).train(train)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(2, 0.5, channels))
        norm.bias.copy_(torch.linspace(0.8, 0, channels))
        norm.running_mean.fill_(0.1)
        norm.running_var.fill_(1.3)
    return norm


def laid_out(x, layout):
    if layout == "channels-last":
        return x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, x.shape[:2])
    return x if layout == "contiguous" else x.transpose(0, 1).contiguous().transpose(0, 1)  # time second in memory


def outcome(x, neuron, norm, pool, timesteps, layer="fire"):
    """Output, and all that the pass gives or moves."""
    leaf = x.detach().requires_grad_()
    if layer == "norm":
        out = conv_bn(leaf, nn.Identity(), norm)
    elif pool is not None:
        out = conv_bn_fire_pool(leaf, nn.Identity(), norm, neuron, pool, timesteps)
    else:
        out = conv_bn_fire(leaf, nn.Identity(), norm, neuron, timesteps)
    weight = torch.sin(torch.arange(out.numel(), dtype=torch.float64)).reshape(out.shape)
    (out * weight.to(out)).sum().backward()
    parameters = [*norm.named_parameters(), *neuron.named_parameters()]
    found = {"out": out.detach(), "x": leaf.grad, **{n: p.grad for n, p in parameters if p.grad is not None}}
    return {n: t.double().cpu() for n, t in {**found, **dict(norm.named_buffers())}.items()}


def both(x, neuron, norm, pool=None, timesteps=None, layout="channels-last", device="cuda", layer="fire"):
    """Ours on the device and PyTorch's in float64 on the CPU, of the same rounded currents."""
    ours = outcome(
        laid_out(x.to(device), layout), copy.deepcopy(neuron).to(device), copy.deepcopy(norm).to(device), pool,
        timesteps, layer,
    )  # fmt: skip
    plain = outcome(
        x.double().cpu(), copy.deepcopy(neuron).double(), copy.deepcopy(norm).double(), pool, timesteps, layer
    )
    return ours, plain


def agree(ours, plain, dtype=torch.float32, hidden=False):
    """Spikes but those at the very threshold, gradients by their norm; pooling may hide that a spike flipped."""
    assert ours.keys() == plain.keys()
    spikes = ours.pop("out") != (expected := plain.pop("out"))
    assert expected.mean() > 0.02 and spikes.double().mean() < 1e-4, f"{spikes.double().mean()} differ"
    for name, value in plain.items():
        size = value.norm() if value.dim() else value.norm() + 0.1 * plain["x"].norm()  # a sum that cancels
        error = (ours[name] - value).norm() / (size + 1e-3)
        assert error < (RELATIVE[dtype] if not spikes.any() and not hidden else 0.05), f"{name}: {error}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=lambda d: str(d)[6:])
@pytest.mark.parametrize("layout", ["channels-last", "contiguous", "time second"])
@pytest.mark.parametrize("pooled", [False, True], ids=["whole", "pooled"])
@pytest.mark.parametrize("once", [False, True], ids=["T frames", "one frame"])
def test_layouts_and_dtypes(dtype, layout, pooled, once, device):
    x = (torch.randn(1 if once else 4, *SHAPE) * 1.5 + 0.2).to(dtype)
    pool = MaxPool(2) if pooled else None
    agree(*both(x, LIF(), norm_of(SHAPE[1], True), pool, 4, layout, device), dtype)


@pytest.mark.parametrize(
    ("neuron", "reset", "detach", "train", "pooled"),
    list(itertools.product((LIF, IF, PLIF), ("hard", "soft"), (True, False), (True, False), (False, True)))[
        :: 1 if CUDA else 5
    ],
)
def test_neurons(neuron, reset, detach, train, pooled, device):
    x = torch.randn(4, *SHAPE) * 1.5 + 0.2
    made = neuron(reset=reset, detach_reset=detach, surrogate=surrogates.ATan())
    agree(*both(x, made, norm_of(SHAPE[1], train), MaxPool(2) if pooled else None, None, "channels-last", device))


@pytest.mark.parametrize(
    "surrogate",
    [
        surrogates.Sigmoid(), surrogates.ATan(), surrogates.Triangle(0.8, 1.5), surrogates.FastSigmoid(),
        surrogates.Rectangle(), surrogates.StraightThrough(),
    ],
    ids=lambda s: type(s).__name__,
)  # fmt: skip
def test_surrogates(surrogate, device):
    x = torch.randn(5, *SHAPE) * 1.5
    agree(*both(x, LIF(surrogate=surrogate), norm_of(SHAPE[1], True), None, None, "channels-last", device))


@pytest.mark.parametrize("steps", [1, 2, 7, 10, 16, 32, 40] if CUDA else [1, 10, 40])
@pytest.mark.parametrize("pooled", [False, True], ids=["whole", "pooled"])
def test_any_number_of_steps(steps, pooled, device):
    x = torch.randn(steps, *SHAPE) * 1.5
    pool = MaxPool(2) if pooled else None
    agree(*both(x, LIF(), norm_of(SHAPE[1], True), pool, None, "channels-last", device), hidden=pooled)


@pytest.mark.parametrize("steps", [1, 4, 5, 8, 16] if CUDA else [1, 8, 16])
def test_pooled_in_one_go_is_pooled_afterwards(steps, device):
    """The same spikes, so the same winners: bit for bit but for the order of sums."""
    x, found = laid_out((torch.randn(steps, *SHAPE) * 1.5).to(device), "channels-last"), []
    for pool in (MaxPool(2), nn.MaxPool2d(3, 2, 1)):
        found.append(outcome(x, LIF(), norm_of(SHAPE[1], True).to(device), pool, None))
    for name, value in found[1].items():
        assert (found[0][name] - value).norm() <= 1e-6 * (value.norm() + 1e-3), name


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("way", ["fire", "pooled", "onto"])
def test_a_convolutions_bias_is_added_by_the_norms_kernel(train, way, device):
    torch.manual_seed(0)
    channels, found = SHAPE[1], []
    x, onto = torch.randn(4, *SHAPE), torch.randn(4, *SHAPE)
    made = nn.Conv2d(channels, channels, 1)
    nn.init.uniform_(made.bias, -1, 1)
    for where, dtype in ((device, torch.float32), ("cpu", torch.float64)):
        to = {"device": where, "dtype": dtype}
        conv, norm = copy.deepcopy(made).to(**to), norm_of(channels, train).to(**to)
        leaf, more = laid_out(x.to(**to), "channels-last").requires_grad_(), onto.to(**to, copy=True).requires_grad_()
        if way == "onto":
            out = conv_bn(leaf, conv, norm, more)
        elif way == "pooled":
            out = conv_bn_fire_pool(leaf, conv, norm, LIF(), MaxPool(2))
        else:
            out = conv_bn_fire(leaf, conv, norm, LIF())
        (out * torch.linspace(-1, 1, out.numel(), **to).reshape(out.shape)).sum().backward()
        grads = [leaf.grad, conv.weight.grad, norm.bias.grad, *([more.grad] if way == "onto" else [])]
        found.append([out.detach(), norm.running_mean, *grads, *([] if train else [conv.bias.grad])])
        assert conv.bias.grad.abs().max() < 1e-3 or not train
    for i, (ours, plain) in enumerate(zip(*found, strict=True)):
        assert (ours.double().cpu() - plain).norm() < (1e-5 if way == "onto" else 0.02) * plain.norm(), i


@pytest.mark.parametrize("channels", [1, 3, 48, 130, 384] if CUDA else [1, 3, 48])
@pytest.mark.parametrize("side", [1, 2, 7])
@pytest.mark.parametrize("layout", ["channels-last", "contiguous"])
def test_odd_sizes(channels, side, layout, device):
    x = torch.randn(4, 3, channels, side, side + 1) * 1.5
    for pool in (None, MaxPool(2)):
        agree(*both(x, LIF(), norm_of(channels, True), pool, None, layout, device))


@pytest.mark.parametrize("layout", ["channels-last", "contiguous"])
def test_a_norm_alone_whose_mean_is_far_from_zero(layout, device):
    x = torch.randn(4, *SHAPE) + 300
    ours, plain = both(x, LIF(), norm_of(SHAPE[1], True), None, None, layout, device, "norm")
    for name, value in plain.items():
        assert (ours[name] - value).norm() / value.norm() < 1e-3, name


def test_neuron_alone(device):
    for shape in ((4, 3, 130), (4, 2, 8), (3, 2, 5, 1, 1), (4, *SHAPE)):
        x = torch.randn(shape) * 1.5
        leaf, mine = x.double().requires_grad_(), x.to(device).requires_grad_()
        expected, ours = LIF().double()(leaf), LIF()(mine)
        weight = torch.linspace(-1, 1, x.numel()).reshape(shape)
        (expected * weight).sum().backward()
        (ours * weight.to(device)).sum().backward()
        assert torch.equal(ours.double().cpu(), expected)
        torch.testing.assert_close(mine.grad.double().cpu(), leaf.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.cuda
def test_more_elements_than_32_bits_count():
    """bf16 currents of 2^31 and more, checked where the last lie; time and space each alone below 2^31."""
    free, _ = torch.cuda.mem_get_info()
    if free < 24 * 2**30:
        pytest.skip("needs 24 GiB of free GPU memory")
    x = torch.empty(3, 44, 64, 512, 512, device="cuda", dtype=torch.bfloat16)
    x = laid_out(x, "channels-last").normal_()
    assert x.numel() > 2**31
    norm, neuron, pool = norm_of(64, True).cuda(), LIF(), MaxPool(2)
    with torch.no_grad():
        spikes = neuron(x, norm)
        again = norm_of(64, False).cuda()
        factors = launches.statistics(
            x, norm.weight, norm.bias, again.running_mean, again.running_var, None, True, 0.1, norm.eps
        )
        last = (x[:, -1:].float() - factors[0].view(-1, 1, 1)) * (factors[1] * norm.weight).view(-1, 1, 1)
        last = last + norm.bias.view(-1, 1, 1)
        assert (neuron(last) != spikes[:, -1:]).float().mean() < 1e-4
        mean = x[-1].mean((0, 2, 3), dtype=torch.float32)
        torch.testing.assert_close(factors[0], mean, atol=2e-3, rtol=0)
        del spikes
        pooled = conv_bn_fire_pool(x, nn.Identity(), norm, neuron, pool)
        expected = pool(neuron(last).flatten(0, 1)).unflatten(0, (3, 1))
        assert (pooled[:, -1:] != expected).float().mean() < 1e-4
