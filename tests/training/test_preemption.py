"""A run that is interrupted and continued ends bit for bit as one that wasn't."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest
import pytorch_lightning as pl
import torch
from alike import assert_equal
from examples import few
from pytorch_lightning.loggers import Logger

from spikefront.config import compose
from spikefront.training import run
from spikefront.training.preemption import LAST, preemptible, run_id


class SendSignal(pl.Callback):
    """Sends this process a signal in the middle of a batch of an epoch, or at its end (batch None), once."""

    def __init__(self, hook: str, epoch: int, batch: int | None, number: int) -> None:
        def send(trainer, module, batch_=None, index=None, *_) -> None:
            if trainer.state.fn == "fit" and (trainer.current_epoch, index) == (epoch, batch):
                os.kill(os.getpid(), number)

        setattr(self, hook, send)


@pytest.fixture(scope="module")
def anywhere():
    def configure(directory, *overrides: str):
        return compose(
            [
                "model=sdt_2_16",
                "model.timesteps=2",
                "data.batch_size=32",
                "trainer=cpu",
                "trainer.max_epochs=3",
                "trainer.limit_train_batches=6",
                "trainer.limit_val_batches=2",
                "trainer.limit_test_batches=2",
                "neuron.threshold=0.1",
                "model.drop_path=0.2",  # draws random numbers in training
                "data.shift=2",
                "callbacks=default",
                "~callbacks.progress",
                "logger=none",
                "resume=auto",
                f"output_dir={directory}",
                *overrides,
            ]
        )

    return configure


@pytest.fixture
def cfg(anywhere, tmp_path):
    return lambda name, *overrides: anywhere(tmp_path / name, *overrides)


def interrupted(cfg, *arguments) -> int:
    """Run until the signal ends it; the exit code."""
    with pytest.raises(SystemExit) as stop, preemptible(cfg) as callbacks:
        run.train(cfg, [*callbacks, SendSignal(*arguments)])
    return stop.value.code


def finish(cfg):
    with preemptible(cfg) as callbacks:
        return run.train(cfg, callbacks)


class Rows(Logger):
    """Keeps all rows, but of an epoch's training only that there was one: after a stop it tells of the rest."""

    name = version = "rows"

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, dict]] = []

    def log_hyperparams(self, *_, **__) -> None: ...

    def log_metrics(self, metrics, step=None) -> None:
        mean = "train/loss_epoch" in metrics
        kept = {k: v for k, v in metrics.items() if not k.startswith("train/") and k != "final/seconds"}
        self.rows.append((step, "an epoch's training" if mean else {**kept, "loss": metrics.get("train/loss_step")}))


SMALL = ("model=sdt_1_16", "trainer.max_epochs=2", "trainer.limit_train_batches=3", "trainer.log_every_n_steps=1")


@pytest.fixture(scope="module")
def uninterrupted(anywhere, tmp_path_factory):
    """The rows of a run that nothing stops."""
    rows = Rows()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "_logger", lambda *_: rows)
        finish(anywhere(tmp_path_factory.mktemp("whole"), *SMALL))
    return rows.rows


STOPS = [
    ("on_train_batch_start", 1, 1),
    ("on_validation_batch_start", 1, 0),
    ("on_train_epoch_end", 0, None),
    ("on_train_epoch_end", 1, None),  # all that is left is the evaluation
    ("on_validation_epoch_end", 0, None),
    ("on_validation_end", 1, None),
]


@pytest.mark.parametrize(
    ("hook", "epoch", "batch", "first"),
    few([(*stop, first) for first in (True, False) for stop in STOPS], 12),
)
def test_each_row_is_logged_once_wherever_a_run_stops(cfg, uninterrupted, monkeypatch, hook, epoch, batch, first):
    stopped = Rows()
    monkeypatch.setattr(run, "_logger", lambda *_: stopped)
    parts, send = cfg("stopped", *SMALL), SendSignal(hook, epoch, batch, signal.SIGTERM)
    with pytest.raises(SystemExit), preemptible(parts) as own:
        run.train(parts, [send, *own] if first else [*own, send])
    finish(parts)
    assert sorted(map(repr, stopped.rows)) == sorted(map(repr, uninterrupted))
    assert sum(row == "an epoch's training" for _, row in uninterrupted) == 2


def test_a_run_whose_epochs_are_a_batch_and_nothing_else_stops_too(cfg):
    single = ("trainer.limit_train_batches=1", "trainer.limit_val_batches=0", "trainer.max_epochs=5", "~callbacks.best")
    assert interrupted(cfg("single", *single), "on_train_batch_start", 1, 0, signal.SIGTERM) == 128 + signal.SIGTERM
    assert torch.load(f"{cfg('single').output_dir}/{LAST}", weights_only=True)["global_step"] == 2


STATE = ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step", "continuation")


@pytest.mark.parametrize(
    ("hook", "epoch", "batch", "extra"),
    [
        ("on_train_batch_start", 1, 2, ()),  # in the middle of an epoch
        pytest.param("on_train_batch_start", 0, 5, (), marks=pytest.mark.slow),  # an epoch's last batch
        pytest.param("on_validation_batch_start", 1, 0, (), marks=pytest.mark.slow),
        pytest.param("on_train_batch_start", 1, 3, ("data.num_workers=2",), marks=pytest.mark.slow),
    ],
    ids=["mid-epoch", "last batch", "validation", "loader processes"],
)
def test_an_interrupted_run_ends_as_if_it_had_not_been(cfg, hook, epoch, batch, extra):
    whole = finish(cfg("whole", *extra))
    parts = cfg("parts", *extra)
    assert interrupted(parts, hook, epoch, batch, signal.SIGTERM) == 128 + signal.SIGTERM
    stopped = torch.load(f"{parts.output_dir}/{LAST}", weights_only=True)
    assert stopped["global_step"] == 6 * epoch + (batch + 1 if "train" in hook else 6)
    resumed = finish(parts)
    a, b = (torch.load(f"{d}/{LAST}", weights_only=True) for d in (cfg("whole").output_dir, parts.output_dir))
    for key in STATE:
        assert_equal(a[key], b[key], key)
    same = [json.loads(json.dumps(r.to_dict())) for r in (whole, resumed)]
    for made in same:
        made.pop("seconds"), made.pop("checkpoint")
    assert same[0] == same[1]


class InTheTest(pl.Callback):
    """Sends this process SIGTERM at the test pass's first batch."""

    def on_test_batch_start(self, *_) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    "callbacks",
    [
        pytest.param(("~callbacks.best", "~callbacks.last"), id="quiet"),
        pytest.param(("callbacks.last.every_n_train_steps=4",), id="every 4 steps", marks=pytest.mark.slow),
    ],
)
def test_a_signal_in_the_test_pass_loses_nothing(cfg, callbacks):
    more = [*callbacks, "model=sdt_1_16", "trainer.limit_train_batches=3", "trainer.max_epochs=2"]
    whole, parts = cfg("whole", *more), cfg("parts", *more)
    expected = finish(whole)
    with pytest.raises(SystemExit), preemptible(parts) as own:
        run.train(parts, [*own, InTheTest()])
    stopped = torch.load(f"{parts.output_dir}/{LAST}", weights_only=True)
    assert stopped["global_step"] == 6
    steps = Steps()
    with preemptible(parts) as own:
        resumed = run.train(parts, [*own, steps])
    assert steps.count == 0
    assert (resumed.accuracy, resumed.energy_joules) == (expected.accuracy, expected.energy_joules)


class Steps(pl.Callback):
    count = 0

    def on_train_batch_end(self, *_) -> None:
        self.count += 1


def test_wandb_goes_on_in_the_same_run(cfg):
    parts = cfg("run", "logger=wandb", *SMALL)
    interrupted(parts, "on_train_batch_start", 1, 1, signal.SIGUSR1)
    first = run_id(torch.load(f"{parts.output_dir}/{LAST}", weights_only=True))
    finish(parts)
    assert first
    assert run_id(torch.load(f"{parts.output_dir}/{LAST}", weights_only=True)) == first
    (log,) = (name for name in os.listdir(f"{parts.output_dir}/wandb") if name.startswith("offline-run"))
    assert re.fullmatch(
        rf"offline-run-\d{{8}}_\d{{6}}-{first}(-\d+)?", log
    )  # the last where a name is taken in that second


def test_handlers_are_given_back(cfg):
    before = signal.getsignal(signal.SIGTERM)
    interrupted(cfg("run"), "on_train_batch_start", 0, 1, signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_whoever_had_the_signal_gets_it_after_the_checkpoint(cfg):
    """Submitit's handler requeues the job; it must find everything saved."""
    found = []
    parts = cfg("run")
    before = signal.signal(signal.SIGUSR2, lambda *_: found.append(os.path.exists(f"{parts.output_dir}/{LAST}")))
    try:
        assert interrupted(parts, "on_train_batch_start", 0, 1, signal.SIGUSR2) == 128 + signal.SIGUSR2
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert found == [True]
