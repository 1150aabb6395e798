"""Compiled kernels against their plain PyTorch twins, and how they are built."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from twins import SHAPES, both, layouts, needs_compiler

from spikefront.nn import (
    IF,
    LIF,
    PLIF,
    ATan,
    FastSigmoid,
    Integer,
    Rectangle,
    Sigmoid,
    StraightThrough,
    Triangle,
    kernels,
)
from spikefront.nn.kernels import packing
from spikefront.nn.layers import Fired, branch_onto, conv_bn, conv_bn_add_fire, conv_bn_fire, over_frames
from spikefront.nn.residuals import PreSpikeResidual

SURROGATES = [Sigmoid(), ATan(), Triangle(1.3, 0.7), FastSigmoid(), Rectangle(), StraightThrough()]


@needs_compiler
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: type(s).__name__)
def test_neuron_equals_pytorch(surrogate, shape):
    torch.manual_seed(0)
    for x in layouts(torch.randn(shape) * 2 + 0.5):
        weight = torch.randn(shape)
        for reset, detach in itertools.product(("hard", "soft"), (True, False)):
            kwargs = {"reset": reset, "detach_reset": detach, "surrogate": surrogate}
            for neuron in (LIF(tau=1.7, **kwargs), IF(**kwargs), PLIF(tau=3.0, **kwargs)):

                def run(neuron=neuron, x=x, weight=weight):
                    neuron.zero_grad()
                    y = x.clone(memory_format=torch.preserve_format).requires_grad_()
                    spikes = neuron(y)
                    (spikes * weight).sum().backward()
                    return spikes.detach(), y.grad, *(p.grad.clone() for p in neuron.parameters())

                fused, plain = both(run)
                assert torch.equal(fused[0], plain[0]) and fused[0].any()
                for a, b in zip(fused[1:], plain[1:], strict=True):
                    torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-5)


@needs_compiler
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("timesteps", [None, 4], ids=["frames", "static"])
def test_normalised_neuron_equals_pytorch(training, timesteps):
    torch.manual_seed(0)
    for x in layouts(torch.randn(1 if timesteps else 3, 2, 5, 9, 8)):
        conv, weight = nn.Conv2d(5, 24, 3), torch.randn(timesteps or 3, 2, 24, 7, 6)

        def run(x=x, conv=conv, weight=weight):
            torch.manual_seed(1)
            bn = nn.BatchNorm2d(24).train(training)
            nn.init.uniform_(bn.weight, 1, 3), nn.init.normal_(bn.bias)
            nn.init.normal_(bn.running_mean, std=0.1), nn.init.uniform_(bn.running_var, 0.5, 1)
            conv.zero_grad()
            y = x.clone(memory_format=torch.preserve_format).requires_grad_()
            spikes = conv_bn_fire(y, conv, bn, LIF(), timesteps)
            (spikes * weight).sum().backward()
            gradients = [y.grad, conv.weight.grad.clone(), bn.weight.grad, bn.bias.grad]
            return spikes.detach(), *gradients, *(b.clone() for b in bn.buffers())

        fused, plain = both(run)
        assert torch.equal(fused[0], plain[0]) and 0.05 < fused[0].mean() < 0.95
        for a, b in zip(fused[1:], plain[1:], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-4)


@needs_compiler
@pytest.mark.parametrize(("stride", "size"), itertools.product((1, 2), ((8, 8), (7, 5), (1, 3))))
def test_pooling_equals_pytorch(stride, size):
    torch.manual_seed(0)
    for x in (torch.randn(3, 6, *size), (torch.rand(3, 6, *size) < 0.3).float()):
        x = x.contiguous(memory_format=torch.channels_last)

        def run(x=x):
            y = x.clone().requires_grad_()
            out = kernels.MaxPool(stride)(y)
            (out * torch.arange(out.numel()).view(out.shape)).sum().backward()
            with torch.no_grad():
                assert torch.equal(kernels.MaxPool(stride)(x), out)
            return out.detach(), y.grad

        fused, plain = both(run)
        assert all(torch.equal(a, b) for a, b in zip(fused, plain, strict=True))


@needs_compiler
@pytest.mark.parametrize("channels", [6, 16, 40])
@pytest.mark.parametrize(("stride", "size"), itertools.product((1, 2), ((8, 8), (7, 5), (1, 3))))
def test_pooling_in_bfloat16_equals_float32(stride, size, channels):
    """Of the same values: with ties, zeros of either sign, and gradients whose sums are exact in both."""
    torch.manual_seed(0)
    values = (torch.randn(3, channels, *size) * 2).round().contiguous(memory_format=torch.channels_last)
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        x = values.to(dtype).requires_grad_()
        out = kernels.MaxPool(stride)(x)
        (out * (torch.arange(out.numel()) % 7).view(out.shape).to(dtype)).sum().backward()
        planes = values.to(dtype).permute(0, 2, 3, 1).reshape(3, -1, 2, channels // 2).transpose(1, 2).requires_grad_()
        pooled = kernels.MaxPool(1)(planes)
        (pooled * (torch.arange(pooled.numel()) % 7).view(pooled.shape).to(dtype)).sum().backward()
        assert {t.dtype for t in (out, x.grad, pooled, planes.grad)} == {dtype}
        results.append([t.detach().float() for t in (out, x.grad, pooled, planes.grad)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@needs_compiler
@pytest.mark.parametrize(
    "shape", [(4, 2, 7, 9, 9), (1, 3, 64, 40, 33), (3, 1, 520, 2, 2), (2, 2, 48, 64, 100), (5, 2, 8, 1, 2)]
)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_firing_and_pooling_in_one_pass_is_both(shape, stride, dtype):
    torch.manual_seed(0)
    plain = torch.randn(shape) * 2 + 0.5
    x = list(layouts(plain))[-1].to(dtype)
    norm = nn.BatchNorm2d(shape[2])
    for parameter in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(parameter, 0.5)
    pool, timesteps = kernels.MaxPool(stride), 4 if shape[0] == 1 else None
    for neuron in (LIF(tau=1.7), IF(reset="soft"), PLIF(tau=3.0)):
        for bn in (norm.eval(), norm.train(), nn.Identity()):
            with torch.no_grad():
                together = kernels.fire_pooled(x, neuron, bn, pool, timesteps)
                assert together is not None and together.dtype == dtype
                assert torch.equal(together, over_frames(neuron(x, bn, timesteps), pool))
                assert kernels.fire_pooled(plain.to(dtype), neuron, bn, pool, timesteps) is None
            assert 0 < together.float().mean() < 1 or shape[3] < 3
            assert kernels.fire_pooled(x, neuron, bn, pool, timesteps) is None  # gradients may be wanted
            with torch.no_grad():
                handle = neuron.register_forward_hook(lambda *_: None)
                assert kernels.fire_pooled(x, neuron, bn, pool, timesteps) is None  # someone counts its spikes
                handle.remove()


@needs_compiler
@pytest.mark.parametrize("size", [(3, 4, 70, 32), (2, 2, 5, 7), (1, 3, 1, 4), (2, 2, 6, 1)], ids=str)
def test_pooling_of_heads_planes_equals_pytorch(size):
    torch.manual_seed(0)
    frames, heads, tokens, width = size
    for x in (torch.randn(frames, tokens, heads, width), (torch.rand(frames, tokens, heads, width) < 0.2).float()):

        def run(x=x):
            y = x.transpose(1, 2).clone(memory_format=torch.preserve_format).requires_grad_()
            out = kernels.MaxPool(1)(y)
            (out * torch.arange(out.numel()).view(out.shape)).sum().backward()
            return out.detach(), y.grad

        fused, plain = both(run)
        assert all(torch.equal(a, b) for a, b in zip(fused, plain, strict=True))


@needs_compiler
def test_batch_norm_equals_pytorch():
    torch.manual_seed(0)
    weight = torch.randn(3, 2, 24, 7, 6)
    for x in layouts(torch.randn(3, 2, 24, 7, 6) + 0.5):

        def run(x=x):
            torch.manual_seed(1)
            bn = nn.BatchNorm2d(24)
            nn.init.uniform_(bn.weight, 1, 3), nn.init.normal_(bn.bias)
            y = x.clone(memory_format=torch.preserve_format).requires_grad_()
            out = conv_bn(y, nn.Identity(), bn)
            (out * weight).sum().backward()
            return out.detach(), y.grad, bn.weight.grad, bn.bias.grad, *bn.buffers()

        for a, b in zip(*both(run), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@needs_compiler
def test_batch_norm_in_bfloat16_rounds_once_each_way():
    torch.manual_seed(0)
    for x in layouts((torch.randn(3, 2, 24, 7, 6) + 0.5).bfloat16()):
        weight, results = torch.randn(x.shape).bfloat16(), []
        for dtype in (torch.float32, torch.bfloat16):
            bn, y = nn.BatchNorm2d(24), x.to(dtype, copy=True).requires_grad_()
            nn.init.constant_(bn.weight, 2.0)
            out = conv_bn(y, nn.Identity(), bn)
            (out * weight.to(dtype)).sum().backward()
            assert out.dtype == y.grad.dtype == dtype
            results.append((out.detach(), y.grad, bn.weight.grad, bn.bias.grad))
        for exact, half in zip(results[0][:2], results[1][:2], strict=True):
            assert torch.equal(exact.bfloat16(), half)
        for exact, half in zip(results[0][2:], results[1][2:], strict=True):
            torch.testing.assert_close(exact, half, rtol=1e-5, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [4096, 4099, 70001])
def test_only_zeros_and_ones_become_bits(size, dtype):
    torch.manual_seed(0)
    spikes = (torch.rand(size) < 0.2).to(dtype)
    spikes[3] = -0.0
    bits, *_ = kept = packing.keep(spikes)
    assert bits.numel() == (size + 7) // 8 and torch.equal(packing.restore(kept), spikes)
    for at in (0, size // 2, size - 1):
        other = spikes.clone()
        other[at] = 1.0078125  # the next number after 1 in bfloat16
        assert packing.keep(other) is other


@needs_compiler
def test_spikes_are_kept_as_bits():
    torch.manual_seed(0)
    spikes, weight = (torch.rand(2, 5, 33, 33) < 0.2).float(), torch.randn(7, 5, 3, 3, requires_grad=True)
    for x in (spikes, spikes.contiguous(memory_format=torch.channels_last), spikes * 2, torch.randn(2, 5, 33, 33)):
        kept: list = []

        def pack(t, kept=kept):
            kept.append(packing.keep(t))
            return kept[-1]

        with torch.autograd.graph.saved_tensors_hooks(pack, packing.restore):
            loss = F.conv2d(x, weight).square().sum()
        assert any(isinstance(k, tuple) for k in kept) == (x.max() == 1)
        packed = torch.autograd.grad(loss, weight)[0]
        torch.testing.assert_close(packed, torch.autograd.grad(F.conv2d(x, weight).square().sum(), weight)[0])


BUILD = "from spikefront.nn.kernels.build import library; import sys; sys.exit(library('neuron') is None)"


def processes(n, **environment):
    """``n`` at once, each building the kernels."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    started = [subprocess.Popen([sys.executable, "-c", BUILD], env=env, stderr=subprocess.PIPE) for _ in range(n)]
    errors = [p.communicate()[1].decode() for p in started]
    return [p.returncode for p in started], errors


@pytest.mark.slow
@needs_compiler
def test_several_processes_build_at_once(tmp_path):
    codes, errors = processes(3, SPIKEFRONT_CACHE=str(tmp_path / "cache"))
    assert codes == [0, 0, 0], errors
    assert [f.suffix for f in (tmp_path / "cache").iterdir()] == [".so"]


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"PATH": "/nowhere"}, id="PATH", marks=pytest.mark.slow),  # of a network: test_sparse.py
        pytest.param({"SPIKEFRONT_CACHE": "/proc/nowhere"}, id="cache", marks=pytest.mark.slow),
    ],
)
def test_without_a_build_says_so_once(broken):
    codes, errors = processes(1, **broken)
    assert codes == [1] and errors[0].count("no compiled kernels") == 1


@pytest.mark.slow
def test_switched_off_says_nothing():
    codes, errors = processes(1, SPIKEFRONT_KERNELS="off")
    assert codes == [1] and not errors[0]


@needs_compiler
def test_compiled_and_plain_networks_agree():
    """Firing rates and gradients of the whole network in float32, fused and plain."""
    import spikefront

    torch.manual_seed(0)
    model = spikefront.create_model("sdt_1_32", data="digits", num_classes=3).train()
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.constant_(m.weight, 2.0), nn.init.constant_(m.bias, 0.5)
    images, rates = torch.rand(16, 1, 8, 8), []
    for name, module in model.named_modules():
        if name.endswith("lif"):
            module.register_forward_hook(lambda m, i, o: rates.append(o.detach().mean()))

    def run():
        rates.clear()
        model.zero_grad()
        F.cross_entropy(model(images), torch.arange(16) % 3).backward()
        return torch.stack(rates), torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None])

    fused, plain = both(run)
    assert fused[0].min() > 0
    torch.testing.assert_close(fused[0], plain[0], rtol=0, atol=1e-3)
    torch.testing.assert_close(fused[1], plain[1], rtol=0.02, atol=1e-3)


@needs_compiler
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_bfloat16_neuron_integrates_in_float32(training):
    """The same spikes as in float32 from the same currents; gradients differ by the rounding of what goes in, out."""
    torch.manual_seed(0)
    for currents in layouts((torch.randn(4, 2, 24, 9, 8) * 2 + 0.5).bfloat16()):
        weight, results = torch.randn(currents.shape).bfloat16(), []
        for dtype in (torch.float32, torch.bfloat16):
            bn = nn.BatchNorm2d(24).train(training)
            nn.init.constant_(bn.weight, 2.0), nn.init.constant_(bn.bias, 0.5)
            x = currents.detach().to(dtype, copy=True).requires_grad_()
            spikes = LIF()(x, bn)
            (spikes * weight.to(dtype)).sum().backward()
            assert spikes.dtype == x.grad.dtype == dtype and spikes.stride() == currents.stride()
            results.append([t.float() for t in (spikes.detach(), x.grad, bn.weight.grad, bn.bias.grad, *bn.buffers())])
        assert torch.equal(results[0][0], results[1][0]) and 0.05 < results[0][0].mean() < 0.95
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-2)
        pooled = [kernels.MaxPool(2)(currents.flatten(0, 1).to(d)) for d in (torch.float32, torch.bfloat16)]
        assert torch.equal(pooled[0], pooled[1].float())
        assert torch.equal(packing.restore(packing.keep(spikes.detach())), spikes)


class Rates(nn.Module):
    """A network that returns the firing rate of every neuron."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.rates = model, []
        for name, module in model.named_modules():
            if name.endswith("lif"):
                module.register_forward_hook(lambda m, i, o: self.rates.append(o.float().mean()))

    def forward(self, images):
        self.rates.clear()
        self.model(images)
        return torch.stack(self.rates)


def firing() -> Rates:
    import spikefront

    torch.manual_seed(0)
    model = spikefront.create_model("sdt_1_32", data="digits", num_classes=3)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.constant_(m.weight, 2.0), nn.init.constant_(m.bias, 0.5)
            m.momentum = 1.0  # one batch settles it
    with torch.no_grad():
        model.train()(torch.rand(16, 1, 8, 8))
    return Rates(model)


@pytest.mark.parametrize(
    ("backend", "training"),
    [("aot_eager", False), ("inductor", False), ("inductor", True)],
)
@pytest.mark.slow  # one is compiled in test_operators.py
def test_compiled_by_torch_fires_the_same(backend, training):
    model, images = firing().train(training), torch.rand(16, 1, 8, 8)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fused, plain = both(lambda: model(images))
        compiled = torch.compile(model, backend=backend)(images)
    assert fused.min() > 0
    torch.testing.assert_close(fused, plain, rtol=0, atol=1e-3)
    torch.testing.assert_close(compiled, fused, rtol=0, atol=1e-3)


@needs_compiler
def test_network_under_autocast_runs_the_kernels():
    images, dtypes = torch.rand(16, 1, 8, 8), set()
    model = firing().eval()
    model.model.block[0].mlp.fc2_lif.register_forward_hook(lambda m, i, o: dtypes.add(o.dtype))
    with torch.no_grad():
        exact = model(images)
        with torch.autocast("cpu", torch.bfloat16):
            half = model(images)
            deployed = Rates(model.model.for_inference())(images)
    assert dtypes == {torch.float32, torch.bfloat16}
    torch.testing.assert_close(half, exact, rtol=0, atol=0.03)
    torch.testing.assert_close(deployed, exact, rtol=0, atol=0.03)
    with torch.autocast("cpu", torch.bfloat16):
        model.model.train()(images).square().sum().backward()
    assert all(p.grad.dtype == p.dtype and p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def branch(neuron, before):
    """``conv -> norm -> neuron`` with a shortcut ``before`` the neuron or after it, and what it is trained by."""
    torch.manual_seed(1)
    conv, bn = nn.Conv2d(5, 24, 3, padding=1), nn.BatchNorm2d(24)
    nn.init.uniform_(bn.weight, 1, 3), nn.init.normal_(bn.bias)

    def run(x, onto):
        out = conv_bn_add_fire(x, conv, bn, onto, neuron) if before else conv_bn(x, conv, bn, Fired(onto, neuron))
        return out, [conv.weight, bn.weight, bn.bias, *neuron.parameters()]

    return run


@needs_compiler
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("neuron", [LIF(), IF(reset="soft", detach_reset=False), PLIF(3.0)], ids=str)
def test_shortcuts_in_the_neurons_pass_equal_pytorchs(neuron, before):
    torch.manual_seed(0)
    for x, onto in zip(layouts(torch.randn(3, 2, 5, 7, 6)), layouts(torch.randn(3, 2, 24, 7, 6).round()), strict=True):
        weight = torch.randn(3, 2, 24, 7, 6)

        def run(x=x, onto=onto, weight=weight):
            x, onto = (t.clone(memory_format=torch.preserve_format).requires_grad_() for t in (x, onto))
            out, parameters = branch(neuron, before)(x, onto)
            return out.detach(), *torch.autograd.grad((out * weight).sum(), [x, onto, *parameters])

        fused, plain = both(run)
        assert torch.equal(fused[0], plain[0]) and (fused[0].unique().numel() == 2) == before
        for a, b in zip(fused[1:], plain[1:], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=5e-4)


@needs_compiler
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_shortcuts_in_the_neurons_pass_are_one_kernel(before, monkeypatch):
    """Unless someone looks at the neuron, whose input or output then is what it would be."""
    called, seen = [], []
    for module in map(sys.modules.get, ("spikefront.nn.kernels.fire", "spikefront.nn.kernels.norm")):
        monkeypatch.setattr(module, "call", lambda name, *a, call=module.call: called.append(name) or call(name, *a))
    x, onto = (next(itertools.islice(layouts(torch.randn(3, 2, c, 7, 6)), 1, 2)) for c in (5, 24))
    neuron = LIF()
    together, _ = branch(neuron, before)(x, onto)
    assert called == ["norm_moments", "neuron_forward"]
    neuron.register_forward_hook(lambda m, i, o: seen.append((i[0], o)))
    if before:
        apart, _ = branch(neuron, before)(x, onto)
        assert called[2:] == ["norm_moments", "norm_apply", "neuron_forward"] and torch.equal(seen[0][1], together)
    else:
        shortcut = PreSpikeResidual(lambda: neuron)
        apart = branch_onto(lambda: conv_bn(x, nn.Conv2d(5, 24, 1), nn.BatchNorm2d(24)), onto, shortcut, nn.Identity())
        assert torch.equal(onto + seen[0][1], apart)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norm_and_shortcut_in_one_pass(dtype):
    torch.manual_seed(0)
    for x, onto in zip(*(layouts(torch.randn(3, 2, 24, 7, 6).to(dtype)) for _ in "xo"), strict=True):

        def run(onto, x=x):
            x, onto = (t.clone(memory_format=torch.preserve_format).requires_grad_() for t in (x, onto))
            bn = nn.BatchNorm2d(24)
            out = conv_bn(x, nn.Identity(), bn, onto)
            return out.detach(), *torch.autograd.grad(out.float().square().sum(), [x, onto, bn.weight, bn.bias])

        fused = run(onto)
        with torch.no_grad():
            apart = onto + conv_bn(x, nn.Identity(), nn.BatchNorm2d(24))
        torch.testing.assert_close(fused[0], apart, rtol=0, atol=0 if dtype == torch.float32 else 0.04)
        torch.testing.assert_close(fused[2], 2 * fused[0])
        other_layout = run(onto.contiguous() if onto.stride(2) == 1 else onto.transpose(3, 4).contiguous().mT)
        for a, b in zip(fused, other_layout, strict=True):
            exact = dtype == torch.float32 or a.dtype == dtype  # those of the norm add up what was rounded twice
            torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-4 if dtype == torch.float32 else 0.08 if exact else 1)


@needs_compiler
@pytest.mark.parametrize("shape", [(4, 2, 7, 9, 9), (1, 3, 64, 20, 17), (3, 1, 520, 2, 2), (2, 2, 48, 1, 30)], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norm_and_pool_in_one_pass_are_both(shape, stride, dtype):
    """The other: float32 in two passes, of the same values; of equal ones in bfloat16 it knows which was larger."""
    torch.manual_seed(0)
    x = list(layouts(torch.randn(shape).to(dtype)))[-1]
    pool, weight, results = kernels.MaxPool(stride), None, []
    for kind in (dtype, torch.float32):
        bn, y = nn.BatchNorm2d(shape[2]), x.to(kind, copy=True).requires_grad_()
        with torch.no_grad():
            bn.weight.copy_(torch.linspace(-2, 3, shape[2])), bn.bias.copy_(torch.linspace(1, -1, shape[2]))
        pooled = kernels.normalise_pooled(y, bn, pool) if not results else over_frames(kernels.normalise(y, bn), pool)
        weight = torch.randn(pooled.shape).to(dtype) if weight is None else weight
        (pooled * weight.to(kind)).sum().backward()
        assert pooled.dtype == y.grad.dtype == kind and y.grad.stride() == x.stride()
        results.append([t.detach() for t in (pooled, y.grad, bn.weight.grad, bn.bias.grad, *bn.buffers())])
    assert torch.equal(results[0][0], results[1][0].to(dtype))
    exact = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 0.05}
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, check_dtype=False, **exact)


@needs_compiler
def test_norm_and_pool_are_apart_where_someone_looks():
    x, pool = list(layouts(torch.randn(3, 2, 24, 7, 6)))[-1], kernels.MaxPool(2)
    bn = nn.BatchNorm2d(24)
    assert kernels.normalise_pooled(x, bn, pool) is not None
    assert kernels.normalise_pooled(x.contiguous(), bn, pool) is None
    assert kernels.normalise_pooled(x, bn.eval(), pool) is None
    pool.register_forward_hook(lambda *_: None)
    assert kernels.normalise_pooled(x, bn.train(), pool) is None


@needs_compiler
@pytest.mark.parametrize("name", ["maxformer_cifar", "qkformer_cifar", "spikformer_2_256", "spikingresformer_cifar"])
def test_networks_with_shortcuts_in_kernels_agree(name):
    import spikefront

    torch.manual_seed(0)
    sizes = {"data": "digits", "num_classes": 3} | ({"dim": 64} if "2_256" not in name else {})
    model, images = spikefront.create_model(name, **sizes), torch.rand(4, 1, 8, 8)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.constant_(m.bias, 0.5)
            m.momentum = 1.0  # one batch settles it

    def run(training):
        logits = model.train(training)(images)
        return logits.detach(), *torch.autograd.grad(logits.square().sum(), list(model.parameters()), allow_unused=True)

    for training in (True, False):
        fused, plain = both(lambda training=training: run(training))
        torch.testing.assert_close(fused[0], plain[0], rtol=1e-3, atol=1e-3)
        assert fused[0].std() > 0
        norms = [torch.stack([g.norm() for g in found[1:] if g is not None]) for found in (fused, plain)]
        torch.testing.assert_close(*norms, rtol=2e-2, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(model.for_inference()(images), fused[0], rtol=1e-3, atol=1e-3)


@needs_compiler
@pytest.mark.parametrize("neuron", [LIF(), Integer()], ids=str)
def test_spikes_take_the_place_of_currents_that_nobody_else_has(neuron):
    """Without gradients; where a hook looks at these, and of a frame shown several times, they have their own."""
    torch.manual_seed(0)
    conv, given, frames = nn.Conv2d(5, 24, 3, padding=1), [], torch.randn(3, 2, 5, 7, 6)
    convolve = conv._conv_forward
    conv._conv_forward = lambda *a: given.append(convolve(*a)) or given[-1]

    def fired(frames=frames, timesteps=None):
        return conv_bn_fire(frames, conv, nn.BatchNorm2d(24).eval(), neuron, timesteps)

    apart = fired().detach()
    assert apart.data_ptr() != given[-1].data_ptr() and 0 < apart.mean() < 1
    with torch.inference_mode():
        assert torch.equal(fired(), apart) and torch.equal(given[-1].view(apart.shape), apart)
        static = fired(frames[:1], 4)
        assert static.shape[0] == 4 and torch.equal(static[0], apart[0])
        looked = conv.register_forward_hook(lambda *_: None)
        assert torch.equal(fired(), apart) and not torch.equal(given[-1].view(apart.shape), apart)
        looked.remove()
