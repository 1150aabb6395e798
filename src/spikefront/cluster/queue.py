"""What a sweep asks of SLURM: is it here, who of ours is in the queue."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

from spikefront.errors import UserError

QUIET = 60  # seconds that squeue may take; a busy controller does take its time


@dataclass(frozen=True)
class Job:
    """A job, or one task of an array: ``id`` such as ``12_3``, ``state`` in SLURM's word, its nodes or why it waits,
    the comment it was submitted with."""

    id: str
    state: str
    where: str
    comment: str


def require() -> None:
    """Raise UserError where no job can be submitted."""
    if shutil.which("sbatch") is None:
        raise UserError(
            "no sbatch on this machine: submit where the cluster's jobs are submitted (a login node), or search here"
            " with hydra/launcher=local"
        )


def queue(*selection: str) -> dict[str, Job] | None:
    """The jobs that wait or run, by id; None if SLURM doesn't answer (its controller restarts, for instance).

    Args:
        selection: squeue's arguments, such as ``--jobs=12``.
    """
    command = ["squeue", "--noheader", "--array", "--format=%i|%T|%R|%k", *selection]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=QUIET)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if listed.returncode:
        return {} if "Invalid job id" in listed.stderr else None
    jobs = [Job(*line.strip().split("|", 3)) for line in listed.stdout.splitlines() if line.count("|") >= 3]
    return {job.id: job for job in jobs}


def workers(name: str, comment: str) -> dict[str, Job] | None:
    """The user's jobs that bear a study's name and, as studies of one name may lie in several places, its directory."""
    jobs = queue("--me", f"--name={name}")
    return jobs if jobs is None else {job.id: job for job in jobs.values() if job.comment == comment}


def cancel_waiting(*selection: str) -> None:
    """Take out of the queue what hasn't started."""
    subprocess.run(["scancel", "--quiet", "--state=PENDING", *selection], capture_output=True, timeout=QUIET)
