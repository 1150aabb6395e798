"""What of a checkpoint a network begins with, and what is refused."""

from __future__ import annotations

import re

import exact
import pytest
import torch
from examples import few
from safetensors.torch import save_file

import spikefront
from spikefront.config import compose
from spikefront.errors import UserError
from spikefront.nn.checkpoints import read_checkpoint, stated
from spikefront.nn.families.recognition import recognised
from spikefront.nn.transfer import transfer
from spikefront.training.inheritance import begin


def network(name="sdt_2_32", *overrides, data="digits", **model):
    return spikefront.create_model(name, data=data, overrides=list(overrides), **model)


def begun(model, other, **how):
    """What ``model`` begins with of ``other``, loaded."""
    state = other if isinstance(other, dict) else other.state_dict()
    came = transfer(model, state, "x.ckpt", **how)
    model.load_state_dict(came.state)
    return came


@pytest.mark.parametrize(
    "other",
    [
        {"timesteps": 1},
        {"image_size": 32},
        {"pooling": "0000", "event_mode": True},
    ],
    ids=str,
)
def test_timesteps_resolution_and_pooling_are_in_no_tensor(other):
    first, then = network(timesteps=4), network(**other)
    came = begun(then, first)
    assert not (came.new or came.left or came.sliced or came.reshaped)
    assert all(torch.equal(value, first.state_dict()[key]) for key, value in then.state_dict().items())


def test_a_classifier_for_other_classes_begins_anew(tmp_path):
    first, then = network(num_classes=7), network(num_classes=10)
    before = then.head.weight.clone()
    came = begun(then, first)
    assert came.new == [
        "head.weight (10, 32) where the file has (7, 32)",
        "head.bias (10,) where the file has (7,)",
    ]
    assert torch.equal(then.head.weight, before) and torch.equal(
        then.block[1].mlp.fc1_conv.weight, first.block[1].mlp.fc1_conv.weight
    )
    assert "  new       2: head.weight (10, 32) where the file has (7, 32), head.bias" in str(came)
    torch.save(first.state_dict(), tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"checkpoint .* is of another model: 2 of another shape"):  # strict as ever
        spikefront.load_checkpoint(then, tmp_path / "x.pth")


def test_what_one_kind_of_neuron_has_stays_or_is_left():
    plif, lif = network("sdt_1_16", "neuron=plif"), network("sdt_1_16")
    assert all(key.endswith(".w") for key in begun(plif, lif).new)
    assert begun(lif, plif).left == [key for key in plif.state_dict() if key not in lif.state_dict()]


@pytest.mark.parametrize(
    ("here", "there"),
    [("sdt_1_16", "sdt_2_32"), ("sdt_2_16", "sdt_2_32"), ("sdt_1_32", "sdt_3_32")],
)
def test_a_larger_network_is_refused_or_cut(here, there):
    first, then = network(there), network(here)
    before = {key: value.clone() for key, value in then.state_dict().items()}
    with pytest.raises(UserError, match=r"^init=x\.ckpt is of another network: .*init\.slice=true takes"):
        transfer(then, first.state_dict(), "x.ckpt")
    assert all(torch.equal(value, before[key]) for key, value in then.state_dict().items())
    came = begun(then, first, slice=True)
    whole = first.state_dict()
    assert all(torch.equal(v, whole[k][tuple(map(slice, v.shape))]) for k, v in then.state_dict().items())
    assert bool(came.sliced) == (here[-2:] != there[-2:]) and bool(came.left) == (here[4] != there[4])


def test_a_smaller_network_is_no_beginning():
    for how in ({}, {"slice": True}):
        with pytest.raises(UserError, match="is of another network") as refused:
            transfer(network("sdt_2_32"), network("sdt_2_16").state_dict(), "x.ckpt", **how)
        assert "init.slice" not in str(refused.value)


def test_two_polarities_of_a_network_for_three_channels_say_how():
    images, events = network("sdt_1_16", data="cifar10"), network("sdt_1_16", data="cifar10_dvs")
    with pytest.raises(UserError, match=r"data\.channels=3 data\.binning\.total=true$"):
        transfer(events, images.state_dict(), "x.ckpt")


CASES = ["spikformer_cifar", "maxformer_imagenet", "sdt_v2_tiny_kd", "qkformer_event", "spikingresformer_imagenet"]


@pytest.mark.parametrize("case", few(CASES))
def test_published_files_begin_another_task(case):
    """Under their own names, Conv1d and Linear for our convolutions, wrapped, for other classes."""
    state = {f"module.{key}": value for key, value in exact.published(case).items()}
    same, other = (exact.build(case, *more) for more in ([], ["model.num_classes=3"]))
    came = begun(other, stated({"model": state}))
    exact.load(case, same)
    own = same.state_dict()
    assert came.new and all(key.startswith("head") for key in came.new)
    assert all(torch.equal(v, own[k]) for k, v in other.state_dict().items() if not k.startswith("head"))
    assert came.reshaped or case != "spikformer_cifar"


def test_a_published_file_is_cut_too():
    case = "spikformer_cifar"
    wide = exact.build(case)
    exact.load(case, wide)
    half = wide.dim // 2
    narrow = exact.build(case, f"model.dim={half}")
    came = begun(narrow, exact.published(case), slice=True)
    assert came.sliced and torch.equal(
        narrow.stages[0].block[0].attn.q_bn.weight, wide.stages[0].block[0].attn.q_bn.weight[:half]
    )


@pytest.mark.parametrize(
    ("case", "name"),
    few(
        [
            ("spikformer_cifar", r"spikformer with 2 blocks and width 32 \(spikformer_10_512"),
            ("statten", "sdt_2_32$"),
            ("sdt_v3_tiny", "e_spikeformer with"),
            ("qkformer_cifar", "qkformer with 4 blocks"),
            ("spikingresformer_event", "spikingresformer with 3 blocks"),
        ],
        5,
    ),
)
def test_files_of_another_family_are_recognised(case, name, tmp_path):
    state = exact.published(case)
    assert re.match(name, recognised(state))
    torch.save({"model": {k: v.float() for k, v in state.items()}}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=rf"is of another model: .*; its names are those of {name}"):
        spikefront.load_checkpoint(network("maxformer_cifar", "model.dim=48"), tmp_path / "x.pth")
    with pytest.raises(UserError, match=rf"is of another network: .*; its names are those of {name}"):
        transfer(network("sdt_3_48"), stated(read_checkpoint(tmp_path / "x.pth")), "x.pth")


def test_a_published_size_is_named():
    with torch.device("meta"):
        state = spikefront.create_model("sdt_8_384").state_dict()
    assert recognised(state) == "sdt_8_384" and recognised({"features.0.weight": torch.zeros(2)}) is None
    assert recognised({}) is None


@pytest.mark.parametrize("given", ["{}", "{{checkpoint: {}}}"])
def test_a_configuration_may_say_it_in_a_word(given, tmp_path):
    first = network("sdt_1_16")
    save_file(first.state_dict(), tmp_path / "x.safetensors")
    cfg = compose(
        ["data=digits", "model=sdt_1_16", f"init={given.format(tmp_path / 'x.safetensors')}", "init.slice=true"]
    )
    assert cfg.init == {"checkpoint": str(tmp_path / "x.safetensors"), "slice": True}
    cfg.init = cfg.init.checkpoint  # of a file of the user's own
    then = network("sdt_1_16")
    assert len(begin(then, cfg).taken) == len(first.state_dict()) and torch.equal(then.head.weight, first.head.weight)
    cfg.init = None
    assert begin(then, cfg) is None
