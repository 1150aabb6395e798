"""What a dry run says is in force is what a training does."""

from __future__ import annotations

import re

import pytest
import pytorch_lightning as pl
import torch
from examples import few
from hydra.errors import InstantiationException
from own import given

from spikefront import create_model
from spikefront.config import CONF, compose
from spikefront.data import build_data
from spikefront.errors import UserError
from spikefront.planning import outline
from spikefront.training import train

RECIPES = sorted(p.stem for p in (CONF / "experiment").glob("*.yaml"))
SETS = sorted(p.stem for p in (CONF / "data").glob("*.yaml"))


@pytest.mark.parametrize("choice", few([*(f"experiment={r}" for r in RECIPES), *(f"data={s}" for s in SETS)], 17))
def test_everything_has_an_outline_that_fits_a_screen(choice, tmp_path):
    random = ["init=null"] if choice.endswith("_transfer") else []  # for want of its authors' file
    lines = outline(compose([choice, "output_dir=x", *random, *given(choice.removeprefix("data="), tmp_path)]))
    assert list(lines) == ["steps", "batch", "rate", "training", "evaluation", "mixing", "loss", "no effect"]
    assert sum(1 + len(text) // 108 for text in lines.values()) <= 20


def test_the_recipe_of_imagenet():
    lines = outline(compose(["experiment=imagenet_8_384", "output_dir=x"]))
    # 1,281,167 images: 160,145 a process, 3,336 batches of 48 there
    assert lines["steps"].startswith("1,034,160: 310 epochs of 3,336, 20 of them warm-up, 10 of them cooldown")
    assert lines["batch"] == "384 samples a step: 8 processes of 48, batch norm over 48"
    together = outline(compose(["experiment=imagenet_8_384", "trainer.sync_batchnorm=true", "output_dir=x"]))
    assert together["batch"].endswith("batch norm over 384")
    assert re.match(
        r"1e-05 at the start, 0\.00148 from epoch 20, 1\.5e-05 at the end, changed each epoch", lines["rate"]
    )
    assert "scale=(0.2, 1.0)" in lines["training"] and "RandAugment(2 of 15, p=0.5, m=5" in lines["training"]
    assert "ColorJitter" not in lines["training"]  # as it is built
    assert "mix_prob=0.6" in lines["mixing"] and lines["mixing"].endswith("to the end")
    assert lines["no effect"] == "nothing of what is set"
    written = outline(compose(["experiment=imagenet_8_384", "recipe=written", "output_dir=x"]))
    assert written["batch"].endswith("each image 3 times in a row")


def test_what_images_go_through_is_said_in_plain_words():
    lines = outline(compose(["data=digits", "output_dir=x"]))
    assert (lines["training"], lines["evaluation"]) == ("shifts of up to 1 pixels", "as they are")


def test_events_that_are_not_augmented_are_said_to_be():
    for which, seen in (("in_force", "no augmentation, float16"), ("written", "EventAugmentation(flip=0.5), float16")):
        lines = outline(compose(["experiment=dvs128_gesture", f"recipe={which}", "output_dir=x"]))
        assert lines["training"].endswith(seen)


class Done(pl.Callback):
    def __init__(self) -> None:
        self.rates: list[float] = []
        self.batches: list[int] = []

    def on_train_batch_start(self, trainer, module, batch, index) -> None:
        self.batches.append(len(batch[0]))

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize(
    "settings",
    few(
        [
            ["data.batch_size=100", "data.drop_last=false", "schedule.interval=epoch", "schedule.cooldown_epochs=1"],
            ["data.batch_size=64"],
            ["data.batch_size=64", "schedule=constant", "trainer.accumulate_grad_batches=2"],
            ["data.batch_size=96", "trainer.effective_batch=288", "schedule.lr_rule=linear", "schedule.lr_batch=256"],
            ["data.batch_size=64", "schedule.warmup_prefix=true", "++trainer.max_steps=50"],
        ],
        5,
    ),
)
def test_steps_batch_and_rates_are_those_of_the_training(tmp_path, settings):
    cfg = compose(["model=sdt_1_16", "model.timesteps=1", "trainer=cpu", "trainer.max_epochs=3", "callbacks=quiet",
                   "logger=none", f"output_dir={tmp_path}", "trainer.limit_val_batches=1", *settings])  # fmt: skip
    lines, done = outline(cfg), Done()
    train(cfg, [done])
    total = re.match(r"([\d,]+)", lines["steps"])[1].replace(",", "")
    bound = cfg.trainer.get("max_steps", -1)
    assert len(done.rates) == (min(bound, int(total)) if bound > 0 else int(total))
    size, *passes = re.search(r"1 process of (\d+)(?:, (\d+) passes)?", lines["batch"]).groups()
    assert done.batches[0] == int(size)
    assert -(-len(done.batches) // 3 // (int(passes[0]) if passes[0] else 1)) == pytest.approx(
        len(done.rates) / 3, abs=1
    )
    told = [float(n) for n in re.findall(r"[\d.]+(?:e-\d+)?(?= (?:at the|from|throughout))", lines["rate"])]
    expected = [done.rates[0]] if "throughout" in lines["rate"] else [done.rates[0], None, done.rates[-1]]
    for said, found in zip(told, expected, strict=True):
        assert found is None or said == pytest.approx(found, rel=5e-3)


def test_samples_are_those_of_the_data():
    for name in ("digits", "digits_dvs"):
        cfg = compose([f"data={name}", "data.val_fraction=0"]).data
        data = build_data(cfg, timesteps=2)
        data.setup()
        assert len(data.train_set) == cfg.train_samples
    assert outline(compose(["data=n_caltech101"]))["steps"] == "not known without data.train_samples"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["data.augmentation.hflipp=0.5"], "did you mean 'hflip'"),
        (["schedule.cooldown_epochs=400"], "leaves 0 of"),
        (["trainer.effective_batch=7", "trainer=cpu", "trainer.devices=2"], "can't be shared by 2 processes"),
    ],
)
def test_what_would_stop_a_training_stops_the_dry_run(settings, says):
    with pytest.raises((UserError, InstantiationException), match=says):
        outline(compose(["data=cifar10", *(f"+{s}" if "hflipp" in s else s for s in settings)]))


def test_weights_to_begin_with_are_looked_at(tmp_path):
    torch.save(create_model("sdt_1_16", data="digits").state_dict(), tmp_path / "weights.pth")
    chosen = ["data=digits", f"init='{tmp_path}/weights.pth'"]
    assert re.search(
        r"weights\.pth; taken \d+ tensors, [\d,]+ values$", outline(compose([*chosen, "model=sdt_1_16"]))["init"]
    )
    with pytest.raises(UserError, match="is of another network"):
        outline(compose([*chosen, "model=sdt_1_32"]))


def test_a_dry_run_prints_it(script, tmp_path):
    code, out, err = script("train", "dry_run=true", "experiment=cifar10_2_512_tet", f"hydra.run.dir={tmp_path}")
    assert code == 0, err
    assert {line.split("  ")[0] for line in out.splitlines()} >= {"parameters", "steps", "batch", "rate", "no effect"}
    assert "until" not in out and "TET(lambda_mse=0.001, mean=1.0, label_smoothing=0.0)" in out
