"""A sweep on a real SLURM, disturbed in every way: exact counts, the same W&B run, every bit of the state."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from conftest import pids, until

pytestmark = pytest.mark.slurm


def test_an_array_sweeps_to_the_end_and_says_how_to_handle_it(shell):
    sweep = shell.sweep(trials=2, workers=2)
    job = sweep.job()
    sweep.trained()
    status = shell.run(sys.executable, "src/study.py", "study=s", f"dir={shell.directory}")
    assert f"SLURM job {job}_" in status and "RUNNING on node" in status
    said = sweep.end()
    assert f"SLURM job {job}: 2 workers" in said
    for hint in (f"workers/{job}*_log.out", f"squeue --jobs={job}", f"scancel {job}", "sbatch --array"):
        assert hint in said
    sweep.assert_whole(2, parts=1)
    states = shell.run("sacct", "-n", "-X", "-j", job, "-o", "State").split()
    assert states == ["COMPLETED"] * 2


def test_a_warning_signal_requeues_the_job_and_continues_the_trial(shell):
    sweep = shell.sweep()
    job = sweep.job()
    sweep.trained()
    shell.run("scancel", "--signal=USR2", job)
    sweep.end()
    sweep.assert_whole(1)
    assert "Restarts=1" in shell.run("scontrol", "show", "job", job)


def test_a_requeued_job_continues_the_trial(shell):
    sweep = shell.sweep()
    job = sweep.job()
    sweep.trained()
    shell.run("scontrol", "requeue", job)
    sweep.end()
    sweep.assert_whole(1)


def test_a_preempted_job_continues_the_trial(shell):
    sweep = shell.sweep()
    job = sweep.job()
    sweep.trained()
    urgent = ["--partition=urgent", "--nodes=2", "--exclusive", "--time=1", f"--output={shell.directory}/urgent"]
    shell.run("sbatch", *urgent, "--wrap=sleep 2")
    until(lambda: "Restarts=1" in shell.cluster.run("scontrol", "show", "job", job), 60, sweep.logs)
    sweep.end()
    sweep.assert_whole(1)


def test_a_time_limit_is_an_interruption_like_others(shell):
    # SLURM may send its signal a minute early, and does
    sweep = shell.sweep("hydra.launcher.timeout_min=2", "hydra.launcher.signal_delay_s=20", "callbacks.slow.seconds=3")
    job = sweep.job()
    sweep.end()
    sweep.assert_whole(1)
    assert "Restarts=" in shell.run("scontrol", "show", "job", job)


def test_a_killed_worker_is_replaced_by_one_that_came_later(shell):
    sweep = shell.sweep(trials=2)
    job = sweep.job()
    checkpoint = sweep.trained()
    more = next(line for line in sweep.said().splitlines() if line.startswith("more:")).split()[2:]
    shell.run("sbatch", *more[:3], "--array=0-0", "--gpus-per-node=0", "--cpus-per-task=1", "--mem=2G", *more[3:])
    for pid in pids(f"{shell.directory}/s/workers"):
        os.kill(pid, signal.SIGKILL)
    since = checkpoint.stat().st_mtime
    sweep.trained(since=since)
    sweep.end()
    sweep.assert_whole(2)
    assert "FAILED" in shell.run("sacct", "-n", "-X", "-j", job, "-o", "State")


def test_a_node_fails_without_a_signal(shell):
    sweep = shell.sweep()
    job = sweep.job()
    sweep.trained()
    node = shell.run("squeue", "-h", "-j", job, "-o", "%N").strip()
    shell.cluster.kill(node)
    for pid in [*pids("slurmstepd: "), *pids(f"{shell.directory}/s/workers")]:
        os.kill(pid, signal.SIGKILL)
    sweep.end()
    shell.cluster.start_node(int(node.removeprefix("node")))
    sweep.assert_whole(1)


def test_a_controller_may_restart(shell):
    sweep = shell.sweep(trials=2)
    sweep.job()
    sweep.trained()
    shell.cluster.kill("slurmctld")
    time.sleep(6)  # the command asks for the queue meanwhile
    assert sweep.command.poll() is None
    shell.cluster.start_controller()
    sweep.end()
    sweep.assert_whole(2, parts=1)
