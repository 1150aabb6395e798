"""Fine-tuning: what stays, what learns first and at which rates; killed and gone on with, averaged, swept, on two."""

from __future__ import annotations

import json

import pytest
import pytorch_lightning as pl
import torch
from examples import few
from hydra.utils import instantiate

import spikefront
from spikefront.config import compose
from spikefront.errors import UserError
from spikefront.nn.checkpoints import read_checkpoint
from spikefront.nn.groups import tensors_of
from spikefront.training import train
from spikefront.training.module import SpikingClassifier
from spikefront.training.preemption import LAST

BASE = (
    *("data=digits", "model=sdt_2_16", "trainer=cpu", "logger=none", "schedule=constant"),
    *("trainer.limit_train_batches=3", "+trainer.limit_val_batches=1", "+trainer.limit_test_batches=1"),
    *("neuron.threshold=0.3", "trainer.max_epochs=1", "data.batch_size=16", "threads=1"),
)


def run(output, *overrides, callbacks=()):
    cfg = compose([*BASE, f"output_dir='{output}'", *overrides])
    train(cfg, callbacks)
    return read_checkpoint(output / LAST)


def weights(content):
    return {k.removeprefix("model."): v for k, v in content["state_dict"].items() if k.startswith("model.")}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    output = tmp_path_factory.mktemp("first")
    return output / LAST, weights(run(output, "model.timesteps=1"))


def moved(before, after):
    return {key for key, value in after.items() if not torch.equal(value, before[key])}


@pytest.mark.parametrize(
    ("group", "some", "count"),
    few(
        [
            ("embedding", "patch_embed.proj_bn.running_mean", None),
            ("blocks.1", "block.1.attn.q_conv.weight", None),
            ("blocks.0-1", "block.0.mlp.fc2_bn.weight", None),
            ("norms", "block.0.mlp.fc2_bn.num_batches_tracked", None),
            ("head", "head.bias", 2),
            ("neurons", "head_lif.w", None),
            ("block.?.mlp.*", "block.1.mlp.fc1_conv.weight", None),
        ]
    ),
)
def test_parts_have_the_names_that_people_use(group, some, count):
    model = spikefront.create_model("sdt_2_16", data="digits", overrides=["neuron=plif"])
    found = tensors_of(model, [group], "x")
    assert some in found and (group == "head") == ("head.weight" in found)
    staged = spikefront.create_model("maxformer_cifar", data="digits", overrides=["model.dim=48"])
    assert tensors_of(staged, ["blocks.3"], "x") and all(
        "patch_embed" in name for name in tensors_of(staged, ["embedding"], "x")
    )


def test_one_checkpoint_begins_at_other_timesteps_and_frozen_parts_stay(first, tmp_path):
    """As the Spike-driven Transformer V2 goes from T = 1 to 4; averaged weights and half-frozen norms too."""
    path, before = first
    settings = ["model.timesteps=4", f"init='{path}'", "finetune.freeze=[embedding,blocks.0]", "callbacks=ema"]
    after = weights(run(tmp_path, *settings, "callbacks.ema.decay=0.5"))
    changed = moved(before, after)
    assert changed and not [key for key in changed if key.startswith(("patch_embed.", "block.0."))]
    assert {"block.1.mlp.fc1_conv.weight", "block.1.mlp.fc1_bn.running_mean", "head.weight"} <= changed


def test_norms_alone_can_stay(first, tmp_path):
    path, before = first
    changed = moved(before, weights(run(tmp_path, f"init='{path}'", "finetune.freeze=[norms]")))
    assert not [key for key in changed if "_bn." in key] and "patch_embed.proj_conv.weight" in changed


class Watch(pl.Callback):
    """Keeps what the network is at the end of each epoch; stops as a kill does in one."""

    def __init__(self, dies_at=None):
        self.states, self.dies_at = [], dies_at

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        if trainer.global_step == self.dies_at:
            raise ZeroDivisionError

    def on_train_epoch_end(self, trainer, module):
        self.states.append({k: v.clone() for k, v in module.model.state_dict().items()})


@pytest.mark.slow
def test_the_head_learns_first_and_a_kill_changes_no_bit(first, tmp_path):
    path, before = first
    settings = [f"init='{path}'", "finetune.head_epochs=2", "finetune.freeze=[embedding]", "trainer.max_epochs=4"]
    settings += ["model.dim=16", "finetune.rates={head: 3, blocks.0: 0.1}", "finetune.layer_decay=0.7"]
    watch = Watch()
    whole = run(tmp_path / "whole", *settings, callbacks=[watch])
    for state in watch.states[:2]:
        assert {"head.weight"} <= moved(before, state) <= {"head.weight", "head.bias"}
    assert any(key.startswith("block.0") for key in moved(watch.states[1], watch.states[2]))
    assert not [key for key in moved(before, watch.states[3]) if key.startswith("patch_embed")]
    for dies_at in (5, 10):  # in the second epoch, which is the head's, and in the last
        output = tmp_path / f"killed{dies_at}"
        with pytest.raises(ZeroDivisionError):
            run(output, *settings, callbacks=[Watch(dies_at)])
        rest = run(output, *settings, f"resume='{output / LAST}'")
        assert not moved(weights(whole), weights(rest)), dies_at
        first_state, other = (c["optimizer_states"][0]["state"] for c in (whole, rest))
        assert first_state.keys() == other.keys()
        assert all(torch.equal(first_state[k]["exp_avg"], other[k]["exp_avg"]) for k in other)


@pytest.mark.slow
def test_another_freeze_is_another_run(first, tmp_path):
    path, _ = first
    run(tmp_path, f"init='{path}'", "finetune.freeze=[embedding]")
    again = ["trainer.max_epochs=2", f"resume='{tmp_path / LAST}'"]
    for other in ("finetune.freeze=[norms]", "finetune.rates={head: 2}"):
        with pytest.raises(UserError, match=r"can't go on so: finetune\.\w+"):
            run(tmp_path, *again, "finetune.freeze=[embedding]", other)


def optimizer_of(*overrides):
    cfg = compose([*BASE, *overrides])
    config = {"finetune": {"layer_decay": cfg.finetune.layer_decay, "rates": cfg.finetune.rates}}
    model = instantiate(cfg.model)
    module = SpikingClassifier(model, None, instantiate(cfg.optimizer), cfg.schedule, config)
    made = module.configure_optimizers()
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: g["lr"] for g in made.param_groups for p in g["params"]}, made.param_groups


def test_rates_follow_layers_and_parts():
    plain, _ = optimizer_of("optimizer.lr=1")
    assert set(plain.values()) == {1.0}
    rates, groups = optimizer_of("optimizer.lr=1", "finetune.layer_decay=0.5")
    same, _ = optimizer_of("optimizer.lr=1", "schedule.layer_decay=0.5")
    assert rates == same and rates.keys() == plain.keys()
    where = ("patch_embed.proj_conv.weight", "block.0.mlp.fc1_conv.weight", "block.1.mlp.fc1_bn.bias", "head.weight")
    assert [rates[name] for name in where] == [0.125, 0.25, 0.5, 1.0]
    settings = ["optimizer.lr=1", "finetune.layer_decay=0.5", "finetune.rates={head: 4, embedding: 0, norms: 0.5}"]
    rates, groups = optimizer_of(*settings)
    assert [rates[name] for name in where] == [0.0, 0.25, 0.25, 4.0]
    assert {g["weight_decay"] for g in groups} == {0.0, 0.06}


@pytest.mark.parametrize(
    ("settings", "says"),
    few(
        [
            (["finetune.freeze=[blockz]"], r"finetune.freeze has blockz: it is no part .* did you mean 'blocks'"),
            (["finetune.freeze=[blocks.1-2]"], "has blocks.1-2: the network has 2 blocks, counted from 0"),
            (["finetune.freeze=['*']"], "leaves nothing that learns"),
            (["finetune.freeze=[head]", "finetune.head_epochs=1"], "leaves nothing that learns"),
            (["finetune.head_epochs=-1"], "finetune.head_epochs is -1: give a whole number"),
            (["finetune.layer_decay=abc"], "finetune.layer_decay is abc: give a number of at least 0, or null"),
            (["finetune.rates={head: fast}"], "finetune.rates.head is fast: give a share"),
            (["finetune.rates={tail: 2}"], "finetune.rates has tail: it is no part"),
            (["finetune.head_epochs=1", "model.compile=true"], "with model.compile=true"),
            (["finetune.freeze=[norms]", "+elastic={base: []}"], "of an elastic training"),
            (["init.slice=true", "init=nowhere.pth"], "nowhere.pth is not a file"),
        ]
    ),
)
def test_what_makes_no_sense_is_one_line(tmp_path, settings, says):
    with pytest.raises(UserError, match=says):
        run(tmp_path, *settings)


@pytest.mark.slow
def test_two_processes_freeze_alike(script, first, tmp_path):
    path, before = first
    own = [o for o in BASE if not o.startswith(("trainer=", "+trainer"))]
    settings = ["trainer=ddp_cpu", "trainer.devices=2", f"init='{path}'", "finetune.freeze=[embedding]"]
    settings += ["finetune.head_epochs=1"]
    for epochs in (1, 2):
        where = f"hydra.run.dir={tmp_path}/{epochs}"
        code, _, err = script("train", *own, *settings, f"trainer.max_epochs={epochs}", where)
        assert code == 0, err
        changed = moved(before, weights(read_checkpoint(tmp_path / str(epochs) / LAST)))
        assert not [key for key in changed if key.startswith("patch_embed.")]
        assert ("head.weight" in changed) and (epochs == 2) == any(key.startswith("block.") for key in changed)
    assert json.loads((tmp_path / "2/result.json").read_text())["epochs"] == 2
