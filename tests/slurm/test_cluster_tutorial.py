"""The cluster's tutorial from its top to its end: on a real SLURM, its runs to a stand-in of W&B's server."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from pages import follow, page
from standin import StandIn

from conftest import until

pytestmark = pytest.mark.slurm


def test_a_sweep_is_submitted_preempted_continued_and_synced(shell, tmp_path):
    home = tmp_path / "clone"
    home.mkdir()
    study = home / "outputs/studies/cluster"
    with StandIn() as server:
        account = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "k" * 40, "WANDB_CACHE_DIR": str(tmp_path / "wandb")}
        followed = follow(page("tutorials/cluster.md"), home, **{**shell.environment, **account, "USER": "root"})
        said = {}
        for block, out in followed:
            said[block.split()[1] if block.startswith("python") else block.split()[0]] = out
            if "wait=false" in block:  # the reader looks when there is something to see
                until(lambda: list(study.glob("trials/*/checkpoints/last.ckpt")), 300, lambda: shell.run("squeue"))
        runs = {run["displayName"]: run for run in server.runs.values()}
        assert not server.unknown, server.unknown
    assert "RUNNING on node" in said["squeue"] and "Restarts=1" in shell.run("scontrol", "show", "job")
    assert "Pareto front of cluster" in said["src/sweep.py"]
    trials = [run for run in runs.values() if run["job_type"] == "trial"]
    assert len(trials) == 4 and {run["group"] for run in trials} == {"cluster"}, list(runs)
    assert all(run["summary"]["accuracy"] > 0.1 and run["state"] == "finished" for run in trials)
    assert [run["job_type"] for run in runs.values()].count("study") == 1
    picture = Path(home / "outputs/cluster.png")
    assert picture.stat().st_size > 10_000
    if kept := os.environ.get("KEEP_PICTURES"):  # for the page
        shutil.copy(picture, kept)
