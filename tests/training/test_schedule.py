"""The learning rate of every step, as the authors' loops set it."""

from __future__ import annotations

import math

import pytest
import pytorch_lightning as pl
import torch
from examples import few
from hydra.utils import instantiate
from timm.scheduler import CosineLRScheduler

from spikefront.config import compose
from spikefront.errors import UserError
from spikefront.training import run
from spikefront.training.schedule import Cosine, parameter_groups

GIVEN = {"warmup_epochs": 20, "warmup_lr": 1e-5, "min_lr": 2e-5, "cooldown_epochs": 10, "interval": "epoch"}


def optimizer(lr: float = 1e-3, **group) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], **group}], lr=lr)


def rates(schedule: dict, epochs: int, per_epoch: int, **group) -> list[float]:
    """Of every step."""
    chosen = optimizer(**group)
    cosine = Cosine(chosen, schedule, epochs * per_epoch, per_epoch)
    found = []
    for step in range(epochs * per_epoch):
        cosine.at(step)
        found.append(chosen.param_groups[0]["lr"])
    return found


def test_by_epoch_it_is_what_timms_script_sets():
    """`step(epoch + 1)` after each epoch of a schedule of 300, and ten more epochs at its end."""
    theirs = optimizer()
    scheduler = CosineLRScheduler(theirs, t_initial=300, lr_min=2e-5, warmup_t=20, warmup_lr_init=1e-5)
    found = rates(GIVEN, 310, 3)
    for epoch in range(310):
        assert found[3 * epoch : 3 * epoch + 3] == pytest.approx([theirs.param_groups[0]["lr"]] * 3, rel=1e-9)
        scheduler.step(epoch + 1)
    assert found[3 * 7] == pytest.approx(1e-5 + 7 * (1e-3 - 1e-5) / 20)
    assert found[3 * 300 - 1] > 2e-5 == found[3 * 300] == found[-1]


def test_by_step_it_changes_within_an_epoch():
    found = rates({**GIVEN, "interval": "step"}, 310, 3)
    assert len({*found[60:900]}) == 840
    assert found[900:] == [2e-5] * 30


def test_it_can_begin_where_warm_up_ends():
    """As MAE's script: from the top, by the share of what is left."""
    found = rates({**GIVEN, "cooldown_epochs": 0, "interval": "step", "warmup_prefix": True}, 200, 10)
    for step in (200, 700, 1999):
        share = (step - 200) / 1800
        assert found[step] == pytest.approx(2e-5 + (1e-3 - 2e-5) * (1 + math.cos(math.pi * share)) / 2)
    assert rates({**GIVEN, "cooldown_epochs": 0}, 200, 1)[20] < found[200] == 1e-3


def test_a_group_has_its_share_from_the_first_step():
    for warmup in (0, 20):
        whole, half = (rates({**GIVEN, "warmup_epochs": warmup}, 310, 1, lr_scale=scale) for scale in (1.0, 0.5))
        assert half == pytest.approx([rate / 2 for rate in whole])
    half = optimizer(lr_scale=0.5)
    Cosine(half, {**GIVEN, "warmup_epochs": 0}, 310, 1)
    assert half.param_groups[0]["lr"] == 5e-4


def test_a_cooldown_that_leaves_nothing_is_one_line():
    with pytest.raises(UserError, match=r"schedule\.cooldown_epochs=10 leaves 0 of 100 steps"):
        rates(GIVEN, 10, 10)


class Groups(pl.Callback):
    """Learning rates of the groups at every step."""

    def __init__(self) -> None:
        self.seen: list[list[float]] = []

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        self.seen.append([group["lr"] for group in optimizer.param_groups])


@pytest.fixture
def train(tmp_path):
    def go(*overrides: str) -> list[list[float]]:
        groups = Groups()
        fixed = ["model=sdt_2_16", "model.timesteps=1", "trainer=cpu", "trainer.limit_train_batches=2", "logger=none"]
        fixed += ["trainer.limit_val_batches=1", "trainer.limit_test_batches=1", "~callbacks.progress"]
        run.train(compose([*fixed, f"output_dir={tmp_path}/run", *overrides]), [groups])
        return groups.seen

    return go


@pytest.mark.slow  # its rates: above
def test_a_training_by_epochs_with_a_cooldown(train):
    settings = "schedule.interval=epoch schedule.cooldown_epochs=1 schedule.warmup_epochs=1 optimizer.lr=1e-3"
    seen = [rates[0] for rates in train(*settings.split(), "trainer.max_epochs=4", "resume=auto")]
    expected = [1e-6, 1e-5 + (1e-3 - 1e-5) * 0.75, 1e-5 + (1e-3 - 1e-5) * 0.25, 1e-5]
    assert seen == pytest.approx([rate for rate in expected for _ in range(2)])
    later = train(*settings.split(), "trainer.max_epochs=5", "resume=auto")  # one epoch more, the cooldown
    assert len(later) == 2 and later[0][0] == 1e-5


@pytest.mark.parametrize("schedule", few(["constant", "cosine"]))
def test_a_block_learns_slower_than_the_one_above(train, schedule):
    (first, *_) = train(f"schedule={schedule}", "schedule.layer_decay=0.5", "optimizer.lr=1e-3", "trainer.max_epochs=1")
    top = 1e-3 if schedule == "constant" else 1e-6
    assert sorted({round(rate / top, 6) for rate in first}) == [0.125, 0.25, 0.5, 1]


def test_every_parameter_is_of_its_layer():
    model = instantiate(compose(["model=sdt_2_16", "neuron=plif"]).model)
    names = {id(p): name for name, p in model.named_parameters()}
    groups = parameter_groups(model, 0.1, 0.5)
    scales = {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}
    expected = {"patch_embed": 0.125, "block.0": 0.25, "block.1": 0.5, "head": 1}
    assert len(scales) == len(names)
    for name, scale in scales.items():
        assert scale == next(value for start, value in expected.items() if name.startswith(start)), name
    assert {group["weight_decay"] for group in groups} == {0, 0.1}


def test_layers_that_nobody_names_are_one_line():
    with pytest.raises(UserError, match="Linear has no group_matcher"):
        parameter_groups(torch.nn.Linear(2, 2), 0.1, 0.75)


def test_a_base_learning_rate_is_for_256_samples(train):
    settings = "schedule=constant schedule.lr_rule=linear schedule.lr_batch=256 optimizer.lr=6e-4 trainer.max_epochs=1"
    seen = train(*settings.split(), "data.batch_size=32", "trainer.effective_batch=64")
    assert len(seen) == 1 and seen[0] == pytest.approx([6e-4 * 64 / 256] * 2)
