"""``model.compile=true``: a network replayed as CUDA graphs is the network."""

from __future__ import annotations

import pytest
import torch
from test_networks import far, images, network, step

import spikefront
from spikefront.nn import PLIF


def pair(**settings):
    """The same network twice, the second with graphs, both on the device."""
    plain = network(**settings)
    fast = network(**settings, compile=True)
    fast.load_state_dict(plain.state_dict())
    return plain.cuda(), fast.cuda()


@pytest.mark.cuda
@pytest.mark.parametrize("half", [None, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("neuron", [None, PLIF], ids=["lif", "plif"])
@pytest.mark.parametrize("again", [False, True], ids=["kept", "recomputed"])
def test_training_is_the_same(half, neuron, again):
    settings = {"neuron": neuron} if neuron else {}
    plain, fast = pair(**settings, checkpoint_blocks=again)
    optimizers = [torch.optim.SGD(m.parameters(), lr=1e-4) for m in (plain, fast)]
    for i in range(5):
        x = images().cuda() * (1 + i / 10)
        found = [step(m, x, **({"dtype": half} if half else {})) for m in (plain, fast)]
        torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-2, atol=5e-3 if half is None else 0.2)
        assert far(found[1][1], found[0][1]) < (0.02 if half is None else 0.3), i
        for optimizer in optimizers:
            optimizer.step()
    assert len(fast.fast._graphs) == 1
    for (name, a), b in zip(plain.named_buffers(), fast.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=0.05, atol=1e-2, msg=name)
    assert torch.equal(plain.patch_embed.proj_bn.num_batches_tracked, fast.patch_embed.proj_bn.num_batches_tracked)


@pytest.mark.cuda
def test_accumulated_gradients_add_up():
    _, fast = pair()
    x = images().cuda()
    for _ in range(2):
        fast(x).sum().backward()
    fast.zero_grad()
    fast(x).square().sum().backward()
    once = {n: p.grad.clone() for n, p in fast.named_parameters() if p.grad is not None}
    fast(x).square().sum().backward()
    twice = {n: p.grad for n, p in fast.named_parameters() if p.grad is not None}
    assert far(twice, {n: 2 * g for n, g in once.items()}) < 1e-4


@pytest.mark.cuda
def test_two_passes_before_one_backward_are_told():
    _, fast = pair()
    x = images().cuda()
    fast(x).sum().backward()
    first = fast(x)
    fast(x)
    with pytest.raises(RuntimeError, match="a second forward pass"):
        first.sum().backward()


@pytest.mark.cuda
def test_dropped_paths_are_drawn_anew():
    _, fast = pair(drop_path=0.5)
    x = images().cuda()
    drawn = [fast(x).detach() for _ in range(4)]
    assert not torch.equal(drawn[2], drawn[3])


@pytest.mark.cuda
def test_deployed_with_new_shapes_and_a_meter_between():
    plain, _ = pair()
    plain.eval()
    deployed = plain.for_inference()
    with torch.inference_mode():
        for size in (16, 16, 16, 5, 16, 5, 5):
            x = torch.rand(size, 1, 8, 8, device="cuda")
            torch.testing.assert_close(deployed(x), plain(x), rtol=1e-2, atol=1e-2)
    assert len(deployed.fast._graphs) == 2
    x = images().cuda()
    ours = spikefront.measure_energy(deployed, x).total_joules
    assert ours == pytest.approx(spikefront.measure_energy(plain, x).total_joules, rel=1e-2)
    with torch.no_grad():
        for p in deployed.head.parameters():
            p.zero_()
        assert not deployed(x).any()
