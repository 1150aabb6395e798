"""Each experiment=… composes to its published recipe (arXiv 2307.01694 and its authors' configuration files)."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from timm.data import Mixup
from timm.optim import Lamb

from spikefront.config import CONF, compose
from spikefront.data import build_data
from spikefront.errors import UserError
from spikefront.training.batch import scaled, share

IMAGENET = {
    "optimizer._target_": "timm.optim.Lamb",
    "optimizer.lr": 1e-3,
    "optimizer.weight_decay": 0.01,
    "trainer.max_epochs": 300,
    "schedule.name": "cosine",
    "schedule.warmup_epochs": 20,
    "schedule.warmup_lr": 1e-5,
    "schedule.min_lr": 2e-5,
    "data.batch_size": 36,
    "trainer.effective_batch": 36 * 8,
    "schedule.lr_batch": 36 * 8,
    "data.augmentation.auto_augment": "rand-m7-mstd0.5-inc1",
    "data.mixup.mixup_alpha": 0.2,
    "data.mixup.cutmix_alpha": 1.0,
    "data.mixup_off_epoch": None,
    "loss._target_": "spikefront.training.CrossEntropy",
    "loss.label_smoothing": 0.1,
    "data.repeats": 3,
    "data.crop_pct": 0.95,
    "data.name": "imagenet",
    "data.image_size": 224,
    "data.eval_size": None,
    "data.pooling": "1111",
    "model.timesteps": 4,
    "model.num_classes": 1000,
    "trainer.precision": "16-mixed",
    "trainer.devices": -1,
}
CIFAR = {
    "optimizer._target_": "torch.optim.AdamW",
    "optimizer.lr": 3e-4,
    "optimizer.weight_decay": 6e-2,
    "trainer.max_epochs": 300,
    "schedule.name": "cosine",
    "schedule.warmup_epochs": 20,
    "schedule.warmup_lr": 1e-6,
    "schedule.min_lr": 1e-5,
    "data.batch_size": 64,
    "trainer.effective_batch": 64,
    "data.augmentation.auto_augment": "rand-m9-n1-mstd0.4-inc1",
    "data.mixup.mixup_alpha": 0.5,
    "data.mixup.cutmix_alpha": 0.0,
    "data.mixup_off_epoch": 200,
    "loss.label_smoothing": 0.1,
    "data.image_size": 32,
    "data.pooling": "0011",
    "model.depth": 2,
    "model.dim": 512,
    "model.timesteps": 4,
}
DVS = {
    "model.depth": 2,
    "model.dim": 256,
    "model.in_channels": 2,
    "trainer.max_epochs": 200,
    "schedule.name": "cosine",
    "schedule.warmup_epochs": 10,
    "loss.label_smoothing": 0.1,
    "trainer.precision": "16-mixed",
    "data.mixup": None,
    "data.binning.mode": "count",
}
PUBLISHED = {
    **{
        f"imagenet_{depth}_{dim}": {**IMAGENET, "model.depth": depth, "model.dim": dim}
        for depth, dim in ((8, 384), (6, 512), (8, 512), (10, 512), (8, 768))
    },
    "cifar10_2_512": {**CIFAR, "data.name": "cifar10", "model.num_classes": 10},
    "cifar100_2_512": {**CIFAR, "data.name": "cifar100", "model.num_classes": 100},
    "cifar10_dvs_published": {
        **DVS,
        "data.name": "cifar10_dvs",
        "optimizer._target_": "torch.optim.AdamW",
        "optimizer.lr": 7.5e-3,
        "optimizer.weight_decay": 1e-4,
        "schedule.min_lr": 3e-4,
        "data.batch_size": 32,
        "trainer.effective_batch": 32,
        "loss._target_": "spikefront.training.TET",
        "loss.lambda_mse": 1e-3,
        "loss.mean": 1.0,
        "data.image_size": 64,
        "data.augmentation.flip": 0.0,
        "data.augmentation.roll": 0,
        "data.augmentation.cutout": 0,
        "callbacks.ema": None,
        "data.pooling": "0011",
        "model.timesteps": 10,
        "model.event_mode": True,
        "data.split": "published",
    },
    "dvs128_gesture": {
        **DVS,
        "data.name": "dvs128_gesture",
        "optimizer._target_": "timm.optim.Lamb",
        "optimizer.lr": 3e-4,
        "optimizer.weight_decay": 6e-2,
        "data.batch_size": 16,
        "trainer.effective_batch": 16,
        "data.image_size": 128,
        "data.pooling": "0111",
        "model.timesteps": 16,
        "model.num_classes": 11,
    },
}
PUBLISHED["imagenet_8_768"]["data.eval_size"] = 288
PUBLISHED["cifar10_dvs"] = PUBLISHED["cifar10_dvs_published"]  # by its earlier name
PUBLISHED["cifar10_dvs_authors"] = {
    **{k: v for k, v in PUBLISHED["cifar10_dvs"].items() if k not in ("callbacks.ema", "data.augmentation.cutout")},
    "trainer.max_epochs": 400,
    "trainer.precision": "32-true",
    "model.timesteps": 16,
    "data.split": "seed0",
    "callbacks.ema._target_": "spikefront.training.EMA",
    "loss._target_": "spikefront.training.TET",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_is_the_published_one(name):
    cfg = compose([f"experiment={name}", "output_dir=x"])
    composed = {key: OmegaConf.select(cfg, key) for key in PUBLISHED[name]}
    assert composed == PUBLISHED[name]
    made = instantiate(cfg.optimizer)([torch.nn.Parameter(torch.zeros(1))])
    assert isinstance(made, Lamb if "Lamb" in cfg.optimizer._target_ else torch.optim.AdamW)
    data = build_data(cfg.data, timesteps=cfg.model.timesteps)
    if cfg.data.mixup:
        mixup = data.mixup
        assert isinstance(mixup, Mixup) and mixup.num_classes == cfg.model.num_classes
        assert mixup.label_smoothing == 0  # the loss does


def test_every_recipe_is_held_against_the_table():
    bases = {"imagenet", "cifar"}
    assert {p.stem for p in (CONF / "experiment").glob("*.yaml")} - bases == set(PUBLISHED)


def test_a_recipe_can_be_changed_on_the_command_line():
    cfg = compose(["experiment=cifar10_2_512", "loss=tet", "trainer=cpu", "callbacks=ema", "output_dir=x"])
    assert cfg.loss._target_ == "spikefront.training.TET"
    assert (cfg.loss.label_smoothing, cfg.trainer.accelerator, cfg.trainer.max_epochs) == (0.1, "cpu", 300)
    assert next(iter(cfg.callbacks)) == "ema"
    assert cfg.callbacks.ema.decay == 0.9998


@pytest.mark.parametrize(
    ("processes", "size", "passes"),
    [(8, 36, 1), (4, 36, 2), (2, 36, 4), (1, 36, 8), (16, 18, 1), (32, 9, 1), (9, 32, 1), (6, 24, 2)],
)
def test_any_number_of_processes_makes_the_effective_batch(processes, size, passes):
    assert share(288, 36, processes) == (size, passes)
    assert size * passes * processes == 288


@pytest.mark.parametrize(("effective", "processes", "even"), [(288, 5, False), (4, 8, False), (288, 32, True)])
def test_a_batch_that_can_not_be_shared_is_one_line(effective, processes, even):
    with pytest.raises(UserError, match=f"effective_batch={effective} can't be shared by {processes} processes"):
        share(effective, 36, processes, even)


@pytest.mark.parametrize(("rule", "expected"), [("none", 1e-3), ("linear", 4e-3), ("sqrt", 2e-3)])
def test_the_learning_rate_follows_the_batch_by_a_named_rule(rule, expected):
    assert scaled(1e-3, rule, 64, 256) == pytest.approx(expected)
    assert scaled(1e-3, rule, 256, 256) == 1e-3


def test_a_wrong_rule_is_one_line():
    with pytest.raises(UserError, match="did you mean 'linear'"):
        scaled(1e-3, "linar", 64, 64)
    with pytest.raises(UserError, match="lr_batch"):
        scaled(1e-3, "sqrt", None, 64)


def test_accumulated_passes_make_the_steps_of_the_effective_batch(script, quick, tmp_path):
    """Steps, learning rate and decay of a run as it is saved."""
    arguments = [o for o in quick if "limit_train" not in o]
    code, _, err = script(
        "train",
        *arguments,
        "trainer.limit_train_batches=8",
        "trainer.max_epochs=1",
        "data.batch_size=16",
        "trainer.effective_batch=64",
        "schedule=constant",
        "schedule.lr_rule=sqrt",
        "schedule.lr_batch=16",
        "optimizer.lr=1e-3",
    )
    assert code == 0, err
    last = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 2
    plain, decayed = last["optimizer_states"][0]["param_groups"]
    assert plain["lr"] == decayed["lr"] == 2e-3
    assert (plain["weight_decay"], decayed["weight_decay"]) == (0, 0.06)


def test_an_impossible_effective_batch_stops_before_training(script, quick, tmp_path):
    code, _, err = script("train", *quick, "trainer.effective_batch=-4")
    assert code == 1
    assert "trainer.effective_batch is -4: give a whole number of at least 1" in err


def test_a_sweep_never_selects_on_the_test_part(script, tmp_path):
    code, _, err = script("sweep", "-m", "hparams_search=timesteps", "data=digits", "data.val_fraction=0",
                          f"search.dir={tmp_path}")  # fmt: skip
    assert code == 1
    assert "data.val_fraction is 0" in err
