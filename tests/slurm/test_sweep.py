"""A sweep on a real SLURM, disturbed in every way: exact counts, the same W&B run, every bit of the state."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

import pytest
from own import recordings

from conftest import SLOW, daemons, pids, until

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
    for pid in pids(f"{shell.directory}/s/workers", shell.cluster):
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
    for pid in [*daemons(shell.cluster), *pids(f"{shell.directory}/s/workers", shell.cluster)]:
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


def test_a_trial_is_taken_by_jobs_and_stopped_and_asked_again_goes_on(shell):
    """Other seeds of a trial whose study was swept here: an array of their own, which the same command continues."""
    local = ["model=sdt_1_16", "data=digits", "trainer=cpu", "trainer.max_epochs=2", "logger=none", SLOW]
    place = [f"search.dir={shell.directory}", "search.study=s", "search.n_trials=1", "search.workers=1"]
    shell.run(sys.executable, "src/sweep.py", "-m", *local, "model.timesteps=choice(1,2)", *place)
    where = ["hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=2", "search.heartbeat=2"]
    take = [sys.executable, "src/study.py", "study=s", f"dir={shell.directory}", "action=take", "trial=0", "seeds=2"]
    take += ["workers=2", "launcher=slurm_cpu", "trust=true", "sweep=[" + ",".join(f'"{o}"' for o in where) + "]"]
    began = shell.start(*take)
    logs = lambda: (shell.directory / "said").read_text() + shell.run("squeue")
    until(lambda: list(shell.directory.glob("s-trial-0/trials/*/checkpoints/last.ckpt")), 150, logs)
    began.send_signal(signal.SIGINT)
    assert began.wait(60) == 130
    said = shell.run(*take)
    assert "2 other seeds" in said and "±" in said and "evaluate.py" in said
    states = shell.run("sacct", "-n", "-X", "-o", "JobName,State%30").splitlines()
    assert sum("COMPLETED" in line for line in states) >= 2, states


def test_workers_read_a_folder_of_ones_own(shell, tmp_path):
    """Two workers at once: one split, one cache."""
    root = recordings(tmp_path / "own")
    own = [
        "data=event_folder",
        f"data.root={root}",
        f"data.cache={tmp_path}/cache",
        "data.unit=us",
        "data.sensor=[24,16]",
        "data.image_size=16",
    ]
    sweep = shell.sweep(data=own, trials=2, workers=2)
    sweep.end()
    found = sweep.records()["trials"]
    assert [t["state"] for t in found] == ["complete"] * 2
    assert len(list(tmp_path.glob("cache/event_folder-*/events.bin"))) == 1
    results = [json.loads(p.read_text()) for p in sweep.directory.glob("trials/*/result.json")]
    assert len({r["data"]["split"] for r in results}) == 1 and len(results) == 2
