"""Trials of two processes each in a real local sweep: both train one trial, and end together with their sweep."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from optuna.trial import TrialState

from spikefront.config import ROOT
from spikefront.sweeping.study.study import load

pytestmark = pytest.mark.slow  # a trial of two processes in `make test`: training/test_ddp.py
EPOCHS = 12
SWEEP = [
    "model=sdt_1_16",
    "data=digits",
    "trainer=ddp_cpu",
    f"trainer.max_epochs={EPOCHS}",
    "trainer.limit_train_batches=8",
    "neuron.threshold=choice(0.1,0.2)",
    "model.timesteps=2",
    "search/sampler=random",
    "search.n_trials=2",
    "search.workers=1",
    "search.heartbeat=2",
    "search.study=s",
    "logger=none",
]


class Running:
    """``sweep.py`` as a process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        command = [sys.executable, str(ROOT / "src/sweep.py"), "-m", *SWEEP, f"search.dir={directory}"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )

    def log(self) -> str:
        log = self.directory / "s/workers/worker_0.log"
        return log.read_text() if log.exists() else ""

    def epochs(self) -> int:
        return self.log().count("epoch ")

    def until(self, condition, seconds: float = 150):
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline and self.process.poll() is None, self.log()
            time.sleep(0.1)
        return found

    def ranks(self) -> list[int]:
        """The worker, which is forked from what the sweep started, and what it started, once there are two of them."""
        workers = [p for t in children(self.process.pid) for p in children(t) if b"sweep.py" in command_of(p)]
        beside = [p for w in workers for p in children(w) if b"training.together" in command_of(p)]
        return [*workers, *beside] if workers and beside else []


def children(pid: int) -> list[int]:
    try:
        return [int(p) for t in Path(f"/proc/{pid}/task").iterdir() for p in (t / "children").read_text().split()]
    except OSError:
        return []


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep one of whose two processes is killed; then it is interrupted."""
    directory = tmp_path_factory.mktemp("sweep")
    seen: dict = {}
    sweep = Running(directory)
    sweep.until(lambda: sweep.epochs() >= 2)
    worker, beside = sweep.ranks()
    seen["shares"] = [os.sched_getaffinity(p) for p in (worker, beside)]

    os.kill(beside, signal.SIGKILL)
    begun = time.monotonic()
    sweep.until(lambda: "put back" in sweep.log())
    seen["put back after"] = time.monotonic() - begun
    before = sweep.epochs()
    sweep.until(lambda: sweep.epochs() > before + 1)
    last = sweep.ranks()
    seen["the worker goes on"] = last[0] == worker and last[1] != beside

    sweep.process.send_signal(signal.SIGINT)
    sweep.process.communicate(timeout=120)
    seen["code"] = sweep.process.returncode
    seen["left"] = [p for p in last if alive(p)]
    seen["stopped"] = [t.state for t in trials_in(directory)]
    seen["log"] = sweep.log()
    return directory, seen


def trials_in(directory: Path):
    return load({"dir": str(directory), "study": "s"})[0].trials


def test_a_killed_process_puts_its_trial_back(swept):
    _, seen = swept
    assert seen["put back after"] < 60
    assert seen["the worker goes on"]
    lines = [line for line in seen["log"].splitlines() if "was killed" in line]
    assert len(lines) == 1 and re.search(r"trial 0 put back: process 2 of 2 .* was killed \(SIGKILL\)", lines[0])


def test_an_interrupt_ends_all_processes_with_the_trial_in_the_queue(swept):
    _, seen = swept
    assert seen["code"] == 130
    assert seen["left"] == []
    assert TrialState.FAIL not in seen["stopped"] and TrialState.WAITING in seen["stopped"]


def test_cores_are_shared_out_among_the_processes_of_a_worker(swept):
    _, seen = swept
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core")
    assert not seen["shares"][0] & seen["shares"][1]


def test_each_trial_is_trained_once_by_both_though_their_worker_is_killed(swept):
    directory, _ = swept
    sweep = Running(directory)
    before = sweep.epochs()
    sweep.until(lambda: sweep.epochs() > before + 1)
    worker, beside = sweep.ranks()
    os.kill(worker, signal.SIGKILL)
    sweep.until(lambda: not alive(beside), 60)
    said = sweep.process.communicate(timeout=300)[0]
    assert sweep.process.returncode == 0, said
    assert "a worker was killed (SIGKILL); starting another" in said
    trials = trials_in(directory)
    assert [t.state for t in trials if t.state != TrialState.WAITING] == [TrialState.COMPLETE] * 2
    for trial in trials[:2]:
        result = json.loads((directory / f"s/trials/{trial.number:05d}/result.json").read_text())
        assert result["epochs"] == EPOCHS and result["samples"] == 360
    assert {p.name for p in (directory / "s/trials").iterdir()} == {"00000", "00001"}
