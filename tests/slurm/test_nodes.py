"""DDP over nodes: one training by its template, and a sweep whose every trial takes two nodes."""

from __future__ import annotations

import sys

import pytest
from omegaconf import OmegaConf

from conftest import SLOW, SMALL, assert_same, until

pytestmark = pytest.mark.slurm
OPTIONS = ["--parsable", "--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=0", "--cpus-per-task=1", "--mem=2G"]


@pytest.fixture
def nodes(shell):
    """The virtual nodes' names lead nowhere."""
    shell.environment["MASTER_ADDR"] = "127.0.0.1"
    return shell


def train(shell, name: str, *overrides: str) -> str:
    small = [o for o in SMALL if o != "trainer=cpu"]
    arguments = [*small, "trainer=ddp_cpu", "logger=none", f"hydra.run.dir={shell.directory}/{name}"]
    return shell.run("sbatch", *OPTIONS, "slurm/train.sbatch", *arguments, *overrides).strip()


def test_a_training_over_nodes_continues_after_its_warning(nodes):
    job = train(nodes, "parts", SLOW)
    until((nodes.directory / "parts/checkpoints/last.ckpt").exists, 150)
    nodes.run("scancel", "--signal=USR1", job)
    until((nodes.directory / "parts/result.json").exists, 200)
    assert "Restarts=1" in nodes.run("scontrol", "show", "job", job)
    train(nodes, "whole")
    until((nodes.directory / "whole/result.json").exists, 200)
    assert_same(nodes.directory / "whole", nodes.directory / "parts")


def test_a_sweep_trains_each_trial_over_nodes(nodes):
    address = [f"search.dir={nodes.directory}", "search.study=s"]
    launcher = ["hydra/launcher=slurm_nodes", "hydra.launcher.gpus_per_node=null", "hydra.launcher.tasks_per_node=1"]
    launcher += ["hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=2"]
    search = ["model.timesteps=choice(1,2)", "search/sampler=random", "search.n_trials=2", "search.workers=1"]
    small = [o for o in SMALL if o != "trainer=cpu"]
    said = nodes.run(sys.executable, "src/sweep.py", "-m", *launcher, *search, *address, *small, "logger=none")
    assert "2 complete" in said
    (second,) = (nodes.directory / "s/workers").glob("*_1_log.out")
    assert "completed successfully" in second.read_text()


def test_runs_without_a_search_are_an_array_too(shell):
    launcher = ["hydra/launcher=slurm_cpu", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=2"]
    where = [f"hydra.sweep.dir={shell.directory}/runs", f"hydra.launcher.submitit_folder={shell.directory}/logs"]
    said = shell.run(sys.executable, "src/train.py", "-m", "neuron=lif,plif", *launcher, *where, *SMALL, "logger=none")
    assert "2 runs" in said and "scancel" in said
    found = [OmegaConf.load(result.parent / "config.yaml") for result in shell.directory.glob("runs/*/result.json")]
    assert sorted(cfg.neuron._target_ for cfg in found) == ["spikefront.nn.LIF", "spikefront.nn.PLIF"]
