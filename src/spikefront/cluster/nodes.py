"""Whether a machine of a cluster was lost, which is no fault of what ran there: python -m …cluster.nodes <id>"""

from __future__ import annotations

import os
import subprocess
import sys

from spikefront.cluster.jobs import RAY, state_of

PATIENCE = 90.0  # seconds: Ray takes up to 65 to believe that a node is gone
TAKEN = ("NODE_FAIL", "PREEMPTED", "BOOT_FAIL")  # SLURM's words for a job whose machine was taken or broke


def lost(job: str) -> bool:
    """Whether the machine of a worker's job (``jobs.job_of``) is gone, or was taken from it; False if nobody knows.

    Ray is asked by a process of its own, which takes 100 MB and some seconds; up to ``PATIENCE`` where it doesn't know.
    """
    if not job.startswith(RAY):
        return state_of(job) in TAKEN
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_") or name == "RAY_ADDRESS"}
    command = [sys.executable, "-m", "spikefront.cluster.nodes", job.removeprefix(RAY)]
    try:
        asked = subprocess.run(
            command, env=own, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=2 * PATIENCE
        )
    except subprocess.TimeoutExpired:
        return False
    return asked.stdout.split()[-1:] == [b"lost"]


def _answers(node: str) -> bool:
    """Whether a task comes back from a Ray node."""
    import ray
    from ray.exceptions import GetTimeoutError, NodeDiedError, TaskUnschedulableError, WorkerCrashedError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray.init(address="auto", log_to_driver=False)
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    task = ray.remote(_nothing).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
    try:
        ray.get(task.remote(), timeout=PATIENCE)
    except (GetTimeoutError, NodeDiedError, TaskUnschedulableError, WorkerCrashedError):
        return False
    return True


def _nothing() -> None: ...


if __name__ == "__main__":
    print("there" if _answers(sys.argv[1]) else "lost", flush=True)
