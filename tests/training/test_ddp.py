"""One process with batches of 16, two with 8 and four with 4 train and evaluate the same, and end the same."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pretended import Sweep

from spikefront.config import ROOT, compose
from spikefront.errors import UserError
from spikefront.sweeping.worker import worker
from spikefront.training import evaluate, train
from spikefront.training import team as team_module
from spikefront.training.preemption import LAST, preemptible
from spikefront.training.team import Broken
from spikefront.training.together import leading, together

RUN = [
    "model=sdt_1_16",
    "data=digits",
    "neuron.threshold=0.1",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "trainer.precision=64-true",  # else rounding decides about spikes
    "trainer.limit_train_batches=6",
    "trainer.limit_test_batches=2",
    "data.batch_size=16",
    "data.val_fraction=0.1002",  # 145 samples: the processes' shares differ
    # SGD: Adam divides by the gradient's size, and biases in front of a BN have none but rounding errors
    "optimizer._target_=torch.optim.SGD",
    "optimizer.lr=0.05",
    "schedule=constant",
    "~callbacks.progress",
    "logger=none",
    "resume=auto",
]


def configure(directory: Path, devices: int, *overrides: str):
    return compose([*RUN, f"trainer.devices={devices}", f"output_dir={directory}", *overrides])


def evaluation(checkpoint: Path, directory: Path, devices: int):
    overrides = [
        f"checkpoint={checkpoint}",
        "confidence=[0.101,0.103,0.106,0.11,0.115,0.12]",
        f"devices={devices}",
        f"output_dir={directory}",
    ]
    return evaluate(compose(overrides, root="evaluate"))


def weights(directory: Path) -> dict:
    return torch.load(directory / LAST, weights_only=True)


def children(pid: int) -> list[int]:
    return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Signal(pl.Callback):
    """Sends one process of the training a signal in the middle of the second epoch."""

    def __init__(self, number: int, rank: int) -> None:
        self.number, self.rank = number, rank

    def on_train_batch_start(self, trainer, module, batch, index) -> None:
        if (trainer.current_epoch, index) == (1, 2):
            os.kill(followers()[self.rank - 1] if self.rank else os.getpid(), self.number)


class Losses(pl.Callback):
    """Of every validation."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_validation_end(self, trainer, module) -> None:
        self.seen.append(float(trainer.callback_metrics["val/loss"]))


class Torn(pl.Callback):
    """An error in the second process alone."""

    def on_train_batch_start(self, trainer, module, batch, index) -> None:
        if trainer.global_rank == 1:
            raise ValueError("sample 7 is torn")

    def elsewhere(self):
        return torn


def torn(_) -> Torn:
    return Torn()


def sleep(_) -> None:
    time.sleep(100)


def followers() -> list[int]:
    """Processes of this one's team."""
    command = lambda pid: Path(f"/proc/{pid}/cmdline").read_bytes()
    return [pid for pid in children(os.getpid()) if b"training.together" in command(pid)]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    directory = tmp_path_factory.mktemp("one")
    return directory, train(configure(directory, 1)), evaluation(directory / LAST, directory / "e", 1)


@pytest.fixture(scope="class")
def team():
    """Processes are started once for all trainings on two devices."""
    with leading(lambda _: None):
        yield
    assert followers() == [] and "RANK" not in os.environ and not torch.distributed.is_initialized()


def agree(one, directory: Path, devices: int) -> None:
    alone, result, evaluated = one
    trained = train(configure(directory, devices))
    a, b = weights(alone), weights(directory)
    assert a["global_step"] == b["global_step"] == 12
    assert a["state_dict"].keys() == b["state_dict"].keys()
    for key, expected in a["state_dict"].items():
        torch.testing.assert_close(b["state_dict"][key], expected, rtol=1e-9, atol=1e-10, msg=key)
    same(trained, result)
    assert trained.samples == result.samples == 32  # as limited
    again = evaluation(alone / LAST, directory / "e", devices)
    same(again, evaluated)
    assert again.samples == evaluated.samples == 360  # all of them
    assert any(1 < p["timesteps"] < 4 for p in evaluated.early_exit)


def same(a, b) -> None:
    found, expected = (dict(flat(r.to_dict())) for r in (a, b))
    assert found == pytest.approx(expected, rel=1e-9)


def flat(node, path=""):
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from flat(value, f"{path}/{key}")
    elif isinstance(node, int | float) and path not in ("/seconds", "/threads"):
        yield path, node


class TestTwoProcesses:
    def test_they_train_and_evaluate_what_one_does(self, one, team, tmp_path, capfd):
        agree(one, tmp_path / "two", 2)
        out, err = capfd.readouterr()
        assert out.count("parameters") == 1 and out.count("evaluating with") == 1  # of several processes one speaks
        assert "Traceback" not in err

    @pytest.mark.slow
    def test_they_accumulate_what_one_does_and_have_processes_that_load(self, team, tmp_path):
        common = ["trainer.effective_batch=16", "trainer.max_epochs=1"]
        train(configure(tmp_path / "one", 1, "data.batch_size=8", *common))
        train(configure(tmp_path / "two", 2, "data.batch_size=4", *common, "data.num_workers=1"))
        a, b = weights(tmp_path / "one"), weights(tmp_path / "two")
        assert a["global_step"] == b["global_step"] == 3
        for key, expected in a["state_dict"].items():
            torch.testing.assert_close(b["state_dict"][key], expected, rtol=1e-9, atol=1e-10, msg=key)

    @pytest.mark.parametrize(
        ("number", "rank"),
        [
            pytest.param(signal.SIGTERM, 0, marks=pytest.mark.slow),  # of one process: test_preemption.py
            pytest.param(signal.SIGUSR1, 1, marks=pytest.mark.slow),
            pytest.param(signal.SIGINT, 1, marks=pytest.mark.slow),  # of a sweep: test_several_devices.py
        ],
    )
    def test_a_signal_to_either_stops_both_with_everything_saved(self, one, team, tmp_path, number, rank):
        cfg = configure(tmp_path, 2)
        with pytest.raises(SystemExit) as stop, preemptible(cfg) as callbacks:
            train(cfg, [*callbacks, Signal(number, rank)])
        assert stop.value.code == 128 + number
        assert weights(tmp_path)["global_step"] in (9, 10)  # the other sees it at this batch's end or the next
        train(configure(tmp_path, 2))
        for key, expected in weights(one[0])["state_dict"].items():
            torch.testing.assert_close(weights(tmp_path)["state_dict"][key], expected, rtol=1e-9, atol=1e-10, msg=key)

    @pytest.mark.slow
    def test_several_runs_leave_one_directory_and_one_result_each(self, team, script, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        arguments = [o for o in RUN if "callbacks" not in o and not o.startswith("resume")]
        code, out, err = script("train", "-m", *arguments, "trainer.devices=2", "trainer.max_epochs=1", "seed=0,1")
        assert code == 0, err
        assert out.count("results in") == 2
        (made,) = (tmp_path / "multirun").glob("*/*")
        assert sorted(p.parent.name for p in made.glob("*/result.json")) == ["0", "1"]
        code, out, err = script("evaluate", f"checkpoint={made}/0/checkpoints/best.ckpt")
        assert code == 0, err
        assert out.count("results in") == 1 and "trainer.devices=2" in out
        assert len(list((tmp_path / "outputs/evaluate").glob("*/result.json"))) == 1

    def test_a_sweep_trains_its_trials_with_both(self, team, tmp_path, monkeypatch):
        """With this team instead of one of its own; a trial whose process is killed goes back into the queue."""
        monkeypatch.setattr(worker, "leading", lambda _: contextlib.nullcontext())
        killed = iter([True, False])

        def training(cfg, callbacks=()):
            if next(killed):
                raise Broken("process 2 of 2 of this training was killed")
            return train(cfg, callbacks)

        own = ["search/sampler=random", "search.n_trials=1", "search.workers=1", "trainer.devices=2"]
        short = ["trainer.max_epochs=1", "trainer.limit_val_batches=2"]
        settings = [o for o in RUN if not o.startswith(("resume", "logger", "~"))]
        space = ("neuron.threshold=choice(0.1,0.2)",)
        search = Sweep(tmp_path, *settings, *short, "callbacks=quiet", *own, space=space, train=training)
        search.run_here()
        assert [t.state.name for t in search.study().trials] == ["COMPLETE"]
        assert next(killed, None) is None and len(followers()) == 1

    def test_without_synchronised_norms_both_evaluate_the_firsts(self, team, tmp_path):
        """As DDP's broadcast has it: what training validates is what its checkpoint gives."""
        losses = Losses()
        train(configure(tmp_path, 2, "trainer.sync_batchnorm=false", "trainer.max_epochs=1"), [losses])
        within, after = losses.seen
        assert within == pytest.approx(after, rel=1e-12)

    def test_no_step_of_training_is_no_result(self, team, tmp_path):
        with pytest.raises(UserError, match=r"no step of training: 646 of the 1293 training samples"):
            train(configure(tmp_path, 2, "data.batch_size=2000", "data.val_fraction=0.1"))
        assert not (tmp_path / "result.json").exists()

    def test_an_error_of_the_other_alone_is_the_trainings(self, team, tmp_path):
        with pytest.raises(ValueError, match="sample 7 is torn"):
            train(configure(tmp_path, 2), [Torn()])

    @pytest.mark.slow
    def test_a_killed_one_ends_the_training_and_the_next_starts_another(self, team, tmp_path):
        with pytest.raises(Broken, match="process 2 of 2 of this training was killed"):
            train(configure(tmp_path, 2), [Signal(signal.SIGKILL, 1)])
        assert followers() == []
        assert train(configure(tmp_path, 2)).epochs == 2
        assert len(followers()) == 1

    def test_who_waits_for_a_killed_one_for_ever_is_ended(self, team, tmp_path, monkeypatch, capfd):
        """As where a collective operation never returns; here the first just sleeps."""
        ended = threading.Event()
        monkeypatch.setattr(team_module, "PATIENCE", 0.5)
        monkeypatch.setattr(team_module.os, "_exit", lambda code: ended.set())
        with pytest.raises(Broken), together({"accelerator": "cpu", "devices": 2}, sleep):
            os.kill(followers()[0], signal.SIGKILL)
            assert ended.wait(20)
            raise RuntimeError("what a test must do to get out")
        assert capfd.readouterr().err.startswith("spikefront: process 2 of 2 of this training was killed (SIGKILL)")


@pytest.mark.slow
def test_four_processes_train_and_evaluate_what_one_does(one, tmp_path):
    with leading(lambda _: None):
        agree(one, tmp_path / "four", 4)


@pytest.mark.slow
def test_a_killed_process_ends_the_command_in_one_line(script, tmp_path):
    def kill() -> None:
        while not (tmp_path / LAST).exists():
            time.sleep(0.1)
        os.kill(followers()[0], signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    arguments = [o for o in RUN if "callbacks" not in o]
    begun = time.monotonic()
    code, _, err = script(
        "train", *arguments, "trainer.devices=2", "trainer.max_epochs=500", f"hydra.run.dir={tmp_path}"
    )
    assert code == 1
    said = [line for line in err.splitlines() if line.startswith("spikefront: ")]
    assert said == ["spikefront: process 2 of 2 of this training was killed (SIGKILL); the others were ended too"]
    assert "Traceback" not in err
    assert followers() == [] and time.monotonic() - begun < 120


@pytest.mark.slow
def test_processes_that_srun_or_torchrun_started_end_alike(tmp_path):
    """The signal reaches one of them, and each runs the script itself."""
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    arguments = [o for o in RUN if "callbacks" not in o and "limit" not in o]
    command = [sys.executable, str(ROOT / "src/train.py"), *arguments, "trainer.devices=2", "trainer.max_epochs=500"]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "none"}
    processes = [
        subprocess.Popen(
            [*command, f"hydra.run.dir={tmp_path}"],
            env={**os.environ, **common, "OMP_NUM_THREADS": "1", "RANK": str(r), "LOCAL_RANK": str(r)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for r in range(2)
    ]
    deadline = time.monotonic() + 120
    while not (tmp_path / LAST).exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    processes[1].send_signal(signal.SIGTERM)
    said = [p.communicate(timeout=60)[0] for p in processes]
    assert [p.returncode for p in processes] == [143, 143]
    assert "SIGTERM: stopped with everything saved" in said[0] and "stopped" not in said[1]
