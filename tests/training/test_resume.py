"""A run that is killed and resumed ends bit for bit as one that wasn't, with everything that has a state."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from alike import assert_equal
from examples import few
from layouts import image_folders
from timm.utils import ModelEmaV3
from torch.optim.swa_utils import AveragedModel

from spikefront.config import ROOT, compose
from spikefront.errors import UserError
from spikefront.nn.checkpoints import load_checkpoint
from spikefront.training import EMA, run
from spikefront.training.preemption import preemptible

STATE = (
    "state_dict",
    "current_model_state",
    "averaging_state",
    "optimizer_states",
    "lr_schedulers",
    "MixedPrecision",
    "continuation",
    "epoch",
    "global_step",
)
SCALER = (
    "+trainer.plugins=[{_target_: pytorch_lightning.plugins.MixedPrecision, precision: 16-mixed, device: cpu,"
    " scaler: {_target_: torch.amp.GradScaler, device: cpu, init_scale: 1024, growth_interval: 3}}]"
)
MIXUP = "{_target_: timm.data.Mixup, mixup_alpha: 0.2, cutmix_alpha: 1.0, label_smoothing: 0, num_classes: 2}"
KILL = """
import os, signal, sys
import pytorch_lightning as pl
from spikefront.config import compose
from spikefront.training import run

class Kill(pl.Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        if trainer.fit_loop.epoch_loop.total_batch_idx == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)

run.train(compose(sys.argv[2:]), [Kill()])
"""


def overrides(tmp_path: Path, name: str, *more: str) -> list[str]:
    return [
        "model=sdt_1_16",
        "data=imagenet",
        f"data.root={tmp_path}/in1k",
        f"data.cache={tmp_path}/cache",
        "data.num_classes=2",
        "data.image_size=32",
        "data.batch_size=4",
        "data.repeats=2",
        "data.num_workers=0",
        "data.val_fraction=0",
        f"data.mixup={MIXUP}",
        "data.mixup_off_epoch=2",
        "model.timesteps=2",
        "model.drop_path=0.2",
        "neuron.threshold=0.1",
        "optimizer=lamb",
        "callbacks=ema",
        "callbacks.ema.decay=0.8",
        "callbacks.last.every_n_train_steps=2",
        "~callbacks.progress",
        "trainer=cpu",
        "trainer.max_epochs=3",
        "trainer.effective_batch=8",
        "logger=none",
        "resume=auto",
        f"output_dir={tmp_path}/{name}",
        *more,
    ]


@pytest.mark.slow  # at chosen steps: test_preemption.py
def test_a_run_killed_at_a_random_step_ends_as_if_it_had_not_been(tmp_path):
    image_folders(tmp_path / "in1k", train=16)  # 8 batches, 4 steps an epoch
    precision = ["trainer.precision=null", SCALER]
    step = random.randrange(4, 22)
    print(f"killed after batch {step}")
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-c", KILL, str(step), *overrides(tmp_path, "parts", *precision)]
    killed = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    stopped = torch.load(tmp_path / "parts/checkpoints/last.ckpt", weights_only=True)
    assert 0 < stopped["global_step"] <= step // 2 + 1
    run.train(compose(overrides(tmp_path, "parts", *precision)))
    run.train(compose(overrides(tmp_path, "whole", *precision)))
    a, b = (torch.load(tmp_path / d / "checkpoints/last.ckpt", weights_only=True) for d in ("whole", "parts"))
    assert a["global_step"] == 12
    assert a["MixedPrecision"]["scale"] != 1024  # the scaler did change
    for key in STATE:
        assert_equal(a[key], b[key], key, nan=True)


class Terminate(pl.Callback):
    """Sends this process SIGTERM at a batch of an epoch."""

    def __init__(self, hook: str, epoch: int, batch: int) -> None:
        def send(trainer, module, _, index, *__) -> None:
            if trainer.state.fn == "fit" and (trainer.current_epoch, index) == (epoch, batch):
                os.kill(os.getpid(), signal.SIGTERM)

        setattr(self, hook, send)


@pytest.mark.parametrize("hook", few(["on_train_batch_start", "on_validation_batch_start"]))
def test_a_signal_between_accumulated_passes_or_in_an_averaged_validation_loses_nothing(tmp_path, hook):
    image_folders(tmp_path / "in1k", train=8)  # 4 batches, 2 steps an epoch
    more = ["trainer.max_epochs=2"]
    cfg = compose(overrides(tmp_path, "parts", *more))
    with pytest.raises(SystemExit), preemptible(cfg) as callbacks:
        run.train(cfg, [*callbacks, Terminate(hook, 1, 0)])
    stopped = torch.load(tmp_path / "parts/checkpoints/last.ckpt", weights_only=True)
    assert stopped["global_step"] == (3 if "train" in hook else 4)
    run.train(cfg)
    run.train(compose(overrides(tmp_path, "whole", *more)))
    a, b = (torch.load(tmp_path / d / "checkpoints/last.ckpt", weights_only=True) for d in ("whole", "parts"))
    for key in STATE:
        assert_equal(a.get(key), b.get(key), key, nan=True)


class Follow(pl.Callback):
    """Averages by hand, and looks at what validation sees."""

    def __init__(self) -> None:
        self.steps, self.average = 0, {}
        self.seen: list[bool] = []

    def on_train_batch_end(self, trainer, module, *_) -> None:
        decay = min(0.8, 1 - (1 + self.steps) ** -0.75)
        for key, value in module.model.named_parameters():
            self.average[key] = self.average.get(key, 0) * decay + value.detach() * (1 - decay)
        self.steps += 1

    def on_validation_batch_start(self, trainer, module, *_) -> None:
        if trainer.state.fn == "fit":
            same = [torch.allclose(self.average[k], v, atol=1e-6) for k, v in module.model.named_parameters()]
            self.seen.append(all(same))
            trainer.save_checkpoint(f"{trainer.default_root_dir}/within.ckpt")


def test_the_average_is_validated_saved_and_loaded(tmp_path):
    image_folders(tmp_path / "in1k", train=4)
    follow = Follow()
    run.train(compose(overrides(tmp_path, "run", "trainer.effective_batch=4", "trainer.max_epochs=2")), [follow])
    assert follow.seen == [True, True]
    last = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    within = torch.load(tmp_path / "run/within.ckpt", weights_only=True)  # the last epoch's, in mid-validation
    for checkpoint in (last, within):
        for key, value in follow.average.items():
            torch.testing.assert_close(checkpoint["state_dict"][f"model.{key}"], value, atol=1e-6, rtol=0)
        assert_equal(last["current_model_state"], checkpoint["current_model_state"], nan=True)
    model = run.instantiate(compose(overrides(tmp_path, "run")).model)
    path = tmp_path / "run/checkpoints/last.ckpt"
    for ema, key in ((True, "state_dict"), (False, "current_model_state")):
        load_checkpoint(model, path, ema=ema)
        assert_equal(model.state_dict(), {k.removeprefix("model."): v for k, v in last[key].items()}, nan=True)


@pytest.mark.parametrize("steps", [1, 3, 1000, 100_000])
def test_the_decay_warms_up_as_timms(steps):
    timms = ModelEmaV3(torch.nn.Linear(1, 1), decay=0.9998, use_warmup=True, warmup_power=0.75)
    assert EMA(0.9998, warmup=0.75).decay_after(steps) == pytest.approx(timms.get_decay(steps + 1))
    assert EMA(0.9998, warmup=0).decay_after(steps) == 0.9998


def test_a_short_run_averages_its_last_weights():
    """As it is configured by default: without the warm-up 60 steps would move the average by a hundredth."""
    cfg = compose(["callbacks=ema"]).callbacks.ema
    ema, layer = run.instantiate(cfg), torch.nn.Linear(1, 1, bias=False)
    average = AveragedModel(layer, multi_avg_fn=ema._kwargs["multi_avg_fn"])
    for step in range(60):
        torch.nn.init.constant_(layer.weight, step)
        average.update_parameters(layer)
    assert 40 < average.module.weight.item() < 59


@pytest.mark.parametrize("wrong", [{"decay": 1.2}, {"warmup": -1.0}])
def test_a_decay_that_makes_no_average_is_one_line(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        EMA(**wrong)
