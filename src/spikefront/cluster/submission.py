"""Submitting jobs to SLURM through submitit, and what sbatch said against one."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import submitit

from spikefront.cluster.queue import QUIET
from spikefront.errors import UserError

OURS = ("wait", "submitit_folder", "max_num_timeout")  # keys of a launcher's configuration that are not sbatch's


class Executor(submitit.SlurmExecutor):
    """Submitit's, from a launcher's configuration; writes its script where there is no SLURM, too."""

    def __init__(self, folder: Path, launcher: Mapping[str, Any]) -> None:
        super().__init__(folder, max_num_timeout=launcher["max_num_timeout"])
        self._launcher = launcher
        settings = {k: v for k, v in launcher.items() if k not in OURS and v is not None}
        try:
            self.update_parameters(**self._convert_parameters(settings))
        except (TypeError, ValueError) as error:
            raise UserError(f"hydra.launcher: {str(error).splitlines()[0]}") from error

    @classmethod
    def affinity(cls) -> int:
        return 1

    def script(self, jobs: int) -> str:
        """The batch script of an array of so many jobs."""
        if jobs > 1:
            self.parameters["map_count"] = jobs
        return self._make_submission_file_text(self._submitit_command_str, "")

    def submit_all(self, call: Callable[..., Any], arguments: Sequence[Sequence[Any]]) -> list[submitit.Job[Any]]:
        """One job a list of arguments, as one array.

        Raises:
            UserError: SLURM refuses it.
        """
        if not arguments:
            return []
        with contextlib.redirect_stderr(io.StringIO()):
            try:
                return self.map_array(call, *zip(*arguments, strict=True))
            except submitit.core.utils.FailedJobError as error:
                raise refusal(str(error), self._launcher) from error


def refusal(said: str, launcher: Mapping[str, object]) -> UserError:
    """What sbatch said against a job, in one line with what to do."""
    lines = [re.sub(r"^sbatch: (error: )?", "", line).strip() for line in said.splitlines() if line.strip()]
    reason = next(
        (line for line in lines if "Batch job submission failed" in line), lines[-1] if lines else "no reason"
    )
    reason = reason.removeprefix("Batch job submission failed: ").rstrip(".")
    for sign, hint in {
        "invalid partition": f"hydra.launcher.partition is {launcher.get('partition')}; {_partitions()}",
        "requested time limit": "lower hydra.launcher.timeout_min",
        "limit": "ask for fewer or shorter jobs: search.workers=…, hydra.launcher.timeout_min=…",
        "account": "set hydra.launcher.account=… (`sacctmgr show associations user=$USER` lists yours)",
        "qos": "set hydra.launcher.qos=… or ask for fewer jobs with search.workers=…",
        "node configuration": "no node has that much: lower hydra.launcher.gpus_per_node, cpus_per_task or mem_gb",
        "more processors": "no node has that much: lower hydra.launcher.gpus_per_node, cpus_per_task or mem_gb",
        "memory": "lower hydra.launcher.mem_gb",
        "invalid generic resource": "this partition has no such GPUs: hydra.launcher.gpus_per_node=null asks for none",
        "unable to contact": "the controller is away: try again in a moment",
    }.items():
        if sign in reason.lower():
            return UserError(f"SLURM refuses the job: {reason}; {hint}")
    return UserError(f"SLURM refuses the job: {reason}; see hydra.launcher in slurm/hydra/launcher/")


def _partitions() -> str:
    try:
        listed = subprocess.run(["sinfo", "--noheader", "--format=%P"], capture_output=True, text=True, timeout=QUIET)
    except (OSError, subprocess.TimeoutExpired):
        return "`sinfo` lists what there is"
    return f"there is {', '.join(listed.stdout.split())}"
