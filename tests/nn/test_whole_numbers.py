"""Networks in whole numbers: exact in integer arithmetic, near the network they are of, whole when stored."""

from __future__ import annotations

import pytest
import torch
from examples import few

from spikefront import create_model
from spikefront.errors import UserError
from spikefront.nn.fixed.conversion import image_step, in_whole_numbers
from spikefront.nn.fixed.exactness import exactness
from spikefront.nn.fixed.keeping import packed, restored, stored, unpacked
from spikefront.nn.fixed.rounding import products, rounded, rounded_together
from spikefront.nn.fixed.whole_layers import WholeConv, WholeNeuron
from spikefront.nn.neurons import LIF

FAMILIES = ("spikformer", "spikingformer", "qkformer", "ms_qkformer", "maxformer", "metaspikformer", "statten")
# bits of a weight; a layer that reads the potentials of one with 16 has some 5 left, as thresholds and offsets have 32
FINEST = {"metaspikformer": 12}


def network(name: str, *overrides: str, data: str = "cifar10"):
    """A small network whose norms know its inputs, and these."""
    torch.manual_seed(0)
    small = [] if name.startswith("sdt") else ["model.dim=64"]
    made = create_model(name, data=data, timesteps=2, overrides=[*small, "neuron.threshold=0.3", *overrides])
    shape = (2, 2, 32, 32) if data == "digits_dvs" else (made.in_channels, 8, 8) if data == "digits" else (3, 32, 32)
    images = (
        torch.randint(0, 3, (6, *shape)).float() if data == "digits_dvs" else torch.randint(0, 17, (6, *shape)) / 16
    )
    made.train()
    with torch.no_grad():
        for _ in range(10):
            made(images)
    return made.eval(), images


def near(a, b) -> float:
    """How far a sample's logits are from what they were, the median: one spike at a threshold changes a lot."""
    return float(((a - b).norm(dim=1) / a.norm(dim=1)).median())


@pytest.mark.parametrize("neuron", few(["lif", "if", "plif", "integer", "ilif"], 5))
def test_integers_give_what_float64_carries(neuron):
    made, images = network("sdt_1_16", f"neuron={neuron}", data="digits")
    whole = in_whole_numbers(made, images, 8)
    found = exactness(whole, images)
    assert found.equal == found.of > 15 and found.bits <= 32
    conv = whole.get_submodule("block.0.attn.proj_conv")
    assert isinstance(conv, WholeConv) and torch.equal(conv.weight, conv.weight.round())
    assert 100 < conv.weight.abs().max() <= 127
    with torch.no_grad():
        fine = in_whole_numbers(made, images, 16)
        assert made(images).any() and near(made(images), fine(images)) < 0.05


def test_a_wrong_layer_is_seen():
    made, images = network("sdt_1_16", data="digits")
    whole = in_whole_numbers(made, images, 8)
    whole.get_submodule("block.0.mlp.fc1_conv").weight.data[0] += 0.5
    found = exactness(whole, images)
    assert found.equal < found.of


def test_frames_of_events_are_taken_as_the_counts_they_are():
    made, events = network("sdt_1_16", data="digits_dvs")
    whole = in_whole_numbers(made, events, 8)
    first = next(m for m in whole.modules() if isinstance(m, WholeConv))
    assert first.step == 1 and first.most == 127
    found = exactness(whole, events)
    assert found.equal == found.of


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_families(family):
    made, images = network({"spikformer": "spikformer_cifar", "qkformer": "qkformer_cifar"}.get(family, family))
    whole = in_whole_numbers(made, images, 8)
    found = exactness(whole, images[:1])
    assert found.equal == found.of
    fine = in_whole_numbers(made, images, FINEST.get(family, 16))
    with torch.no_grad():
        assert made(images).any() and near(made(images), fine(images)) < 0.1


@pytest.mark.parametrize(
    ("name", "override", "said"),
    few(
        [
            ("spikingresformer_cifar", "data=cifar10", "attn.op does bmm of potentials and spikes"),
            ("sdt_1_16", "residual=layer_scale", "does mul of potentials"),
            ("sdt_1_16", "neuron=relu", "whole numbers can't express this network"),
            ("sdt_1_16", "neuron=alif", "is a ALIF"),
            ("sdt_1_16", "attention=softmax", "whole numbers can't express this network"),
        ]
    ),
)
def test_what_has_no_whole_numbers_is_refused_in_a_line(name, override, said):
    torch.manual_seed(0)
    made = create_model(name, data="cifar10", timesteps=2, overrides=[override]).eval()
    with pytest.raises(UserError) as told:
        in_whole_numbers(made, torch.rand(2, 3, 32, 32), 8)
    assert said in str(told.value) and "\n" not in str(told.value)


def test_a_whole_neuron_is_the_real_one_in_its_unit():
    unit, currents = 0.01, torch.randint(-100, 300, (6, 4, 3, 2, 2), generator=torch.Generator().manual_seed(0))
    whole = WholeNeuron(torch.full((1, 3), 100 * 256), 128, 128, None)
    real = LIF(threshold=1.0).double()
    assert torch.equal(whole(currents.double() * 256), real(currents.double() * unit))
    assert torch.equal(whole.fired(currents * 256), whole(currents.double() * 256).long())


def test_a_gate_of_counts_fires_where_the_real_one_does():
    """Half of a single spike reaches a threshold of a half: a membrane of counts has a fraction, too."""
    made, images = network("sdt_1_16", data="digits")
    gate = in_whole_numbers(made, images, 8).get_submodule("block.0.attn.talking_heads_lif")
    counts = torch.tensor([0.0, 1.0, 2.0, 3.0]).repeat(3, 1, 4).view(3, 1, 16, 1, 1).double()
    real = made.get_submodule("block.0.attn.talking_heads_lif")
    assert torch.equal(gate(counts), real.double()(counts)) and gate(counts)[0, 0, 1].all()


@pytest.mark.parametrize("bits", few([8, 4]))
def test_what_is_stored_comes_back(bits):
    made, images = network("sdt_1_16", data="digits")
    whole = in_whole_numbers(made, images, bits)
    tensors, about = stored(whole, bits)
    assert {t.dtype for t in tensors.values()} <= {torch.int8, torch.uint8, torch.int32}
    with torch.no_grad():
        assert torch.equal(restored(made, tensors, about, "it")(images), whole(images))
    other = create_model("sdt_2_16", data="digits")
    with pytest.raises(UserError, match="it is of another network"):
        restored(create_model("sdt_1_32", data="digits"), tensors, about, "it")
    with pytest.raises(UserError, match="it is of another network"):
        restored(other, {}, about, "it")


def test_four_bits_are_two_in_a_byte():
    numbers = torch.arange(-8, 7, dtype=torch.int8)
    assert packed(numbers).numel() == 8 and torch.equal(unpacked(packed(numbers))[:15], numbers)


def test_an_input_of_few_levels_is_taken_exactly():
    assert image_step(torch.tensor([0.0, 0.25, 0.75])) == 0.25
    assert image_step(torch.tensor([0.0, 3.0, 5.0, 1.0])) == 1
    assert image_step(torch.tensor([-1.27, 0.001, 0.5])) == pytest.approx(0.01)
    assert image_step(torch.zeros(3)) == 1


def test_weights_rounded_together_keep_what_they_add_up_to():
    g = torch.Generator().manual_seed(0)
    mixed = torch.randn(40, 40, generator=g, dtype=torch.float64)
    x = (torch.randn(500, 40, generator=g, dtype=torch.float64) @ mixed > 1).double()  # spikes that go together
    weight = torch.randn(8, 40, generator=g, dtype=torch.float64)
    scale = weight.abs().amax(1) / 7
    one_by_one, together = rounded(weight, scale, 7), rounded_together(weight, scale, 7, x.T @ x / len(x))
    assert torch.equal(together, together.round()) and together.abs().max() <= 7
    lost = [float((x @ (whole * scale[:, None] - weight).T).square().mean()) for whole in (one_by_one, together)]
    assert lost[1] < 0.75 * lost[0]


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2)])
def test_products_are_those_of_what_a_layer_reads(kernel, stride):
    conv = torch.nn.Conv2d(3, 2, kernel, stride, kernel // 2, bias=False).double()
    x = torch.randn(20, 3, 6, 6, generator=torch.Generator().manual_seed(0)).double()
    found = products(torch.nn.Sequential(conv), ["0"], x)["0"]
    with torch.no_grad():
        expected = conv(x).square().mean((0, 2, 3))
        rows = conv.weight.flatten(1)
        torch.testing.assert_close(torch.einsum("oi,ij,oj->o", rows, found, rows), expected)
