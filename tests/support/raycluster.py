"""A Ray cluster of several nodes on this machine, and sweeps on it as a user would start them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import psutil
from optuna.trial import FrozenTrial
from postgresql import free_port
from waiting import until

from spikefront.config import ROOT
from spikefront.errors import UserError
from spikefront.sweeping.study import attributes
from spikefront.sweeping.study.study import load

STORE = 80 * 2**20  # bytes of each node's object store: nothing is put there
PATHS = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests" / "support")])
# Ray believes in a node's end after seconds, not after a minute
HASTE = {"period_ms": 1000, "timeout_ms": 3000, "failure_threshold": 5, "initial_delay_ms": 0}
NETWORK = [
    "model=sdt_1_16",
    "data=digits",
    "data.shift=2",
    "trainer=cpu",
    "trainer.max_epochs=3",
    "neuron.threshold=0.1",
]
NETWORK += [
    "trainer.limit_train_batches=4",
    "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=1",
    "~callbacks.progress",
    "threads=1",
]
SLOW = "+callbacks.slow={_target_:slow.Slow,seconds:0.7}"


class Nodes:
    """``with Nodes(3) as nodes``: a head without cores, and three nodes with one each."""

    def __init__(self, count: int, **resources: float) -> None:
        from ray.cluster_utils import Cluster

        os.environ["PYTHONPATH"] = PATHS  # of what Ray starts
        settings = {f"health_check_{name}": value for name, value in HASTE.items()}
        settings["agent_register_timeout_ms"] = 300_000  # a busy machine
        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": settings, **small()}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes = [self.add(**resources) for _ in range(count)]

    def __enter__(self) -> Nodes:
        return self

    def __exit__(self, *_: object) -> None:
        for node in list(self.nodes):
            self.lose(node)
        self._cluster.shutdown()

    @property
    def address(self) -> str:
        return self._cluster.address

    def add(self, num_cpus: float = 1, num_gpus: float = 0, **resources: float):
        """One more node."""
        node = self._cluster.add_node(num_cpus=num_cpus, num_gpus=num_gpus, resources=resources, wait=True, **small())
        if hasattr(self, "nodes"):
            self.nodes.append(node)
        return node

    def lose(self, node) -> None:
        """A machine is gone, with all that ran on it, at one moment and without a word."""
        self.nodes.remove(node)
        raylets = node.all_processes["raylet"]
        there = [below for r in raylets for below in psutil.Process(r.process.pid).children(recursive=True)]
        for process in reversed(there):  # what works there first: nothing shall write its checkpoint
            process.kill()
        self._cluster.remove_node(node, allow_graceful=False)

    def of(self, process: psutil.Process):
        """The node that a process runs on."""
        above = {p.pid for p in process.parents()}
        return next(n for n in self.nodes if above & {r.process.pid for r in n.all_processes["raylet"]})


def small() -> dict[str, int]:
    """What keeps a node small. With given ports its start waits for no agent, which takes long on a busy machine."""
    ports = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    return {"object_store_memory": STORE, **{port: free_port() for port in ports}}


class Sweep:
    """A sweep's command on a cluster, at work."""

    def __init__(self, nodes: Nodes, directory: Path, *overrides: str, trials: int = 1, workers: int = 1) -> None:
        self.directory, self.said_at = directory, directory / "said"
        given = dict(o.split("=", 1) for o in overrides if o.startswith("search."))
        self.search = {"dir": str(directory), "study": "s", "storage": given.get("search.storage")}
        arguments = ["-m", "hydra/launcher=ray_cpu", "hydra.launcher.num_cpus=1"]
        arguments += [f"hydra.launcher.address={nodes.address}"]
        arguments += [*NETWORK, SLOW, f"search.dir={directory}", "search.study=s", "logger=none", "search.heartbeat=1"]
        arguments += ["optimizer.lr=interval(1e-4,1e-2)", "search/sampler=random"]
        self.arguments = [*arguments, f"search.n_trials={trials}", f"search.workers={workers}", *overrides]
        self.start()

    def start(self, *more: str) -> None:
        """The same command, or with other settings, again."""
        command = [sys.executable, "src/sweep.py", *self.arguments, *more]
        with self.said_at.open("ab") as out:
            self.command = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=out, stderr=subprocess.STDOUT)

    def said(self) -> str:
        return self.said_at.read_text()

    def logs(self) -> str:
        logs = self.directory.glob("s/workers/*.log")
        return self.said() + "\n".join(f"--- {log}\n{log.read_text()[-3000:]}" for log in logs)

    def trained(self, number: int = 0, seconds: float = 400) -> psutil.Process:
        """Wait until the trial has a checkpoint and goes on; the process that trains it."""
        checkpoint = self.directory / "s/trials" / f"{number:05d}" / "checkpoints/last.ckpt"
        until(lambda: checkpoint.exists() or self.command.poll() is not None, seconds, self.logs)
        assert self.command.poll() is None, self.logs()
        return self.trains(number)

    def end(self, seconds: float = 500, code: int = 0) -> str:
        """What the command said in the end."""
        try:
            self.command.wait(seconds)
        except subprocess.TimeoutExpired:
            self.command.kill()
            raise AssertionError(self.logs()) from None
        assert self.command.returncode == code, self.logs()
        return self.said()

    def records(self, *where: str) -> dict:
        """The study's records, as its users have them."""
        output = self.directory / "trials.json"
        command = [
            sys.executable,
            "src/study.py",
            f"study={self.directory}/s",
            "action=export",
            f"output={output}",
            *where,
        ]
        subprocess.run(command, cwd=ROOT, env=environment(), check=True, capture_output=True)
        return json.loads(output.read_text())

    def close(self) -> None:
        """Leave nothing behind, however the test ended."""
        self.command.kill()
        self.command.wait()
        for worker in self.workers():
            worker.kill()

    def workers(self) -> list[psutil.Process]:
        """The processes that are this sweep's workers."""
        word = f"search.dir={self.directory}"
        return [p for p in psutil.process_iter() if word in _line(p) and "search.worker=true" in _line(p)]

    def trial(self, number: int = 0) -> FrozenTrial | None:
        """As it is in the study now."""
        try:
            trials = load(self.search)[0].get_trials(deepcopy=False)
        except UserError:
            return None
        return trials[number] if len(trials) > number else None

    def trains(self, number: int = 0, seconds: float = 400) -> psutil.Process:
        """Wait until the trial's training has begun; the process that it is."""
        held: dict = {}

        def begun() -> bool:
            trial = self.trial(number)
            held.update((trial and attributes.lease(trial)) or {})
            return held.get("begun", False) and psutil.pid_exists(held["pid"])

        until(begun, seconds, self.logs)
        return psutil.Process(held["pid"])

    def begun(self) -> dict[int, list[int]]:
        """The epochs that each trial's trainings began with, in the order of their beginning."""
        found: dict[int, list[tuple[str, int]]] = {}
        for log in self.directory.glob("s/workers/*.log"):
            lines = re.findall(r"^\[([\d:]+)\] trial (\d+): |^from epoch (\d+)", log.read_text(), re.M)
            for (when, trial, _), (_, _, epoch) in pairwise(lines):
                if trial and epoch:
                    found.setdefault(int(trial), []).append((when, int(epoch)))
        return {trial: [epoch for _, epoch in sorted(own)] for trial, own in found.items()}


def environment() -> dict[str, str]:
    """What commands are started with."""
    return {**os.environ, "PYTHONPATH": PATHS, "WANDB_MODE": "offline"}


def _line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
