"""``weights="auto"``: the fastest way of each layer, within a bound on the change of logits, remembered."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spikefront import create_model, measure_energy
from spikefront.errors import UserError
from spikefront.nn import LIF, choosing
from spikefront.nn.choosing import Way, ways
from spikefront.nn.kernels import sparse
from spikefront.nn.sparse_conv import SparseConv2d

pytestmark = pytest.mark.skipif(not sparse.available(), reason="no g++ here")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Compiled kernels are loaded by now; what is chosen goes elsewhere."""
    monkeypatch.setenv("SPIKEFRONT_CACHE", str(tmp_path))
    return tmp_path / "choices"


@pytest.fixture(scope="module")
def network():
    """A network that fires, and images."""
    torch.manual_seed(0)
    model = create_model("sdt_2_32", data="digits", timesteps=2, overrides=["neuron.threshold=0.1"])
    images = torch.rand(48, model.in_channels, 8, 8)
    model.train()
    with torch.no_grad():
        for _ in range(10):
            model(images)
    return model.eval(), images


def chosen(model):
    return {n: Way(m.weights, m.sparse) for n, m in model.named_modules() if isinstance(m, SparseConv2d)}


def as_if_timed(monkeypatch, seconds):
    """Ways take as long as ``seconds`` says."""
    monkeypatch.setattr(choosing, "_timed", lambda deployed, layers, *_: {n: dict(seconds) for n in layers})


FASTER = {Way(): 4.0, Way("float32", True): 3.0, Way("bfloat16", True): 2.0, Way("int8", True): 1.0}


@pytest.mark.parametrize("within", [0.0, 0.02, 10.0])
def test_logits_change_by_no_more(network, monkeypatch, within):
    model, images = network
    as_if_timed(monkeypatch, FASTER)
    fast = model.for_inference(sparse="auto", weights="auto", batch=images, within=within)
    with torch.inference_mode():
        expected, found = model.for_inference(sparse=True)(images), fast(images)
    assert float((found - expected).norm() / expected.norm()) <= within
    kinds = {way.weights for way in chosen(fast).values()}
    assert kinds == {"int8"} if within == 10 else "float32" in kinds if within == 0 else len(kinds) > 1


def test_the_first_inputs_decide_by_the_clock(network):
    model, images = network
    fast = model.for_inference(sparse="auto", weights="auto", within=10)
    assert not chosen(fast)
    first = fast(images)
    assert chosen(fast) and set(chosen(fast).values()) <= set(ways())
    assert torch.equal(fast(images), first)


def test_choices_are_remembered(network, monkeypatch, cache):
    model, images = network
    as_if_timed(monkeypatch, FASTER)

    def choose(model=model, images=images, within=10.0):
        return chosen(model.for_inference(sparse="auto", weights="auto", batch=images, within=within))

    first = choose()
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(choosing, "_timed", lambda *_: pytest.fail("timed again"))
    assert choose() == first
    for other in ({"images": images[:3]}, {"within": 5.0}, {"model": create_model("sdt_1_16", data="digits")}):
        with pytest.raises(pytest.fail.Exception, match="timed again"):
            choose(**other)
    next(cache.iterdir()).write_text('{"not": "it"}')
    with pytest.raises(pytest.fail.Exception, match="timed again"):
        choose()


def test_a_cache_that_cannot_be_written_to_is_done_without(network, monkeypatch, tmp_path):
    model, images = network
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPIKEFRONT_CACHE", str(tmp_path / "file"))
    as_if_timed(monkeypatch, FASTER)
    assert chosen(model.for_inference(sparse="auto", weights="auto", batch=images, within=10))


def test_whoever_looks_sees_spikes(network, monkeypatch):
    model, images = network
    as_if_timed(monkeypatch, FASTER)
    fast = model.for_inference(sparse="auto", weights="auto", batch=images, within=10)
    found, plain = measure_energy(fast, images), measure_energy(model, images)
    assert found.total_joules == pytest.approx(plain.total_joules, rel=0.2) and found.total_joules > 0


def test_wrong_settings_are_told_in_a_line(network):
    model, images = network
    with pytest.raises(UserError, match=r"within=-1.*at least 0"):
        model.for_inference(sparse="auto", weights="auto", batch=images, within=-1)
    with pytest.raises(UserError, match="use sparse='auto'"):
        model.for_inference(sparse=True, weights="auto")


@pytest.mark.parametrize("most", [1, 4])
@pytest.mark.parametrize("kernel", [1, 3])
def test_a_layer_of_8_bit_weights(kernel, most):
    torch.manual_seed(0)
    conv = nn.Conv2d(70, 130, kernel, padding=kernel // 2).requires_grad_(False)
    x = (torch.rand(4, 70, 5, 3) < 0.3).float() * torch.randint(1, most + 1, (4, 70, 5, 3))
    exact = conv.weight.clone()
    layer = SparseConv2d(conv, True, "int8")
    scale = exact.flatten(1).abs().amax(1).view(-1, 1, 1, 1) / 127
    assert (layer.weight - exact).abs().le(0.5001 * scale).all() and not torch.equal(layer.weight, exact)
    expected = F.conv2d(x.double(), layer.weight.double(), layer.bias.double(), padding=kernel // 2)
    torch.testing.assert_close(layer(x), expected.float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(layer.multiplied(x), expected.float(), rtol=1e-5, atol=1e-5)
    if most == 1:
        spikes, lif = sparse.encode(x).unflatten(0, (2, 2)), LIF(threshold=0.2)
        assert torch.equal(layer.fire(spikes, lif).dense(), lif(layer(x).unflatten(0, (2, 2))))
        onto = torch.randn(2, 2, 130, 5, 3)
        assert torch.equal(layer.add(spikes, onto), onto + layer(x).unflatten(0, (2, 2)))
