"""Sparse execution equals dense: every kernel against float64, whole networks against themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from examples import few
from torch import nn

import spikefront
from spikefront.errors import UserError
from spikefront.nn import IF, LIF, PLIF
from spikefront.nn.image_conv import ImageConv2d
from spikefront.nn.kernels import MaxPool, sparse
from spikefront.nn.kernels.sparse import Spikes
from spikefront.nn.operators import SDSA1Op
from spikefront.nn.sparse_conv import WEIGHTS, SparseConv2d

pytestmark = pytest.mark.skipif(not sparse.available(), reason="no compiled kernels here")

SIZES = [
    (1, 1, 1, 1, 1),
    (2, 48, 96, 7, 5),
    (1, 130, 17, 3, 9),
    (3, 64, 16, 4, 4),
    (1, 1100, 33, 5, 3),
    (2, 520, 40, 1, 6),
]


def spikes(*shape, rate=0.2, levels=1):
    x = torch.zeros(shape)
    for _ in range(levels):
        x += torch.rand(shape) < rate
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(("rate", "levels"), [(0.0, 1), (0.15, 1), (1.0, 1), (0.2, 4)], ids=str)
def test_convolution_equals_float64(size, kernel, rate, levels):
    torch.manual_seed(0)
    N, C, D, H, W = size
    conv = nn.Conv2d(C, D, kernel, padding=kernel // 2, bias=C % 2 == 0)
    layer, x = SparseConv2d(conv, True), spikes(N, C, H, W, rate=rate, levels=levels)
    exact = F.conv2d(
        x.double(), conv.weight.double(), conv.bias.double() if conv.bias is not None else None, 1, kernel // 2
    )
    with torch.no_grad():
        results = [layer(x), layer(x.contiguous())]
        if levels == 1:
            results.append(layer(sparse.encode(x)))
    for y in results:
        assert y.shape == exact.shape and y.dtype == torch.float32
        torch.testing.assert_close(y.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_give_the_same(threads):
    torch.manual_seed(0)
    few, many, before = spikes(1, 96, 3, 3), spikes(4, 96, 30, 30), torch.get_num_threads()
    layer = SparseConv2d(nn.Conv2d(96, 200, 3, padding=1), True)
    with torch.no_grad():
        expected = [F.conv2d(x, layer.weight, layer.bias, padding=1) for x in (few, many)]
        try:
            torch.set_num_threads(threads)
            got = [layer(x) for x in (few, many)]
        finally:
            torch.set_num_threads(before)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [*SIZES, (1, 40, 200, 11, 17)], ids=str)
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("levels", [1, 3])
def test_bfloat16_weights_equal_float64(size, kernel, levels):
    torch.manual_seed(0)
    N, C, D, H, W = size
    layer = SparseConv2d(nn.Conv2d(C, D, kernel, padding=kernel // 2), True, "bfloat16")
    weight, x = layer.weight.detach().bfloat16().double(), spikes(N, C, H, W, levels=levels)
    exact = F.conv2d(x.double(), weight, layer.bias.detach().double(), 1, kernel // 2)
    with torch.no_grad():
        y, onto = layer(x), torch.randn_like(exact.float()).contiguous(memory_format=torch.channels_last)
        added = sparse.convolve(sparse.read(x), sparse.pack(layer.weight, "bfloat16"), layer.bias, D, onto)
    torch.testing.assert_close(y.double(), exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(added.double(), exact + onto, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [*SIZES, (2, 70, 96, 9, 5), (1, 5, 33, 30, 20), (3, 20, 65, 40, 17)], ids=str)
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("rate", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("threads", [1, 2])
def test_weight_gradient_equals_float64(size, kernel, rate, threads):
    torch.manual_seed(0)
    N, C, D, H, W = size
    x, grad, before = spikes(N, C, H, W, rate=rate), torch.randn(N, D, H, W), torch.get_num_threads()
    weight = torch.zeros(D, C, kernel, kernel, dtype=torch.float64, requires_grad=True)
    (F.conv2d(x.double(), weight, padding=kernel // 2) * grad.double()).sum().backward()
    try:
        torch.set_num_threads(threads)
        got = sparse.weight_gradient(sparse.encode(x), grad, kernel)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(got.double(), weight.grad, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("rate", [0.1, 0.9])
def test_training_gradients_equal_dense(kernel, rate):
    torch.manual_seed(0)
    layer, x = SparseConv2d(nn.Conv2d(70, 40, kernel, padding=kernel // 2), True), spikes(2, 70, 9, 7, rate=rate)
    results = []
    for run in (layer, lambda y: F.conv2d(y, layer.weight, layer.bias, padding=kernel // 2)):
        layer.zero_grad()
        y = x.clone().requires_grad_()
        out = run(y)
        assert (out.grad_fn.name() == "_AddBackward") == (run is layer and rate < 0.3)
        (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
        results.append([out.detach(), y.grad, layer.weight.grad, layer.bias.grad])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_networks_train_the_same():
    gradients, losses = [], []
    for on in (False, True):
        model = network("digits", f"model.sparse={on}").train()
        assert any(isinstance(m, SparseConv2d) for m in model.modules()) == on
        loss = F.cross_entropy(model(images()), torch.arange(6) % 3)
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and gradients[0].max() > 0
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0.02, atol=1e-4)


def test_a_sparsely_trained_network_deploys_as_asked():
    model, x = network("digits", "model.sparse=true"), images()
    for choice, chosen in ((False, {False}), (True, {True})):
        fast = model.for_inference(choice)
        assert {m.sparse for m in fast.modules() if isinstance(m, SparseConv2d)} == chosen
        with torch.inference_mode():
            torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-4)


def test_other_values_are_convolved_densely():
    layer = SparseConv2d(nn.Conv2d(8, 4, 1), True)
    for x in (torch.randn(2, 8, 3, 3), -spikes(2, 8, 3, 3), spikes(2, 8, 3, 3) * 0.5):
        with torch.no_grad():
            torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight, layer.bias))
    x = spikes(2, 8, 3, 3).requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None and layer.weight.grad is not None


def test_changed_weights_are_seen():
    layer, x = SparseConv2d(nn.Conv2d(8, 4, 1), True), spikes(2, 8, 3, 3)
    with torch.no_grad():
        layer(x)
        layer.weight.mul_(2)
        torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight, layer.bias), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 63, 64, 65, 200])
def test_bits_hold_spikes(channels):
    torch.manual_seed(0)
    x = spikes(2, channels, 5, 3)
    bits = sparse.encode(x)
    assert torch.equal(bits.dense(), x) and bits.shape == x.shape
    assert torch.equal(bits.unflatten(0, (1, 2)).dense(), x.unflatten(0, (1, 2)))
    assert sparse.encode(x * 2) is None or not x.any()
    for stride in (1, 2):
        assert torch.equal(sparse.pool(bits, stride).dense(), F.max_pool2d(x, 3, stride, 1))


@pytest.mark.parametrize("timesteps", [None, 5], ids=["frames", "static"])
def test_neuron_fires_the_same_bits(timesteps):
    torch.manual_seed(0)
    x = torch.randn(1 if timesteps else 4, 2, 70, 5, 3) * 2 + 0.5
    for neuron in (LIF(tau=1.7), LIF(reset="soft"), IF(threshold=0.7), PLIF(tau=3.0)):
        with torch.no_grad():
            floats = neuron(x, None, timesteps)
            neuron.readers = (MaxPool(2),)
            bits = neuron(x, None, timesteps)
        assert isinstance(bits, Spikes) and torch.equal(bits.dense(), floats) and floats.any()


@pytest.mark.parametrize("size", [(4, 2, 70, 96, 9, 5), (1, 1, 64, 40, 3, 3), (3, 1, 600, 33, 20, 2)], ids=str)
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_convolution_fires_the_same_bits(size, kernel, weights):
    torch.manual_seed(0)
    T, B, C, D, H, W = size
    layer = SparseConv2d(nn.Conv2d(C, D, kernel, padding=kernel // 2), True, weights)
    nn.init.normal_(layer.weight, std=0.3), nn.init.constant_(layer.bias, 0.3)
    x = sparse.encode(spikes(T * B, C, H, W))
    for neuron in (LIF(), IF(reset="soft"), PLIF(tau=3.0)):
        with torch.no_grad():
            expected = neuron(layer(x).unflatten(0, (T, B)))
            got = layer.fire(x.unflatten(0, (T, B)), neuron)
        assert torch.equal(got.dense(), expected) and expected.any() and not expected.all()


@pytest.mark.parametrize("size", [(1, 2, 3, 48, 9, 13), (3, 2, 2, 32, 6, 6), (2, 1, 1, 100, 5, 1), (1, 1, 4, 17, 3, 8)])
@pytest.mark.parametrize("threads", [1, 2])
def test_first_convolution_fires_the_same_bits(size, threads):
    """Of numbers whose sums are exact, so that any order of adding gives the same."""
    torch.manual_seed(0)
    T, B, C, D, H, W = size
    conv = nn.Conv2d(C, D, 3, padding=1)
    for p in (conv.weight, conv.bias):
        p.data = torch.randint(-8, 12, p.shape) / 16
    layer, x, before = ImageConv2d(conv), torch.randint(0, 9, (T, B, C, H, W)) / 4, torch.get_num_threads()
    for neuron in (LIF(), IF(reset="soft", threshold=0.7)):
        neuron.readers = (MaxPool(2),)
        with torch.no_grad():
            currents = layer(x.flatten(0, 1)).unflatten(0, (T, B))
            assert layer.fires(x, nn.Identity(), neuron)
            try:
                torch.set_num_threads(threads)
                got = layer.fire(x, neuron, 4 if T == 1 else T)
            finally:
                torch.set_num_threads(before)
            neuron.readers = ()
            expected = neuron(currents, None, 4 if T == 1 else T)
        assert torch.equal(got.dense(), expected) and expected.any() and not expected.all()


def test_threads_of_a_fork_and_of_callers_beside_each_other():
    torch.manual_seed(0)
    x, before = sparse.encode(spikes(4, 96, 30, 30)), torch.get_num_threads()
    weight = sparse.pack(torch.randn(200, 96, 3, 3))
    try:
        torch.set_num_threads(3)
        expected = sparse.convolve(x, weight, None, 200)
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda _: sparse.convolve(x, weight, None, 200), range(16)))
        assert all(torch.equal(y, expected) for y in results)
        child = os.fork()
        if child == 0:  # compared without PyTorch's threads, which a fork has not
            os._exit(0 if (sparse.convolve(x, weight, None, 200).numpy() == expected.numpy()).all() else 1)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("event_mode", [False, True])
@pytest.mark.parametrize("size", [(2, 2, 64, 3, 4, 8), (1, 1, 192, 4, 4, 8), (3, 1, 128, 2, 2, 1)], ids=str)
def test_attention_on_bits_equals_floats(event_mode, size):
    torch.manual_seed(0)
    T, B, D, H, W, heads = size
    x = (torch.rand(T, B, 3 * D, H, W) < 0.3).float()
    gate, op = LIF(threshold=0.5), SDSA1Op(heads, event_mode)
    q, k, v = x.chunk(3, 2)
    if event_mode:
        k, v = (F.max_pool2d(s.flatten(0, 1), 3, 1, 1).unflatten(0, (T, B)) for s in (k, v))
    with torch.no_grad():
        expected, got = op(q, k, v, gate), sparse.sdsa(sparse.encode(x), gate, heads, event_mode)
    assert torch.equal(got.dense(), expected) and expected.any() and not expected.all()


def network(data="digits", *overrides, dim=64, **more):
    """A network that fires throughout."""
    torch.manual_seed(0)
    model = spikefront.create_model(f"sdt_2_{dim}", data=data, num_classes=3, overrides=list(overrides), **more)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 1, 2), nn.init.uniform_(m.bias, 0, 0.6)
            m.momentum = 1.0
    with torch.no_grad():
        model.train()(images(data))
    return model.eval()


def images(data="digits"):
    generator = torch.Generator().manual_seed(0)
    if data == "digits":
        return torch.rand(6, 1, 8, 8, generator=generator)
    return (torch.rand(3, 6, 2, 16, 16, generator=generator) < 0.3).float()


SOME = (
    "digits",
    "digits neuron=plif",
    "digits neuron=ilif",
    "digits_dvs",
    "digits residual=pre_spike",
    "digits residual=vanilla neuron.threshold=0.3",
    "digits attention=sdsa3",
    *(f"digits {more}" for more in ("embedding=conv_stem", "attention=ssa", "attention=softmax")),
    *(f"digits attention={a}" for a in ("qkta", "none")),
)


@pytest.mark.parametrize("choice", [True, "auto"])
@pytest.mark.parametrize("options", few(SOME))
def test_networks_are_equal(options, choice):
    options = options.split()
    model, x = network(*options), images(options[0])
    dense, fast = model.for_inference(), model.for_inference(sparse=choice)
    layers = [m for m in fast.modules() if isinstance(m, SparseConv2d)]
    with torch.inference_mode():
        expected, got, again = dense(x, per_step=True), fast(x, per_step=True), fast(x, per_step=True)
    assert expected.std() > 1e-4 and len(layers) >= 6
    assert any(isinstance(m, ImageConv2d) for m in fast.modules()) == ("embedding=conv_stem" not in options)
    # a potential within rounding of the threshold may flip a spike: few outputs may differ at all
    for y in (got, again):
        close = torch.isclose(y, expected, rtol=1e-4, atol=1e-4).float().mean()
        assert close > 0.9, (y - expected).abs().max()
    assert all(m.sparse is not None for m in layers)
    if choice == "auto":
        assert sum(m.rate is not None and m.crossover > 0 for m in layers) >= 6


def test_golden_spikes_are_those_of_float64():
    """In double nothing is sparse, and the network is the published one: its firing rates are what ours must be."""
    model, x = network(), images()
    rates = []
    for m in (model.double(), model.float().for_inference(sparse=True)):
        report = spikefront.measure_energy(m, x.to(next(m.parameters()).dtype))
        rates.append(report.firing_rate)
    assert rates[0] == pytest.approx(rates[1], rel=2e-3) and rates[0] > 0.02


@pytest.mark.parametrize("data", ["digits", "digits_dvs"])
def test_energy_is_counted_the_same(data):
    model, x = network(data), images(data)
    dense, fast = (spikefront.measure_energy(model.for_inference(s), x) for s in (False, True))
    assert fast.total_joules == pytest.approx(dense.total_joules, rel=2e-3)
    assert [r.name for r in fast.layers] == [r.name for r in dense.layers]
    undecided = model.for_inference("auto")
    spikefront.measure_energy(undecided, x)
    assert all(m.sparse is None for m in undecided.modules() if isinstance(m, SparseConv2d))


def test_spikes_travel_as_bits_unless_watched():
    fast, x, seen = network().for_inference(sparse=True), images(), []
    forward = SparseConv2d.forward
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(SparseConv2d, "forward", lambda self, s: seen.append(type(s)) or forward(self, s))
        unwatched = fast(x)
        assert set(seen) == {Spikes}
        seen.clear()
        hook = fast.block[0].mlp.fc2_conv.register_forward_pre_hook(lambda m, a: seen.append(a[0].dtype))
        watched = fast(x)
    hook.remove()
    assert torch.float32 in seen
    torch.testing.assert_close(watched, unwatched, rtol=1e-4, atol=1e-4)


def test_another_choice_is_refused():
    with pytest.raises(UserError, match="use True, False or 'auto'"):
        network().for_inference(sparse="always")
    with pytest.raises(UserError, match="use 'float32', 'bfloat16', 'int8' or 'auto'"):
        network().for_inference(sparse=True, weights="float16")
    with pytest.raises(UserError, match="only sparse layers hold those"):
        network().for_inference(weights="bfloat16")


@pytest.mark.parametrize("choice", [True, "auto"])
def test_bfloat16_weights_are_those_of_spikes_alone(choice):
    model, x = network(), images()
    plain, fast = model.for_inference(sparse=choice), model.for_inference(sparse=choice, weights="bfloat16")
    rounded = 0
    for (name, a), (_, b) in zip(plain.named_modules(), fast.named_modules(), strict=True):
        if isinstance(a, SparseConv2d):
            assert torch.equal(b.weight, a.weight.bfloat16().float()) and not torch.equal(b.weight, a.weight), name
            a.weight.copy_(b.weight)
            rounded += 1
        elif isinstance(a, nn.Conv2d | nn.Linear):
            assert torch.equal(b.weight, a.weight), name
    assert rounded >= 6 and "bfloat16" in repr(fast) and "bfloat16" not in repr(plain)
    with torch.inference_mode():
        expected = plain(x)
        for y in (fast(x), fast(x)):
            assert torch.isclose(y, expected, rtol=1e-4, atol=1e-4).float().mean() > 0.9
    assert all(not torch.equal(m.weight, m.weight.bfloat16().float()) for m in model.modules() if type(m) is nn.Conv2d)


@pytest.mark.slow
def test_without_a_compiler_it_is_dense_and_says_so_once():
    code = """
import torch, spikefront
model = spikefront.create_model("sdt_1_16", data="digits", num_heads=2)
for choice in ("auto", True):
    fast = model.for_inference(sparse=choice)
    fast(torch.rand(2, 1, 8, 8))
spikefront.create_model("sdt_1_16", data="digits", num_heads=2, sparse=True)(torch.rand(2, 1, 8, 8)).sum().backward()
assert not any(type(m).__name__ == "SparseConv2d" for m in fast.modules())
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PATH": "/nowhere"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("no compiled kernels") == 1
