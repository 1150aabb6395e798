"""Each experiment=… composes to its column of what the authors' code does (arXiv 2307.01694, files and train.py)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from columns import BASES, FAMILIES, STATTEN
from examples import few
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from timm.data import Mixup
from timm.optim import Lamb
from torchvision.transforms import InterpolationMode

from spikefront.config import CONF, compose, flat
from spikefront.data import build_data
from spikefront.errors import UserError
from spikefront.training.batch import scaled, share

ADAMW, LAMB = "torch.optim.AdamW", "timm.optim.Lamb"
LOSS = "spikefront.training."
EVERY = {  # of the script that trains all of them
    "seed": 42,
    "schedule.name": "cosine",
    "schedule.cooldown_epochs": 10,
    "schedule.interval": "epoch",
    "schedule.warmup_prefix": False,
    "schedule.layer_decay": 1.0,
    "trainer.sync_batchnorm": False,
    "trainer.gradient_clip_val": None,
    "callbacks.ema": None,
    "model.drop_path": 0.0,
    "data.val_fraction": 0.0,
    "data.mixup_off_epoch": None,
}


def optimised(target: str, lr: float, min_lr: float, decay: float) -> dict:
    keys = ("optimizer._target_", "optimizer.lr", "schedule.min_lr", "optimizer.weight_decay")
    return dict(zip(keys, (target, lr, min_lr, decay), strict=True))


def timed(epochs: int, warmup: int, warmup_lr: float, batch: int, processes: int, precision: str) -> dict:
    return {
        "trainer.max_epochs": epochs + 10,
        "schedule.warmup_epochs": warmup,
        "schedule.warmup_lr": warmup_lr,
        "data.batch_size": batch,
        "trainer.effective_batch": batch * processes,
        "schedule.lr_batch": batch * processes,
        "trainer.precision": precision,
    }


def mixed(alpha: float, cutmix: float, probability: float) -> dict:
    keys = ("mixup_alpha", "cutmix_alpha", "prob", "switch_prob", "label_smoothing")
    values = dict(zip(keys, (alpha, cutmix, probability, 0.5, 0.1), strict=True))
    values["switch_prob"] = 0.5 if cutmix else None  # nothing to switch to
    return {f"data.mixup.{key}": value for key, value in values.items()} | {
        "loss.label_smoothing": 0.0,  # targets are smoothed already
        "data.repeats": 1,
        "data.drop_last": True,
    }


def sized(depth: int, dim: int, timesteps: int, side: int, pooling: str, classes: int, events: bool = False) -> dict:
    keys = ("depth", "dim", "timesteps", "image_size", "pooling", "num_classes", "event_mode")
    of_model = dict(zip(keys, (depth, dim, timesteps, side, pooling, classes, events), strict=True))
    return {f"model.{key}": value for key, value in of_model.items() if key != "image_size"} | {"data.image_size": side}


def imagenet(depth, dim, lr, min_lr, batch, auto_augment, probability, crop):
    return {
        **EVERY,
        **sized(depth, dim, 4, 224, "1111", 1000),
        **optimised(LAMB, lr, min_lr, 0.01),
        **timed(300, 20, 1e-5, batch, 8, "16-mixed"),
        **mixed(0.2, 1.0, probability),
        "data.name": "imagenet",
        "data.augmentation.auto_augment": auto_augment,
        "data.augmentation.scale": [crop, 1.0],
        "data.augmentation.re_prob": 0.0,
        "data.crop_pct": 0.95,
        "data.eval_size": None,
        "loss._target_": LOSS + "CrossEntropy",
        "trainer.devices": -1,
    }


def cifar(classes, dim, loss="CrossEntropy"):
    return {
        **EVERY,
        **sized(2, dim, 4, 32, "0011", classes),
        **optimised(ADAMW, 3e-4, 1e-5, 0.06),
        **timed(300, 20, 1e-6, 64, 1, "32-true"),
        **mixed(0.5, 0.0, 1.0),
        "data.name": f"cifar{classes}",
        "data.augmentation.auto_augment": "rand-m9-n1-mstd0.4-inc1",
        "data.augmentation.hflip": 0.5,
        "data.augmentation.scale": [1.0, 1.0],
        "data.augmentation.ratio": [1.0, 1.0],
        "data.augmentation.re_prob": 0.0,
        "loss._target_": LOSS + loss,
    }


EVENTS = {  # frames by number of events, nothing mixed or augmented, the last batch kept, halves under AMP
    **EVERY,
    "model.in_channels": 2,
    "data.binning.mode": "count",
    "data.binning.rest": True,
    "data.mixup": None,
    "data.drop_last": False,
    "data.half_inputs": True,
    **{f"data.augmentation.{key}": 0 for key in ("flip", "roll", "drop", "cutout", "nda", "wide")},
    "loss.label_smoothing": 0.1,
}
TET = {"loss._target_": LOSS + "TET", "loss.lambda_mse": 1e-3, "loss.mean": 1.0}
GESTURE = {**EVENTS, "data.name": "dvs128_gesture", "loss._target_": LOSS + "CrossEntropy"}  # without the DVS pools
M5, M7 = "rand-m5-mstd0.5-inc1", "rand-m7-mstd0.5-inc1"

PUBLISHED: dict[str, dict] = {
    "imagenet_8_384": imagenet(8, 384, 1.5e-3, 1.5e-5, 48, M5, 0.6, 0.2),
    "imagenet_6_512": imagenet(6, 512, 1e-3, 2e-5, 48, M7, 0.6, 0.08),
    "imagenet_8_512": imagenet(8, 512, 1.5e-3, 1.5e-5, 48, M5, 0.6, 0.2),
    "imagenet_10_512": imagenet(10, 512, 1e-3, 2e-5, 36, M7, 0.75, 0.2),
    "imagenet_8_768": imagenet(8, 768, 1e-3, 2e-5, 36, M7, 1.0, 0.08),
    "cifar10_2_256": cifar(10, 256),
    "cifar10_2_512": cifar(10, 512),
    "cifar100_2_256": cifar(100, 256),
    "cifar100_2_512": cifar(100, 512),
    "cifar10_2_512_tet": {**cifar(10, 512, "TET"), **TET},
    "cifar10_dvs_published": {
        **EVENTS,
        **sized(2, 256, 10, 64, "0011", 10, events=True),
        **optimised(ADAMW, 7.5e-3, 3e-4, 1e-4),
        **timed(200, 10, 1e-3, 32, 1, "16-mixed"),
        **TET,
        "data.name": "cifar10_dvs",
        "data.split": "published",
    },
    "dvs128_gesture_t10": {
        **GESTURE,
        **sized(2, 256, 10, 128, "0111", 11),
        **optimised(LAMB, 2e-3, 1e-5, 1e-4),
        **timed(200, 10, 1e-5, 16, 1, "16-mixed"),
    },
    "dvs128_gesture": {
        **GESTURE,
        **sized(2, 256, 16, 128, "0111", 11),
        **optimised(LAMB, 3e-4, 1e-5, 0.06),
        **timed(200, 10, 1e-6, 16, 1, "16-mixed"),
    },
}
# by their earlier names
PUBLISHED["imagenet"] = PUBLISHED["imagenet_8_384"]
PUBLISHED["cifar"] = PUBLISHED["cifar10_2_512"]
PUBLISHED["cifar10_dvs"] = PUBLISHED["cifar10_dvs_published"]
PUBLISHED["cifar10_dvs_authors"] = {  # what they advise, beside their file
    **{k: v for k, v in PUBLISHED["cifar10_dvs"].items() if k != "callbacks.ema"},
    "trainer.max_epochs": 410,
    "trainer.precision": "32-true",
    "data.half_inputs": False,
    "model.timesteps": 16,
    "data.split": "seed0",
    "data.augmentation.cutout": 8,
    "callbacks.ema._target_": LOSS + "EMA",
}


@pytest.mark.parametrize("name", few(PUBLISHED, 5))
def test_a_recipe_is_what_was_run(name):
    cfg = compose([f"experiment={name}", "output_dir=x"])
    composed = {key: OmegaConf.select(cfg, key) for key in PUBLISHED[name]}
    assert composed == PUBLISHED[name]
    made = instantiate(cfg.optimizer)([torch.nn.Parameter(torch.zeros(1))])
    assert isinstance(made, Lamb if cfg.optimizer._target_ == LAMB else torch.optim.AdamW)
    data = build_data(cfg.data, timesteps=cfg.model.timesteps)
    if cfg.data.mixup:
        mixup = data.mixup
        assert isinstance(mixup, Mixup) and mixup.num_classes == cfg.model.num_classes
        assert mixup.mix_prob == PUBLISHED[name]["data.mixup.prob"]
        assert scaled(cfg.optimizer.lr, cfg.schedule.lr_rule, cfg.schedule.lr_batch, cfg.trainer.effective_batch) == (
            cfg.optimizer.lr
        )


def test_every_recipe_is_held_against_the_table():
    assert {p.stem for p in (CONF / "experiment").glob("**/*.yaml")} == {*PUBLISHED, *FAMILIES, *BASES, *STATTEN}


WRITTEN = {  # what the files, or the loaders, ask for and the code never does
    **{f"imagenet{size}": {"data.repeats": 3} for size in ("", "_8_384", "_6_512", "_8_512", "_8_768")},
    "imagenet_10_512": {},
    **{name: {"data.mixup_off_epoch": 200} for name in PUBLISHED if name.startswith("cifar") and "dvs" not in name},
    **{name: {"data.augmentation.flip": 0.5, "data.augmentation.roll": 5} for name in PUBLISHED if "10_dvs" in name},
    **{name: {"data.augmentation.flip": 0.5} for name in PUBLISHED if name.startswith("dvs128")},
}


@pytest.mark.parametrize("name", few(PUBLISHED, 5))
def test_as_written_is_one_word_away(name):
    """And nothing else changes."""
    in_force, written = (
        flat(OmegaConf.to_container(compose([f"experiment={name}", f"recipe={which}", "output_dir=x"]), resolve=True))
        for which in ("in_force", "written")
    )
    changed = {key: value for key, value in written.items() if in_force[key] != value}
    assert {key: value for key, value in changed.items() if not key.startswith("recipe.")} == WRITTEN[name]


def test_cifar_is_neither_cropped_nor_padded():
    training, _ = build_data(compose(["experiment=cifar10_2_512"]).data, timesteps=4).transforms()
    crop, flip, *_ = training.transforms
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    assert (np.asarray(crop(picture)) == np.asarray(picture)).all()
    assert flip.p == 0.5
    names = [type(t).__name__ for t in training.transforms]
    assert "ColorJitter" not in names and "RandomErasing" not in names


def test_the_largest_network_is_tested_at_288_of_320():
    cfg = compose(
        ["experiment=imagenet_8_768", "data.eval_size=288", "data.crop_pct=0.9", "+data.interpolation=bilinear"]
    )
    resize, crop, *_ = build_data(cfg.data, timesteps=4).transforms()[1].transforms
    assert (resize.size, resize.interpolation, crop.size) == (320, InterpolationMode.BILINEAR, (288, 288))


def test_halving_frames_by_area_is_halving_them_by_bilinear_interpolation():
    """CIFAR10-DVS comes at 128x128, and goes in at 64x64."""
    frames = torch.rand(2, 2, 128, 128)
    bilinear = torch.nn.functional.interpolate(frames, (64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(torch.nn.functional.interpolate(frames, (64, 64), mode="area"), bilinear)


def test_gestures_are_seen_without_the_pools_of_event_cameras():
    def pools(experiment):
        attn = instantiate(compose([f"experiment={experiment}"]).model).block[0].attn
        return {type(m).__name__ for m in (attn.q_pool, attn.k_pool, attn.v_pool)}, attn.op.event_mode

    for name in ("dvs128_gesture", "dvs128_gesture_t10"):
        assert pools(name) == ({"Identity"}, False)
    assert pools("cifar10_dvs") == ({"Identity", "MaxPool"}, True)


def test_a_recipe_can_be_changed_on_the_command_line():
    cfg = compose(["experiment=cifar10_2_512", "loss=tet", "trainer=cpu", "callbacks=ema", "output_dir=x"])
    assert cfg.loss._target_ == "spikefront.training.TET"
    assert (cfg.loss.label_smoothing, cfg.trainer.accelerator, cfg.trainer.max_epochs) == (0.0, "cpu", 310)
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
