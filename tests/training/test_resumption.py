"""A run goes on as it is asked to now, or is refused with the first setting that differs and nothing touched."""

from __future__ import annotations

import hashlib
import re

import pytest
import pytorch_lightning as pl
import torch
from examples import few
from omegaconf import open_dict

from spikefront.config import compose
from spikefront.errors import UserError
from spikefront.training import run
from spikefront.training.evaluation import evaluate
from spikefront.training.preemption import LAST
from spikefront.training.resumption import continued, differences


class Rates(pl.Callback):
    """The learning rate of each step, as it was trained with."""

    def __init__(self) -> None:
        self.seen: dict[int, float] = {}

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        self.seen[trainer.global_step] = optimizer.param_groups[0]["lr"]


@pytest.fixture
def train(tmp_path):
    """Train into one directory, from what is there; the learning rate of every step."""

    def go(*overrides: str) -> dict[int, float]:
        rates = Rates()
        fixed = ["model=sdt_1_16", "model.timesteps=1", "trainer=cpu", "trainer.limit_train_batches=4"]
        fixed += ["trainer.limit_val_batches=1", "trainer.limit_test_batches=1", "~callbacks.progress", "logger=none"]
        run.train(compose([*fixed, "resume=auto", f"output_dir={tmp_path}/run", *overrides]), [rates])
        return rates.seen

    return go


def test_what_can_change_is_used_and_told(train, tmp_path, capsys):
    train("schedule=constant", "trainer.max_epochs=1", "optimizer.lr=1e-3")
    assert "going on" not in capsys.readouterr().out
    later = train(
        "schedule=constant", "trainer.max_epochs=2", "optimizer.lr=1e-4", "optimizer.weight_decay=0.1", "neuron.tau=1.5"
    )
    out = capsys.readouterr().out
    assert "neuron.tau was 2.0, now 1.5 (and 3 more)" in out
    assert set(later.values()) == {1e-4}
    (state,) = torch.load(tmp_path / "run" / LAST, weights_only=True)["optimizer_states"]
    assert [group["weight_decay"] for group in state["param_groups"]] == [0, 0.1]


def test_a_longer_run_follows_the_longer_schedule(train):
    train("trainer.max_epochs=2")
    late = train("trainer.max_epochs=4")
    assert min(late) == 8 and late[8] > 10 * late[15]


def test_another_batch_takes_the_schedule_on_from_the_same_epoch(train):
    before = train("trainer.max_epochs=1", "schedule.warmup_epochs=0")
    after = train("trainer.max_epochs=2", "schedule.warmup_epochs=0", "trainer.limit_train_batches=8")
    assert before[0] == 6e-3
    assert after[4] == pytest.approx((6e-3 + 1e-5) / 2)  # half of the epochs, a third of the steps


@pytest.mark.parametrize("epochs", few([-1, 20]))
def test_steps_bound_the_schedule_and_epochs_the_warm_up(train, epochs):
    rates = train("++trainer.max_steps=8", f"trainer.max_epochs={epochs}")
    assert len(rates) == 8
    assert max(rates, key=rates.__getitem__) == 3  # timm's cosine falls under its warm-up
    assert rates[7] < rates[4] / 4


def test_a_schedule_without_an_end_is_one_line(train):
    with pytest.raises(UserError, match=r"trainer\.max_epochs or trainer\.max_steps"):
        train("trainer.max_epochs=-1")


@pytest.mark.parametrize(
    ("overrides", "told"),
    few(
        [
            (["model.dim=32"], "model.dim was 16, now 32"),
            (["neuron=plif"], r"neuron\._target_ was spikefront.nn.LIF, now spikefront.nn.PLIF"),
            (["embedding=conv_stem"], r"embedding\._target_"),
            (["data.num_classes=12"], r"num_classes was 10, now 12"),
            (["optimizer=lamb"], r"optimizer\._target_ was torch.optim.AdamW"),
            (["optimizer.weight_decay=0"], r"optimizer\.weight_decay was 0.06"),
            (["data.val_fraction=0.2"], r"data\.val_fraction was 0.1, now 0.2"),
            (["trainer.max_epochs=1"], "2 epochs: trainer.max_epochs=1"),
        ]
    ),
)
def test_what_can_not_change_is_refused_and_nothing_is_touched(made, overrides, told):
    def sums():
        return {p: hashlib.md5(p.read_bytes()).hexdigest() for p in made.rglob("*") if p.is_file()}

    before = sums()
    with pytest.raises(UserError, match=told) as error:
        run.train(compose([*BASE, "resume=auto", f"output_dir={made}", *overrides]))
    assert "\n" not in str(error.value)
    assert sums() == before


BASE = [
    *("model=sdt_1_16", "model.timesteps=1", "trainer=cpu", "trainer.limit_train_batches=1", "trainer.max_epochs=2"),
    *("trainer.limit_val_batches=1", "trainer.limit_test_batches=1", "~callbacks.progress", "logger=csv"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    directory = tmp_path_factory.mktemp("made")
    run.train(compose([*BASE, f"output_dir={directory}"]))
    return directory


@pytest.mark.parametrize(
    ("overrides", "told"),
    few(
        [
            ({"model": {"dim": 32}}, "model.dim was 16, now 32:"),
            ({"model": {"depth": 2}}, "model.depth was 1, now 2:"),
            ({"model": {"num_classes": 5}}, "model.num_classes was 10, now 5:"),
            ({"model": {"attention": {"_target_": "spikefront.nn.NoAttention"}}}, "model.attention._target_ was "),
        ]
    ),
)
def test_an_evaluation_of_another_network_names_the_first_setting_that_differs(made, tmp_path, overrides, told):
    cfg = compose([f"checkpoint={made / LAST}", f"output_dir={tmp_path}"], root="evaluate")
    with open_dict(cfg):
        cfg.overrides = overrides
    with pytest.raises(UserError) as error:
        evaluate(cfg)
    assert told in str(error.value) and "\n" not in str(error.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"neuron": {"threshold": 0.5}}, "overrides.neuron changes nothing: the network has overrides.model.neuron"),
        ({"data": {"num_classes": 5}}, "data.num_classes changes nothing: the network has overrides.model.num_classes"),
        ({"data": {"channels": 3}}, "data.channels changes nothing: the network has overrides.model.in_channels"),
        ({"data": {"batch_size": 9, "shift": 0}}, "overrides.data.shift changes nothing: only a training has it"),
        ({"data": {"augmentation": {"flip": 0}}}, "overrides.data.augmentation.flip changes nothing: only a training"),
        ({"trainer": {"max_epochs": 9}}, "overrides.trainer.max_epochs changes nothing: only a training has it"),
        ({"optimizer": {"lr": 0.1}}, "optimizer.lr changes nothing: an evaluation reads seed, threads"),
        ({"seed": "abc"}, "seed is abc: give a whole number"),
        ({"threads": 0}, "threads is 0: give a whole number"),
        ({"data": 5}, "overrides.data is one value: give overrides.data.<key>"),
        (5, "overrides=5: give keys"),
        ({"enregy": {"first_layer": "once"}}, "overrides.enregy.first_layer changes nothing: an evaluation reads "),
    ],
)
def test_an_override_that_an_evaluation_does_not_read_is_refused(made, tmp_path, overrides, told):
    cfg = compose([f"checkpoint={made / LAST}", f"output_dir={tmp_path}"], root="evaluate")
    with open_dict(cfg):
        cfg.overrides = overrides
    with pytest.raises(UserError, match=re.escape(told)):
        evaluate(cfg)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mistake", ["threads=0", "threads=abc", "confidence=abc", "confidence=[0.5,x]", "trust=maybe"])
def test_a_setting_of_an_evaluation_that_is_none_is_one_line(made, tmp_path, script, mistake):
    code, _, err = script("evaluate", f"checkpoint={made / LAST}", f"hydra.run.dir={tmp_path}", mistake)
    assert code == 1 and err.startswith(f"spikefront: {mistake.partition('=')[0]}") and len(err.splitlines()) == 1


def test_weights_alone_are_no_training(tmp_path, made):
    content = torch.load(made / LAST, weights_only=True)
    torch.save({"state_dict": content["state_dict"]}, tmp_path / "weights.ckpt")
    with pytest.raises(UserError, match="no training to go on with"):
        continued(str(tmp_path / "weights.ckpt"), {}, torch.nn.Identity())


def test_another_machine_another_precision_and_another_version_are_no_difference():
    def config(*overrides: str) -> dict:
        return run.cast(dict, run.OmegaConf.to_container(compose(["output_dir=x", *overrides]), resolve=True))

    here = config("trainer=cpu", "data.num_workers=0")
    there = config("trainer=gpu", "data.num_workers=4", "logger=csv", "callbacks=quiet", "trainer.precision=bf16-mixed")
    assert not differences(here, there)
    old = config("trainer=cpu")
    old["trainer"]["effective_batch"] = None  # the default of 0.1
    del old["model"]["checkpoint_blocks"], old["trainer"]["gradient_clip_val"]
    assert not differences(old, here)
    assert next(iter(differences(here, config("trainer=cpu", "callbacks=ema")))) == "callbacks.ema._target_"
