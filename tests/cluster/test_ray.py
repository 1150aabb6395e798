"""Sweeps on a Ray cluster of several nodes that come and go, whose users' complaints about others each are a test."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys

import postgresql
import pytest
from optuna.trial import TrialState

pytest.importorskip("ray", reason="needs Ray: pip install 'spikefront[ray]'")

from raycluster import NETWORK, Nodes, Sweep, environment, until

from spikefront.config import ROOT
from spikefront.sweeping.study import attributes

pytestmark = pytest.mark.ray
ONCE = ["trainer.max_epochs=1", "callbacks.slow.seconds=3"]  # a trial in its first epoch, for long enough


@pytest.fixture
def postgres():
    with postgresql.server() as url:
        yield url


@pytest.fixture(scope="module")
def nodes():
    """A cluster that each test leaves with one node."""
    with Nodes(1) as found:
        yield found


@pytest.fixture
def start(tmp_path):
    """``start(nodes, …)``: a sweep's command in the test's directory."""
    with contextlib.ExitStack() as stack:

        def begin(nodes: Nodes, *overrides: str, **counts: int) -> Sweep:
            sweep = Sweep(nodes, tmp_path, *overrides, **counts)
            stack.callback(sweep.close)
            return sweep

        yield begin


def states(sweep: Sweep) -> list[str]:
    return [trial["state"] for trial in sweep.records()["trials"]]


def test_a_node_goes_another_comes_and_every_trial_is_finished_once(start, postgres):
    with Nodes(3) as nodes:
        sweep = start(nodes, f"search.storage={postgres}", trials=12, workers=3)
        nodes.lose(nodes.of(sweep.trained(0)))
        nodes.add()
        assert "12/12" in sweep.end()
        assert states(sweep) == ["complete"] * 12
        begun = sweep.begun()
        assert all(epochs[0] == 0 for epochs in begun.values()) and len(begun) == 12
        assert len(begun[0]) == 2 and begun[0][1] >= 1, begun  # from its checkpoint, elsewhere


def test_a_preempted_trial_neither_stays_running_nor_has_failed(start, nodes):
    """ray#30008: a trial stuck in RUNNING after a preemption; ray#41609: preemptions counted as failures."""
    sweep = start(nodes, *ONCE, "search.max_lives=1", "search.max_failures=0")
    nodes.lose(nodes.of(sweep.trains(0)))
    assert sweep.trial(0).state == TrialState.RUNNING  # nobody is there to say otherwise
    nodes.add()
    sweep.end()
    assert states(sweep) == ["complete"]
    assert attributes.lease(sweep.trial(0))["job"] == f"ray:{nodes.nodes[0].node_id}"


def test_a_worker_killed_on_a_living_node_is_a_death_of_its_trial(start, nodes):
    sweep = start(nodes, *ONCE, "search.max_lives=1")
    sweep.trains(0).kill()
    sweep.end()
    assert states(sweep) == ["failed", "complete"]
    assert "something killed 1 workers" in sweep.records()["trials"][0]["reason"]


def test_the_same_command_with_other_resources_has_them_and_needs_no_command_to_go_on(start, nodes):
    """ray#15570: new resources ignored when a search is resumed."""
    sweep = start(nodes, "hydra.launcher.num_cpus=2", trials=2)
    until(lambda: "no worker runs yet: they wait for a node with CPU=2 " in sweep.said(), 200, sweep.logs)
    sweep.command.kill()
    sweep.command.wait()
    sweep.start("hydra.launcher.num_cpus=1")
    sweep.trains(0)
    assert "each CPU=1, in the place of 1 that asked for something else" in sweep.said()
    sweep.command.kill()
    sweep.command.wait()
    until(lambda: (trial := sweep.trial(1)) is not None and trial.state == TrialState.COMPLETE, 400, sweep.logs)
    until(lambda: not sweep.workers(), 60, sweep.logs)
    sweep.start("hydra.launcher.num_cpus=1")
    assert "2 of 2 trials finished" in sweep.end() and states(sweep) == ["complete"] * 2


def test_an_interrupted_sweep_leaves_nobody_and_goes_on_within_the_epoch(start, nodes):
    sweep = start(nodes, "callbacks.slow.seconds=3")
    sweep.trained(0)
    sweep.command.send_signal(signal.SIGINT)
    assert "0 of 1 trials finished; the same command continues" in sweep.end(code=130)
    assert not sweep.workers() and sweep.trial(0).state == TrialState.WAITING
    sweep.start()
    sweep.end()
    assert states(sweep) == ["complete"] and sweep.begun()[0][1] >= 1


def test_workers_get_parts_of_a_gpu_and_resources_of_ones_own(start, nodes):
    node = nodes.add(num_cpus=2, num_gpus=1, fast=1)
    parts = ["hydra.launcher.num_gpus=0.5", "+hydra.launcher.resources.fast=0.5"]
    sweep = start(nodes, *ONCE, *parts, trials=2, workers=2)
    both = [sweep.trains(0), sweep.trains(1)]
    assert [nodes.of(process) for process in both] == [node] * 2
    assert {process.environ()["CUDA_VISIBLE_DEVICES"] for process in both} == {"0"}
    assert "each CPU=1 GPU=0.5 fast=0.5" in sweep.end()
    nodes.lose(node)


def test_runs_without_a_search_are_tasks_too(tmp_path, nodes):
    launcher = ["hydra/launcher=ray_cpu", "hydra.launcher.num_cpus=1", f"hydra.launcher.address={nodes.address}"]
    command = [
        sys.executable,
        "src/train.py",
        "-m",
        "seed=1,2",
        "neuron=lif,nosuch",
        *launcher,
        *NETWORK,
        "logger=none",
    ]
    ran = subprocess.run(
        [*command, f"hydra.sweep.dir={tmp_path}"], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    assert ran.returncode == 1 and "neuron=nosuch does not exist" in ran.stderr.splitlines()[-1], (
        ran.stdout + ran.stderr
    )
    command.remove("neuron=lif,nosuch")
    ran = subprocess.run(
        [*command, f"hydra.sweep.dir={tmp_path}"], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    assert ran.returncode == 0 and "Ray: 2 runs, each CPU=1" in ran.stdout, ran.stdout + ran.stderr
    assert len([json.loads(result.read_text()) for result in tmp_path.glob("*/result.json")]) == 2
