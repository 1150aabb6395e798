"""Kernels as PyTorch's operators: what they give without data, their gradients, compiled and transformed."""

from __future__ import annotations

import pytest
import torch
from examples import few
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import spikefront
from spikefront.nn import LIF, PLIF, Integer, kernels
from spikefront.nn.inference import for_inference
from spikefront.nn.kernels import fire_pooled
from spikefront.nn.kernels.build import library

pytestmark = pytest.mark.skipif(library("neuron") is None, reason="no compiled kernels here")
OPERATORS = {"neuron", "neuron_backward", "neuron_pooled", "norm", "norm_backward", "moments"}
OPERATORS |= {"max_pool", "max_pool_backward", "pack", "unpack", "norm_pool", "norm_pool_backward"}
OPERATORS |= {"levels", "levels_backward", "levels_norm_backward"}


class Recorder(TorchDispatchMode):
    """Every call of our operators."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "spikefront":
            self.calls.append((func, args))
        return func(*args, **(kwargs or {}))


def network(neuron: str = "lif"):
    torch.manual_seed(0)
    model = spikefront.create_model("sdt_1_32", data="digits", num_classes=3, overrides=[f"neuron={neuron}"])
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.constant_(m.weight, 2.0), nn.init.constant_(m.bias, 0.5)
    return model.train()


def recorded():
    """One call of every operator, of those with options one of each kind."""
    frames = torch.randn(2, 24, 6, 6).contiguous(memory_format=torch.channels_last)
    sequence = torch.randn(6, 24, 6, 6).contiguous(memory_format=torch.channels_last).unflatten(0, (3, 2))
    planes, spikes = torch.randn(2, 36, 4, 6).transpose(1, 2), (torch.rand(4096) < 0.2).float()
    norm, static = nn.BatchNorm2d(24), torch.randn(1, 2, 5, requires_grad=True)
    with Recorder() as seen:
        for x in (sequence.requires_grad_(), sequence.detach().bfloat16().requires_grad_()):
            for neuron in (LIF(), PLIF(tau=3.0)):
                neuron(x, norm).float().square().sum().backward()
                neuron(x, norm, before=x).float().square().sum().backward()
                neuron(x, norm, after=x).float().square().sum().backward()
            for other in (None, x):
                kernels.normalise(x, norm, other).float().square().sum().backward()
            for before in (None, norm):
                Integer()(x, before).float().square().sum().backward()
            kernels.normalise_pooled(x, norm, kernels.MaxPool(2)).float().square().sum().backward()
        LIF()(static, None, 4).sum().backward()
        for stride, x in ((2, frames), (1, planes)):
            kernels.MaxPool(stride)(x.requires_grad_()).square().sum().backward()
        with torch.no_grad():
            kernels.MaxPool(2)(frames), fire_pooled(sequence, LIF(), norm, kernels.MaxPool(2))
        with kernels.packed_spikes():
            (spikes * torch.ones(4096, requires_grad=True)).sum().backward()
    return seen.calls


@pytest.mark.slow
def test_every_operator_passes_pytorchs_own_checks():
    calls = recorded()
    assert {func._overloadpacket.__name__ for func, _ in calls} == OPERATORS
    for func, arguments in calls:
        name = func._overloadpacket.__name__
        learns = name in ("neuron", "norm", "levels", "norm_pool")  # others have no second gradient
        learns |= name == "max_pool" and arguments[-1]
        again = [
            a.detach().requires_grad_(learns and a.requires_grad) if isinstance(a, torch.Tensor) else a
            for a in arguments
        ]
        torch.library.opcheck(func, tuple(again))


@pytest.mark.slow  # compiled in evaluation: test_fast.py, test_proofs.py
@pytest.mark.parametrize(("neuron", "training"), [("lif", True), ("lif", False), ("plif", True), ("plif", False)])
def test_a_network_is_compiled_whole_and_fires_the_same(training, neuron):
    model, images = network(neuron).train(training), torch.rand(16, 1, 8, 8)
    before = {k: v.clone() for k, v in model.state_dict().items()}

    def run(forward):
        model.load_state_dict(before), model.zero_grad()
        logits = forward(images)
        logits.square().sum().backward()
        return logits.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None), *model.buffers()

    plain = [t.clone() for t in run(model)]
    compiled = run(torch.compile(model, backend="aot_eager", fullgraph=True))
    assert plain[0].std() > 0
    for a, b in zip(compiled, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_tensors_without_data_go_through_the_same_operators():
    with torch.device("meta"):
        model, images = network(), torch.rand(16, 1, 8, 8)
    with Recorder() as seen:
        model(images).sum().backward()
    assert {"neuron", "neuron_backward", "norm"} <= {f._overloadpacket.__name__ for f, _ in seen.calls}
    assert all(p.grad.is_meta and p.grad.shape == p.shape for p in model.parameters() if p.grad is not None)


def test_what_is_exported_knows_none_of_our_operators():
    model, images = network().eval(), torch.rand(2, 1, 8, 8)
    program = torch.export.export(model, (images,))
    assert "spikefront" not in str(program.graph)
    torch.testing.assert_close(program.module()(images), model(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sparse", few([True, False, None]))
def test_what_is_traced_knows_none_either(sparse):
    """Sizes are tensors while TorchScript traces, as ONNX exporters do: no kernel may see them."""
    model, images = network().eval(), torch.rand(2, 1, 8, 8)
    model = model if sparse is None else for_inference(model, sparse=sparse)
    with torch.no_grad():
        traced = torch.jit.trace(model, (images,))
        assert "spikefront::" not in str(traced.inlined_graph)
        torch.testing.assert_close(traced(images), model(images), rtol=1e-4, atol=1e-5)


def test_switched_off_is_plain_pytorch():
    with Recorder() as seen, kernels.switched(False):
        network()(torch.rand(2, 1, 8, 8))
    assert not seen.calls
