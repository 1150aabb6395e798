"""Whole networks on the device: as on the CPU, under mixed precision, compiled, as CUDA graphs."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from spikefront.nn import SpikeDrivenTransformer

CUDA = torch.cuda.is_available()


def network(**settings):
    torch.manual_seed(0)
    sizes = {"timesteps": 4, "in_channels": 1, "num_classes": 10, "image_size": 8, "pooling": "0011", "num_heads": 4}
    model = SpikeDrivenTransformer(**{"depth": 2 if CUDA else 1, "dim": 64 if CUDA else 16, **sizes, **settings})
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, 0.3)
    return model


def images(count=16):
    return torch.rand(count if CUDA else 2, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def step(model, x, **autocast):
    for p in model.parameters():
        p.grad = None
    with torch.autocast(x.device.type, **autocast, enabled=bool(autocast)):
        y = model(x, per_step=True)
    y.float().square().sum().backward()
    return y.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def far(found, expected):
    """Relative distance of all gradients together."""
    a, b = (torch.cat([g[n].double().cpu().flatten() for n in expected]) for g in (found, expected))
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("events", [False, True], ids=["images", "events"])
def test_float32_is_as_float64_on_the_cpu(events, device):
    settings = {"event_mode": True, "in_channels": 2} if events else {}
    model = network(**settings)
    x = (torch.rand(4 if CUDA else 1, 4, 2, 8, 8) < 0.3).float() if events else images()
    y, expected = step(copy.deepcopy(model).double(), x.double())
    mine = model.to(device)
    found, gradients = step(mine, x.to(device))
    assert gradients.keys() == expected.keys()
    torch.testing.assert_close(found.double().cpu(), y, rtol=1e-2, atol=1e-3)
    assert far(gradients, expected) < 0.05  # a spike at the threshold may flip
    mine.eval()
    again = mine(x.to(device))
    torch.testing.assert_close(mine.for_inference()(x.to(device)), again, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=lambda d: str(d)[6:])
def test_mixed_precision_trains_alike(dtype, device):
    """A spike flips here and there, gradients point the same way; the scaler finds none of them infinite."""
    model, x = network().to(device), images(64).to(device)
    _, expected = step(model, x)
    scaler = torch.amp.GradScaler(device, enabled=dtype == torch.float16, init_scale=2.0**16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with torch.autocast(device, dtype):
        loss = model(x, per_step=True).float().square().mean()
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scale = scaler.get_scale()
    scaler.update()
    assert scaler.get_scale() >= scale
    a, b = (torch.cat([g[n].flatten().double() for n in expected]) for g in (dict(gradients(model)), expected))
    if CUDA:
        assert torch.nn.functional.cosine_similarity(a, b, dim=0) > 0.9
    assert torch.isfinite(a).all()


def gradients(model):
    return ((n, p.grad) for n, p in model.named_parameters() if p.grad is not None)


def test_compiles_without_a_break_and_agrees(device):
    model, x = network().to(device), images().to(device)
    if CUDA:
        model = model.to(memory_format=torch.channels_last)
    other = copy.deepcopy(model)
    y, expected = step(model, x)
    compiled = torch.compile(other, fullgraph=True, backend="inductor" if CUDA else "aot_eager")
    found, grads = step(compiled, x)
    grads = {n.removeprefix("_orig_mod."): g for n, g in grads.items()}
    torch.testing.assert_close(found, y, rtol=1e-2, atol=1e-3)
    assert far(grads, expected) < 0.05
    for (name, a), b in zip(model.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.cuda
def test_a_step_as_a_cuda_graph_replays_alike():
    model, x = network().cuda(), images().cuda()
    y, expected = step(model, x)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step(model, x)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found, grads = step(model, x)
    for _ in range(2):
        graph.replay()
    torch.cuda.synchronize()
    torch.testing.assert_close(found, y, rtol=1e-4, atol=1e-5)
    assert far(grads, expected) < 0.01
    assert model.patch_embed.proj_bn.num_batches_tracked == 4  # two steps and two replays


@pytest.mark.cuda
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels-last"])
def test_memory_formats_of_weights_agree(last):
    model, x = network().cuda(), images().cuda()
    y, expected = step(copy.deepcopy(model), x)
    other = model.to(memory_format=torch.channels_last) if last else model
    found, grads = step(other, x.contiguous(memory_format=torch.channels_last) if last else x)
    torch.testing.assert_close(found, y, rtol=1e-2, atol=1e-3)
    assert far(grads, expected) < 0.05
