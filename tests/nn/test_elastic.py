"""Members of an elastic network are slices of its weights, and ordinary networks otherwise."""

from __future__ import annotations

import math

import pytest
import torch
from examples import few
from hydra.utils import instantiate

from spikefront.config import compose
from spikefront.errors import UserError
from spikefront.nn.elastic import Member, Slopes, estimate_norms, inherit, part, strange

DIGITS = ("data=digits", "model.timesteps=2")
# a largest network and the overrides of a smaller one, of each kind of component
PAIRS = {
    "sdt": (("model=sdt_2_32", "neuron.threshold=0.3"), ("model.depth=1", "model.dim=16")),
    "timesteps, threshold, ratio": (
        ("model=sdt_2_32", "model.timesteps=4"),
        ("model.timesteps=1", "neuron.threshold=0.7", "model.mlp_ratio=2.0"),
    ),
    "plif holds lif": (("model=sdt_2_32", "neuron=plif"), ("neuron=lif", "model.dim=16")),
    "heads": (("model=sdt_2_32", "model.num_heads=8"), ("model.num_heads=2", "model.dim=16")),
    "attention": (("model=sdt_2_32", "attention=sdsa1"), ("attention=sdsa2", "model.depth=1")),
    **{
        family: ((f"model={family}", "model.dim=64"), ("model.dim=32",))
        for family in ("spikformer_4_384", "spikingformer_4_384")
    },
    **{
        family: ((f"model={family}", "model.dim=64", f"model.stages.{last}.depth=2"), (f"model.stages.{last}.depth=1",))
        for family, last in (("maxformer_4_384", "s3"), ("qkformer_4_384", "s3"), ("e_spikeformer_10m", "s3"))
    },
}


def built(*overrides, seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    return instantiate(compose([*DIGITS, *overrides]).model).to(dtype)


def pair(name):
    largest, smaller = PAIRS[name]
    return built(*largest), built(*largest, *smaller, seed=1)


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(3)
    return torch.rand(6, 1, 8, 8, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", few(PAIRS))
def test_a_member_computes_what_an_ordinary_network_of_its_part_does(name, batch):
    big, small = pair(name)
    assert strange(small.state_dict(), big.state_dict()) is None
    ordinary = inherit(small, big.state_dict()).train()
    steps = ordinary(batch, per_step=True)
    steps.square().sum().backward()
    weights = dict(big.named_parameters())
    member = Member(inherit(pair(name)[1], big.state_dict()).train())
    own = member(weights, batch)
    assert torch.equal(own, steps)
    own.square().sum().backward()
    learned = 0
    for key, p in ordinary.named_parameters():
        gradient = weights[key].grad
        if p.grad is None:
            assert gradient is None
            continue
        close = torch.isclose(part(key, p, {key: gradient}), p.grad, rtol=1e-9, atol=1e-12)  # a slice's rows lie apart
        assert close.all(), key
        rest = gradient.clone()
        part(key, p, {key: rest}).zero_()
        assert not rest.any(), key  # nothing reaches what isn't the member's
        learned += bool(p.grad.any())
    assert learned > len(list(ordinary.parameters())) / 4
    untouched = set(weights) - {key for key, _ in ordinary.named_parameters()}
    assert all(weights[key].grad is None for key in untouched)


def test_a_part_is_a_view_and_an_heir_a_copy():
    big, small = pair("sdt")
    weights = big.state_dict()
    for key, own in small.state_dict().items():
        view = part(key, own, weights)
        assert (
            view.shape == own.shape and view.untyped_storage().data_ptr() == weights[key].untyped_storage().data_ptr()
        )
    inherit(small, weights)
    name, first = next(iter(small.named_parameters()))
    first.data.zero_()
    assert weights[name].any()


@pytest.mark.parametrize(
    ("largest", "other", "why"),
    [
        ((), ("model.dim=64",), r"proj_conv.weight is \(8, 1, 3, 3\) here, \(4, 1, 3, 3\) there"),
        ((), ("neuron=plif",), r"it has no patch_embed.*\.w"),
        (("attention=dwc3",), ("attention=dwc5",), r"\(32, 1, 5, 5\) here, \(32, 1, 3, 3\) there"),
        (("attention=dwc5",), ("attention=dwc3",), r"\(32, 1, 3, 3\) here, \(32, 1, 5, 5\) there"),
    ],
)
def test_what_is_no_part_is_said(largest, other, why):
    big, small = built("model=sdt_2_32", *largest), built("model=sdt_2_32", *largest, *other)
    with pytest.raises(UserError, match=why):
        inherit(small, big.state_dict())
    assert strange(small.state_dict(), big.state_dict())


def test_norms_are_the_mean_over_passes_of_four_batches(batch):
    model = built("model=sdt_1_16")
    seen = []
    model.patch_embed.proj_conv.register_forward_hook(lambda module, args, out: seen.append(out))
    images = torch.cat([batch, 1 - batch])[:6]
    estimate_norms(model, images.split(1))
    assert [len(out) for out in seen] == [4, 2]
    norm = model.patch_embed.proj_bn
    assert norm.num_batches_tracked == 2 and norm.momentum == 0.1 and model.training
    means = torch.stack([out.mean((0, 2, 3)) for out in seen])
    assert torch.allclose(norm.running_mean, means.mean(0), atol=1e-12)
    before = norm.running_mean.clone()
    estimate_norms(model, [batch])
    assert not torch.equal(norm.running_mean, before) and norm.num_batches_tracked == 1


def test_running_rates_begin_anew(batch):
    model = built("model=sdt_1_16", "attention=dssa").train()
    operator = next(m for m in model.modules() if hasattr(m, "rate_x"))
    operator.rate_x.fill_(0.9)
    estimate_norms(model, [batch])
    known = built("model=sdt_1_16", "attention=dssa").train()
    known.load_state_dict({k: v for k, v in model.state_dict().items() if "rate" not in k}, strict=False)
    fresh = next(m for m in known.modules() if hasattr(m, "rate_x"))
    known(batch)
    assert torch.equal(operator.rate_x, fresh.rate_x) and operator.rate_x.any()


def test_norms_follow_a_setting_by_learned_slopes(batch):
    big = built("model=sdt_1_16")
    slopes, weights = Slopes(big, {"neuron.threshold": 1.0, "neuron.tau": 2.0}).double(), big.state_dict()
    names = {key for key in weights if "bn" in key and key.endswith(("weight", "bias"))}
    assert len(list(slopes.parameters())) == 2 * len(names)
    at = {"neuron.threshold": 0.5, "neuron.tau": 4.0}
    assert all(torch.equal(value, weights[key]) for key, value in slopes.at(at, weights).items())  # 0 at first
    for i, own in enumerate(slopes.of):
        for p in own.values():
            p.data.fill_(0.1 * (i + 1))
    moved = slopes.at(at, weights)
    for key, value in weights.items():
        expected = value + (-0.1 + 0.2) * math.log(2) if key in names else value
        assert torch.allclose(moved[key].double(), expected.double()), key
    here = slopes.at(slopes.origin, weights)
    assert all(torch.equal(here[key], weights[key]) for key in weights)
    assert slopes.nothing() == 0 and slopes.nothing().requires_grad
