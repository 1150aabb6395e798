"""The deployed form of a network equals it."""

from __future__ import annotations

import pytest
import torch
from examples import few
from hydra.utils import instantiate
from torch import nn

import spikefront
from spikefront.config import compose
from spikefront.nn import LIF, SpikeDrivenTransformer
from spikefront.nn.kernels import sparse
from spikefront.nn.layers import conv_bn


def build(double: bool = True, event_mode: bool = False, **options) -> SpikeDrivenTransformer:
    torch.manual_seed(0)
    components = {k: instantiate(compose([f"{k}={v}"])[k]) for k, v in options.items()}
    model = SpikeDrivenTransformer(
        2, 16, num_heads=2, timesteps=3, in_channels=2, num_classes=3, image_size=8, pooling="0010",
        event_mode=event_mode, **components,
    )  # fmt: skip
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 1, 3), nn.init.uniform_(m.bias, 0, 1)
            nn.init.normal_(m.running_mean, std=0.1), nn.init.uniform_(m.running_var, 0.3, 1)
    return (model.double() if double else model).eval()


@pytest.mark.parametrize(
    "options",
    few(
        [{}, {"event_mode": True}, {"neuron": "plif"}, {"residual": "pre_spike"}, {"embedding": "conv_stem"}]
        + [{"attention": a} for a in ("sdsa2", "sdsa3", "ssa", "qkta", "softmax", "none")]
    ),
    ids=str,
)
def test_outputs_are_equal(options):
    model = build(**options)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fast = model.for_inference()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fast.modules())
    images = torch.rand(4, 3, 2, 8, 8, dtype=torch.float64)
    with torch.inference_mode():
        expected, got = model(images, per_step=True), fast(images, per_step=True)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-11)
    assert expected.std() > 1e-6
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_energy_is_counted_the_same():
    model, images = build(double=False), torch.rand(4, 2, 8, 8)
    ours, fast = (spikefront.measure_energy(m, images) for m in (model, model.for_inference()))
    assert fast.total_joules == pytest.approx(ours.total_joules, rel=1e-3)


class Doubled(nn.Module):
    """A block that nothing in the package knows: says by itself how it is folded, joined and read."""

    def __init__(self) -> None:
        super().__init__()
        self.lif, self.conv, self.norm = LIF(), nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16)
        self.factor = 2.0

    def forward(self, x):
        return x + self.factor * conv_bn(self.lif(x), self.conv, self.norm)

    def folds(self):
        return [("conv", "norm")]

    def join(self):
        self.conv.weight.mul_(2), self.conv.bias.mul_(2)
        self.factor = 1.0

    def handovers(self):
        return [(self.lif, [self.conv])]


def test_a_new_block_is_deployed_as_it_says():
    model = build(double=False)
    model.block.append(Doubled())
    fast, images = model.eval().for_inference(sparse=True), torch.rand(4, 3, 2, 8, 8)
    block = fast.block[-1]
    assert isinstance(block.norm, nn.Identity) and block.factor == 1.0
    with torch.inference_mode():
        torch.testing.assert_close(fast(images), model(images), rtol=1e-4, atol=1e-5)
    if sparse.available():
        assert block.lif.readers == (block.conv,) and block.conv.sparse


def test_streams_share_a_neuron_only_if_theirs_fire_alike():
    model = build()
    model.block[0].attn.k_lif.threshold = 0.5
    first, second = (block.attn.joint_lif for block in model.for_inference().block)
    assert first is None and isinstance(second, LIF)
