"""``model.compile`` and ``model.checkpoint_blocks`` on the CPU: the same network, step by step."""

from __future__ import annotations

import copy

import pytest
import torch

import spikefront
from spikefront.errors import UserError
from spikefront.nn import SpikeDrivenTransformer

compiled = torch.compile


def network(**settings):
    torch.manual_seed(0)
    sizes = {"num_heads": 2, "timesteps": 2, "in_channels": 1, "num_classes": 3, "image_size": 8, "pooling": "0011"}
    return SpikeDrivenTransformer(1, 16, **sizes, **settings)


def agree(one, other, x):
    for model in (one, other):
        model(x).square().sum().backward()
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), name
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5, msg=name)
    for (name, a), b in zip(one.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


@pytest.mark.slow
def test_compiled_is_the_same_and_the_meter_looks_inside(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda run: compiled(run, backend="aot_eager"))
    plain, fast, x = network(), network(compile=True), torch.rand(2, 1, 8, 8)
    agree(plain, fast, x)
    assert fast.fast._compiled and not copy.deepcopy(fast).fast._compiled
    assert spikefront.measure_energy(fast, x).total_joules == spikefront.measure_energy(plain, x).total_joules


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])  # compiled kernels, and none
def test_recomputed_blocks_give_the_same_gradients_and_running_statistics(dtype):
    agree(network().to(dtype), network(checkpoint_blocks=True).to(dtype), torch.rand(2, 1, 8, 8, dtype=dtype))


def test_what_a_graph_cannot_do_is_refused():
    with pytest.raises(UserError, match=r"model\.drop_path"):
        network(compile=True, checkpoint_blocks=True, drop_path=0.1)
