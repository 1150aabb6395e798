"""Workers, or the runs of ``train.py -m``, as a SLURM job array (``hydra/launcher=slurm``), through submitit."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher
from omegaconf import DictConfig

POLL = 5.0  # seconds between looks at the queue


class SlurmArray(SlurmLauncher):
    """Submits one job a list of overrides as one array, says how to watch and stop it, and waits.

    For a sweep, ``search.workers`` is how many of its jobs there shall be in the queue: the same command again watches
    those that are there and submits what is missing. Ctrl-C leaves them at work. ``dry_run=true`` prints the script.
    """

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from spikefront.cluster import queue as slurm

        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        if not config.get("dry_run"):
            slurm.require()

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from spikefront.cluster import queue as slurm
        from spikefront.cluster.submission import Executor
        from spikefront.sweeping.study.storage import directory

        assert self.config is not None
        search = self.config.get("search")
        folder, name = Path(self.params["submitit_folder"]).absolute(), self.params["name"]
        comment = self.params.get("comment")
        if search:
            comment = str(directory(search))  # by which the study's workers are known in the queue
            folder, name = Path(comment) / "workers", f"spikefront:{search.study}"
        executor = Executor(folder, {**self.params, "name": name, "comment": comment})
        if self.config.get("dry_run"):
            print(executor.script(len(job_overrides)))
            return []
        there = list(slurm.workers(name, comment) or {}) if search else []
        missing = job_overrides[: max(0, len(job_overrides) - len(there))]
        state = Singleton.get_state()
        calls = [
            ([*o, *self._processes(o)], "hydra.sweep.dir", i, f"job_{i}", state)
            for i, o in enumerate(missing, initial_job_idx)
        ]
        jobs = executor.submit_all(self, calls)
        all_ = [*there, *(job.job_id for job in jobs)]
        self._announce(len(there), all_, folder)
        if not self.params["wait"]:
            return []
        if search:
            self._watch(all_, name, comment)
            return []
        return [self._result(job) for job in jobs]

    def _processes(self, overrides: Sequence[str]) -> list[str]:
        """What a run over several processes needs, unless the command line says it."""
        nodes, tasks = self.params.get("nodes") or 1, self.params.get("tasks_per_node") or 1
        if nodes * tasks == 1:
            return []
        given = {o.partition("=")[0] for o in overrides}
        wanted = {"trainer": "ddp" if self.params.get("gpus_per_node") else "ddp_cpu", "trainer.num_nodes": nodes}
        return [f"{key}={value}" for key, value in {**wanted, "trainer.devices": tasks}.items() if key not in given]

    def _announce(self, there: int, jobs: list[str], folder: Path) -> None:
        from spikefront.config import override
        from spikefront.start import spelled
        from spikefront.sweeping.study.storage import directory

        assert self.config is not None
        search, ids = self.config.get("search"), _arrays(jobs)
        what = "worker" if search else "run"
        lines = [f"SLURM job {', '.join(ids)}: {len(jobs)} {what}{'s' if len(jobs) > 1 else ''}"]
        if there:
            lines[0] += f", {there} of them from before"
        lines.append(f"logs:  {folder}/{ids[-1]}*_log.out")
        lines.append(f"watch: squeue --jobs={','.join(ids)}")
        if search:
            lines[-1] += f"; {spelled('study')} {shlex.quote(override('study', search.study))}"
            name = shlex.join([f"--job-name=spikefront:{search.study}", f"--comment={directory(search)}"])
            lines.append(f"more:  {_worker(name)} {_address(search)}")
        lines.append(f"stop:  scancel {' '.join(ids)}" + ("; the same command continues" if search else ""))
        if self.params["wait"]:
            lines.append("Ctrl-C leaves them at work")
        print("\n".join(lines), flush=True)

    def _watch(self, jobs: list[str], name: str, comment: str) -> None:
        """Wait until the study is whole or no worker is left, late ones included; then say what ended them."""
        from spikefront.cluster import queue as slurm
        from spikefront.errors import UserError
        from spikefront.sweeping.study import study as studies
        from spikefront.sweeping.study.accounts import account
        from spikefront.sweeping.study.attributes import BEGAN
        from spikefront.sweeping.worker.budgets import Limits

        assert self.config is not None
        study, _ = studies.load(self.config.search)
        ids, said_last, missed = _arrays(jobs), "", 0
        try:
            while missed < 2:  # a job whose node has failed may be out of the queue for a moment
                left = slurm.workers(name, comment)
                missed = missed + 1 if left == {} else 0
                if missed and account(study).whole:
                    break
                reasons = ", ".join(sorted({job.where for job in (left or {}).values()} - {"(None)"}))
                if left and reasons and all(job.state == "PENDING" for job in left.values()) and reasons != said_last:
                    print(f"no worker runs yet; they wait in the queue: {reasons}", flush=True)
                    said_last = reasons
                if left and account(study).whole and any(job.state == "PENDING" for job in left.values()):
                    slurm.cancel_waiting(*ids)  # they would find nothing to do
                time.sleep(POLL)
        except KeyboardInterrupt:
            print(f"\nthe workers go on; stop them with scancel {' '.join(ids)}", flush=True)
            return
        limits = Limits(self.config.search, BEGAN.get(study))
        if not account(study).whole and not limits.reached(study):  # the sweep says which limit
            logs = Path(comment) / "workers"
            said = filter(None, (_error(logs / f"{job}_0_log.out") for job in jobs))
            raise UserError(next(said, f"all workers have ended; their logs are in {logs}"))

    def _result(self, job: Any) -> JobReturn:
        from spikefront.cluster import queue as slurm
        from spikefront.errors import UserError

        result, log = job.paths.result_pickle, job.paths.stdout
        while not result.exists() and slurm.queue(f"--jobs={job.job_id}") != {}:
            time.sleep(POLL)
        time.sleep(0 if result.exists() else POLL)  # a shared file system may be late
        if not result.exists():
            raise UserError(_error(log) or f"SLURM job {job.job_id} ended without a result (log: {log})")
        return job.results()[0]


def _arrays(jobs: Sequence[str]) -> list[str]:
    return sorted({job.partition("_")[0] for job in jobs}, key=int)


def _worker(options: str) -> str:
    """The beginning of a line that submits more workers: in a clone, and elsewhere."""
    from spikefront.config import ROOT

    if Path.cwd() == ROOT:
        return f"sbatch --array=0-3 {options} slurm/worker.sbatch"
    script = shlex.quote(str(ROOT / "slurm" / "worker.sbatch"))
    return f"PYTHON={shlex.quote(sys.executable)} sbatch --array=0-3 {options} {script}"


def _address(search: DictConfig) -> str:
    """The overrides by which a worker finds the study, and runs the classes of the user's own that it names."""
    from spikefront.config import compose, override
    from spikefront.console import shown
    from spikefront.errors import UserError
    from spikefront.sweeping.study import study as studies
    from spikefront.sweeping.study.storage import journal_url
    from spikefront.sweeping.worker.stored import FLAG, check_study

    usual = (None, "outputs/studies", journal_url(search))  # type: ignore[arg-type]
    given = {key: search[key] for key in ("study", "dir", "storage") if search[key] not in usual}
    found = [override(f"search.{key}", shown(str(value))) for key, value in given.items()]
    study, _ = studies.load(search)
    try:
        check_study(study, compose([], root="sweep"), [])
    except UserError:
        found.append(override(FLAG, True))
    return shlex.join(found)


def _error(log: Path) -> str | None:
    """The line by which a worker said why it ends."""
    if not log.is_file():
        return None
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    said = [line for line in lines if line.startswith("spikefront: ")]
    return f"{said[-1].removeprefix('spikefront: ')} (log: {log})" if said else None
