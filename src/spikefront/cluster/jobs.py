"""The SLURM job that a process belongs to, or the Ray node."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping

from spikefront.start import RAY_NODE

RAY = "ray:"  # begins the name of a job that is a worker on a Ray node; SLURM's are numbers


def requeue(environment: Mapping[str, str]) -> bool:
    """Have SLURM run this job again, under the same id; whether there was one to requeue."""
    job = _controllable(environment)
    if job is None:
        return False
    print(f"requeueing SLURM job {job}", flush=True)
    return subprocess.run(["scontrol", "requeue", job], check=False).returncode == 0


def job_of(environment: Mapping[str, str]) -> str | None:
    """The SLURM job that a process with this environment belongs to, as squeue names it; on Ray its node."""
    if node := environment.get(RAY_NODE):
        return RAY + node
    if "SLURM_ARRAY_JOB_ID" in environment and "SLURM_ARRAY_TASK_ID" in environment:
        return f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    return environment.get("SLURM_JOB_ID")


def _controllable(environment: Mapping[str, str]) -> str | None:
    """The job that ``scontrol`` can be asked about; None outside of SLURM."""
    job = job_of(environment) if shutil.which("scontrol") else None
    return None if job is None or job.startswith(RAY) else job


def is_preempted(environment: Mapping[str, str]) -> bool:
    """Whether SLURM is about to take this job's nodes for another; not when it was cancelled or requeued by hand."""
    job = _controllable(environment)
    if job is None:
        return False
    facts = _facts(job)
    return facts.get("JobState") == "RUNNING" and facts.get("PreemptTime", "None") != "None"


def state_of(job: str) -> str | None:
    """SLURM's word for how a job is or, for some minutes after its end, was; None if it doesn't say."""
    return _facts(job).get("JobState") if shutil.which("scontrol") else None


def _facts(job: str) -> dict[str, str]:
    shown = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=False).stdout
    return dict(word.split("=", 1) for word in shown.split() if "=" in word)
