from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
import torch
from alike import assert_equal
from system import unable
from waiting import until

import cluster as clusters
from spikefront.config import ROOT, compose

DIGITS = ["data=digits", "data.shift=2"]
NETWORK = ["model=sdt_1_16", "trainer=cpu", "trainer.max_epochs=4", "trainer.limit_train_batches=10"]
NETWORK += ["neuron.threshold=0.1", "model.drop_path=0.2", "~callbacks.progress"]
SMALL = [*NETWORK, *DIGITS]
SLOW = "+callbacks.slow={_target_:slow.Slow,seconds:1.0}"
STATE = ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step", "continuation")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """A running SLURM."""
    if reason := clusters.lacking():
        unable(reason)
    found = clusters.Cluster(tmp_path_factory.mktemp("slurm") / "c")
    try:
        yield found.start()
    finally:
        found.stop()


@pytest.fixture
def shell(cluster, tmp_path):
    """Runs commands as a user of the cluster would, from the repository's root."""
    return Shell(cluster, tmp_path)


class Shell:
    def __init__(self, cluster, directory: Path) -> None:
        self.cluster, self.directory = cluster, directory
        self.environment = {
            **cluster.environment,
            "PYTHON": sys.executable,
            "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests' / 'support'}",
            "WANDB_MODE": "offline",
            "SBATCH_OUTPUT": str(directory / "batch-%j.log"),
        }

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        with (self.directory / "said").open("wb") as out:
            return subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=out, stderr=subprocess.STDOUT)

    def run(self, *command: str, timeout: float = 200) -> str:
        ran = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert ran.returncode == 0, f"{shlex.join(command)}\n{ran.stdout}\n{ran.stderr}"
        return ran.stdout

    def sweep(self, *overrides: str, trials: int = 1, workers: int = 1, data: Sequence[str] = DIGITS) -> Sweep:
        return Sweep(self, [*data, *overrides], trials, workers)


class Sweep:
    """A sweep's command, at work."""

    def __init__(self, shell: Shell, overrides, trials: int, workers: int) -> None:
        self.shell, self.directory = shell, shell.directory / "s"
        self.address = [f"search.dir={shell.directory}", "search.study=s"]
        command = [sys.executable, "src/sweep.py", "-m", "hydra/launcher=slurm_cpu", *NETWORK, SLOW, *self.address]
        command += ["model.timesteps=choice(1,2)", "search/sampler=random", "logger=wandb", "search.heartbeat=2"]
        command += [f"search.n_trials={trials}", f"search.workers={workers}"]
        command += ["hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=2", *overrides]
        self.command = shell.start(*command)

    def said(self) -> str:
        return (self.shell.directory / "said").read_text()

    def job(self) -> str:
        """The array's id, once it is submitted."""
        until(lambda: "stop:" in self.said() or self.command.poll() is not None, 90, self.said)
        assert "SLURM job" in self.said(), self.said()
        return self.said().partition("SLURM job ")[2].partition(":")[0]

    def trained(self, trial: int = 0, since: float = 0.0, seconds: float = 150) -> Path:
        """Wait until the trial's run has written a checkpoint (later than ``since``) and goes on."""
        checkpoint = self.directory / "trials" / f"{trial:05d}" / "checkpoints/last.ckpt"
        until(
            lambda: self.command.poll() is not None or (checkpoint.exists() and checkpoint.stat().st_mtime > since),
            seconds,
            self.logs,
        )
        assert self.command.poll() is None, self.said() + self.logs()
        time.sleep(1)  # into the next epoch
        return checkpoint

    def end(self, seconds: float = 240) -> str:
        """What the command said; it must succeed."""
        try:
            self.command.wait(seconds)
        except subprocess.TimeoutExpired:
            self.command.kill()
            raise AssertionError(self.said() + self.logs()) from None
        assert self.command.returncode == 0, self.said() + self.logs()
        return self.said()

    def records(self) -> dict:
        self.shell.run(
            sys.executable, "src/study.py", "study=s", f"dir={self.shell.directory}", "action=export",
            f"output={self.shell.directory}/trials.json",
        )  # fmt: skip
        return json.loads((self.shell.directory / "trials.json").read_text())

    def logs(self) -> str:
        logs = [*self.directory.glob("workers/*.out"), *self.shell.directory.glob("batch-*.log")]
        return "\n".join(f"--- {p}\n{p.read_text()[-3000:]}" for p in logs) + self.shell.cluster.run("squeue")

    def assert_whole(self, trials: int, parts: int = 2) -> None:
        """Every trial finished once; trial 0 went through ``parts`` runs or more, as one W&B run, as if through one."""
        found = self.records()["trials"]
        finished = [t for t in found if t["state"] == "complete"]
        assert len(finished) == trials, self.logs()
        assert [t["number"] for t in finished] == list(range(trials))
        assert {t["state"] for t in found} <= {"complete", "waiting"}
        directory = self.directory / "trials" / "00000"
        runs = list((directory / "wandb").glob("offline-run-*"))
        assert len(runs) == 1, runs  # its parts are joined; of one that was killed W&B may have written nothing
        logs = [*self.directory.glob("workers/*.out"), *self.shell.directory.glob("batch-*.log")]
        begun = [line for log in logs for line in re.findall(r"^\[[\d:]+\] trial 0\b.*", log.read_text(), re.M)]
        assert len(begun) >= parts, self.logs()
        whole = train(self.shell.directory / "reference", f"model.timesteps={found[0]['params']['model.timesteps']}")
        assert_same(whole, directory, ignore_run=True)
        assert finished[0]["test"]["accuracy"] == json.loads((whole / "result.json").read_text())["accuracy"]


def train(output: Path, *overrides: str) -> Path:
    """The same training in this process, undisturbed, with as many threads as a worker has (sums depend on it)."""
    from spikefront.training.run import train as train_

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train_(compose([*SMALL, "logger=none", f"output_dir={output}", *overrides]))
    finally:
        torch.set_num_threads(threads)
    return output


def assert_same(a: Path, b: Path, ignore_run: bool = False) -> None:
    """Two runs' last checkpoints are equal in every bit."""
    states = [torch.load(d / "checkpoints/last.ckpt", weights_only=True) for d in (a, b)]
    for state in states:
        if ignore_run:
            state["continuation"].pop("run")
    for key in STATE:
        assert_equal(states[0][key], states[1][key], key)


def jobs(cluster) -> list[psutil.Process]:
    """What this cluster's jobs run."""
    environment = lambda p: p.info["environ"] or {}
    own = [
        p
        for p in psutil.process_iter(["environ"])
        if environment(p).get("SLURM_CONF") == cluster.environment["SLURM_CONF"]
    ]
    return [p for p in own if "SLURM_JOB_ID" in environment(p)]


def pids(word: str, cluster) -> list[int]:
    """Processes of this cluster's jobs whose command line has the word."""
    return [p.pid for p in jobs(cluster) if word in " ".join(p.cmdline())]


def daemons(cluster) -> set[int]:
    """SLURM's own processes above them, which tell the controller how they end."""
    return {above.pid for p in jobs(cluster) for above in p.parents() if above.name() == "slurmstepd"}
