"""Networks of whole numbers in integer arithmetic: every logit is that of the network they are of."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from examples import few
from test_whole_numbers import FAMILIES, network

from spikefront import create_model, measure_energy
from spikefront.errors import UserError
from spikefront.nn import LIF
from spikefront.nn.fixed.conversion import in_whole_numbers
from spikefront.nn.fixed.running import IntegerConv, IntegerNeuron, running
from spikefront.nn.fixed.whole_layers import WholeNeuron
from spikefront.nn.kernels import build, whole
from spikefront.nn.kernels.build import FLAGS, HERE, library

pytestmark = pytest.mark.skipif(library("whole") is None, reason="no g++ here")

SIZES = [(4, 70, 40, 5, 3), (2, 33, 130, 9, 4), (2, 64, 64, 1, 1), (2, 1, 1, 2, 2)]  # frames, in, out, height, width
PORTABLE = [flag for flag in FLAGS if flag != "-march=native"]


@pytest.fixture(params=["native", "x86-64", "x86-64-v3", "x86-64-v4"])
def machine(request, monkeypatch):
    """The kernels as they are compiled for this processor, and for older ones that it can be."""
    if request.param == "native":
        return
    if request.param not in supported():
        pytest.skip(f"this processor is no {request.param}")
    code = compiled(request.param)
    monkeypatch.setattr(whole, "library", lambda name: code)


@cache
def compiled(march: str) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        command = ["g++", *PORTABLE, f"-march={march}", "-Wall", "-Wextra", "-Werror", HERE / "whole.cpp"]
        subprocess.run([*command, "-o", f"{folder}/whole.so"], check=True)
        return ctypes.CDLL(f"{folder}/whole.so")


def supported() -> list[str]:
    """The levels of x86-64 that this machine has."""
    if not shutil.which("g++"):
        return []
    flags = build.flags()
    needs = {"x86-64": "sse2", "x86-64-v3": "avx2", "x86-64-v4": "avx512bw"}
    return [level for level, flag in needs.items() if flag in flags]


def layer(size, kernel, most=1, seed=0):
    """Counts up to ``most``, and a layer of whole numbers."""
    g = torch.Generator().manual_seed(seed)
    N, C, D, H, W = size
    x = (torch.rand(N, C, H, W, generator=g) < 0.3).float() * torch.randint(1, most + 1, (N, C, H, W), generator=g)
    weight = torch.randint(-127, 128, (D, C, kernel, kernel), generator=g)
    gain, offset = torch.randint(1, 600, (D,), generator=g), torch.randint(-5000, 5000, (D,), generator=g)
    return x, weight, gain, offset


def expected(x, weight, gain, offset):
    total = F.conv2d(x.double(), weight.double(), padding=weight.shape[-1] // 2).long()
    return total * gain.view(-1, 1, 1) + offset.view(-1, 1, 1)


@pytest.mark.parametrize("most", [1, 5])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_sums_are_exact(machine, size, kernel, most):
    x, *numbers = layer(size, kernel, most)
    spikes = whole.encode(x)
    assert spikes.planes == x.max().clamp_min(1) and torch.equal(spikes.dense(), x)
    wanted = expected(x, *numbers)
    assert torch.equal(whole.convolve(spikes, whole.pack(*numbers)).long(), wanted)
    onto = torch.randint(-9999, 9999, wanted.shape, dtype=torch.int32)
    assert torch.equal(whole.convolve(spikes, whole.pack(*numbers), onto).long(), wanted + onto)


def test_long_lists_do_not_overflow(machine):
    """Sums of 16 bits are put away in time: every channel spikes, and every weight is as large as can be."""
    x, sign = torch.ones(2, 700, 3, 3), torch.tensor([1, -1, 1]).view(3, 1, 1, 1)
    weight, one = 127 * sign.expand(3, 700, 3, 3), torch.ones(3, dtype=torch.long)
    found = whole.convolve(whole.encode(x), whole.pack(weight, one, 0 * one))
    assert torch.equal(found.long(), expected(x, weight, one, 0 * one))
    assert found[0, 0, 1, 1] == 127 * 6300


@pytest.mark.parametrize(
    "neuron",
    [
        (128, 128, [900], None),
        (200, 100, [700], None),
        (256, 256, [2000], 2000),
        (64, 256, [500, 1500, 2500], 1000),
    ],
    ids=str,
)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_fires_as_the_whole_neuron(machine, size, neuron):
    leak, gain, thresholds, drop = neuron
    N, _, D, H, W = size
    x, *numbers = layer(size, 3)
    one = torch.arange(D)  # another threshold each
    held = torch.stack([t * 256 + one for t in thresholds])
    drops = None if drop is None else drop * 256 + one
    reference = WholeNeuron(held, leak, gain, drops)
    currents = expected(x, *numbers).unflatten(0, (2, N // 2))
    wanted = reference.fired(currents)
    constants, _held = whole.neuron(leak, gain, held, drops, D)
    spikes = whole.encode(x).unflatten(0, (2, N // 2))
    fused = whole.convolve_and_fire(spikes, whole.pack(*numbers), constants)
    assert torch.equal(fused.dense().long(), wanted) and (wanted.any() or H * W < 6)
    assert torch.equal(whole.fire(currents, None, constants).bits, fused.bits)
    totals = F.conv2d(x.double(), numbers[0].double(), padding=1).float().unflatten(0, (2, N // 2))
    assert torch.equal(whole.fire(totals, None, constants, whole.columns(*numbers[1:])).bits, fused.bits)
    shown = whole.fire(currents[:1], 3, constants).dense()
    assert torch.equal(shown.long(), reference.fired(currents[:1].expand(3, -1, -1, -1, -1)))


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("soft", [False, True])
def test_weights_with_a_real_scale(machine, size, kernel, soft):
    x, weight, *_ = layer(size, kernel)
    D, pairs = size[2], size[0] // 2
    scale, bias = torch.rand(D) / 100, torch.randn(D)
    packed = whole.pack(weight, scale, bias)
    spikes = whole.encode(x)
    total = F.conv2d(x.double(), weight.double(), padding=kernel // 2).float()
    currents = total * scale.view(-1, 1, 1) + bias.view(-1, 1, 1)
    assert torch.equal(whole.convolve(spikes, packed), currents)
    onto = torch.randn_like(currents)
    assert torch.equal(whole.convolve(spikes, packed, onto), currents + onto)
    lif = LIF(threshold=0.7, reset="soft" if soft else "hard")
    fired = whole.convolve_and_fire(spikes.unflatten(0, (2, pairs)), packed, lif.constants())
    assert torch.equal(fired.dense(), lif(currents.unflatten(0, (2, pairs))))


def test_a_sum_beyond_30_bits_is_told():
    x, weight, gain, offset = layer(SIZES[0], 1)
    onto = torch.full((4, 40, 5, 3), 2**30 - 1, dtype=torch.int32)
    assert (expected(x, weight, gain, offset) > 1).any()
    with pytest.raises(UserError, match="beyond 30 bits"):
        whole.convolve(whole.encode(x), whole.pack(weight, gain, offset), onto)


@pytest.mark.parametrize("stride", [1, 2])
def test_pools_integers(stride):
    x = torch.randint(-50, 50, (2, 5, 7, 6), dtype=torch.int32)
    pooled = whole.pool(x, stride)
    assert torch.equal(pooled.float(), F.max_pool2d(x.float(), 3, stride, 1))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    "override", few(["neuron=lif", "neuron=if", "neuron=plif", "neuron=integer", "neuron=ilif", "neuron.reset=soft"], 6)
)
def test_logits_are_equal(override, threads):
    made, images = network("sdt_1_16", override, data="digits")
    check(made, images, threads)


def test_logits_of_events_are_equal():
    check(*network("sdt_1_16", data="digits_dvs"))


def test_logits_of_heads_in_whole_words_are_equal():
    """64 channels: attention on bits."""
    made, images = network("sdt_2_64", data="digits")
    check(made, images)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_of_families_are_equal(family):
    check(*network({"spikformer": "spikformer_cifar", "qkformer": "qkformer_cifar"}.get(family, family)))


def check(made, images, threads=1):
    reference = in_whole_numbers(made, images, 8)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            wanted = reference(images, per_step=True)
            assert wanted.any()
            for choice in (True, False, "auto"):
                made = running(reference, choice)
                for _ in range(2):  # with decisions made, too
                    assert torch.equal(made(images, per_step=True), wanted)
            convs = [m for m in made.modules() if isinstance(m, IntegerConv)]
            assert any(c.sparse is not None for c in convs) and all(c.sparse is not None for c in convs)
    finally:
        torch.set_num_threads(before)


def test_a_network_becomes_whole_at_its_first_inputs():
    made, images = network("sdt_1_16", data="digits")
    wanted = in_whole_numbers(made, images, 8)(images)
    fast, told = made.for_inference(sparse=True, weights="int8"), made.for_inference(weights="int8", batch=images)
    assert not any(isinstance(m, IntegerNeuron) for m in fast.modules())
    assert any(isinstance(m, IntegerNeuron) for m in told.modules())
    for _ in range(2):
        assert torch.equal(fast(images), wanted) and torch.equal(told(images), wanted)
    assert "int8, sparse" in repr(fast) and not any(isinstance(m, WholeNeuron) for m in made.modules())
    of_a_bundle = in_whole_numbers(made, images, 8).for_inference(sparse=True)
    assert torch.equal(of_a_bundle(images), wanted) and "int8, sparse" in repr(of_a_bundle)


def test_whoever_looks_sees_spikes():
    made, images = network("sdt_1_16", data="digits")
    fast = made.for_inference(sparse=True, weights="int8", batch=images)
    slow = in_whole_numbers(made, images, 8)
    found, wanted = measure_energy(fast, images), measure_energy(slow, images)
    assert found.total_joules == pytest.approx(wanted.total_joules, rel=1e-6) and found.total_joules > 0
    waiting = made.for_inference(sparse=True, weights="int8")
    assert measure_energy(waiting, images).total_joules > 0  # not yet in whole numbers: whoever looks isn't left behind
    assert any(isinstance(m, IntegerNeuron) for m in waiting.modules()) is False
    waiting(images)
    assert any(isinstance(m, IntegerNeuron) for m in waiting.modules())


def test_what_has_no_whole_numbers_is_refused_in_a_line():
    torch.manual_seed(0)
    made = create_model("sdt_1_16", data="cifar10", timesteps=2, overrides=["attention=softmax"]).eval()
    fast = made.for_inference(weights="int8")
    with pytest.raises(UserError, match="whole numbers can't express this network"):
        fast(torch.rand(2, 3, 32, 32))
    with pytest.raises(UserError, match="use True, False or 'auto'"):
        made.for_inference(sparse="never", weights="int8")


def test_words_travel_only_where_nobody_looks():
    made, images = network("sdt_2_64", data="digits")
    fast = made.for_inference(sparse=True, weights="int8", batch=images)
    seen = []
    conv = fast.get_submodule("block.0.mlp.fc2_conv")
    with torch.inference_mode():
        fast(images)
        handle = conv.register_forward_hook(lambda module, args, out: seen.append(args[0]))
        fast(images)
        handle.remove()
    assert isinstance(seen[0], torch.Tensor) and set(seen[0].unique().tolist()) <= {0.0, 1.0}
