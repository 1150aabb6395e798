"""Workers, or the runs of ``train.py -m``, on a Ray cluster (``hydra/launcher=ray``)."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

if TYPE_CHECKING:
    from spikefront.cluster.actors import Command, Crew

POLL = 2.0  # seconds between looks
STOPPING = 120.0  # seconds that interrupted workers have for their checkpoints


class RayWorkers(Launcher):
    """Runs each list of overrides as a process on some node of a Ray cluster.

    A sweep's workers stay when this command goes, and come back elsewhere when their node is lost: the same command
    again watches those that are there, adds what is missing of ``search.workers``, and puts others in the place of
    those that were asked for with other resources. Ctrl-C has them write their checkpoints and end. A run of
    ``train.py -m`` ends with its command.

    Args:
        address: of the cluster; None for ``RAY_ADDRESS``, or the one that this machine is a node of.
        num_cpus: what each process asks for; on Ray these are counted, not measured out.
        num_gpus: the same; fractions share a GPU, several are on one node.
        resources: further ones by the names that nodes were started with.
        env: names of variables that the processes have as this one has them.
        wait: stay until all is done.
    """

    elsewhere = True  # other machines: for the sweeper

    def __init__(
        self,
        address: str | None,
        num_cpus: float,
        num_gpus: float,
        resources: dict[str, float],
        env: Sequence[str],
        wait: bool,
    ) -> None:
        self._address, self._env, self._wait = address, env, wait
        self._resources = {"CPU": num_cpus, "GPU": num_gpus, **resources}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from spikefront.cluster.actors import require

        self._config, self._loader = config, hydra_context.config_loader
        if not config.get("dry_run"):
            require()

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from spikefront.cluster.actors import connect
        from spikefront.console import shown
        from spikefront.sweeping.study.storage import directory

        search = self._config.get("search")
        self._refuse_nodes(job_overrides)
        if search is None:
            place = Path(self._config.hydra.sweep.dir).absolute()
            commands = [self._run(overrides, i) for i, overrides in enumerate(job_overrides, initial_job_idx)]
        else:
            place = directory(search)
            commands = [self._worker(overrides, place) for overrides in job_overrides]
        if self._config.get("dry_run"):
            for command in commands:
                print(shlex.join(map(shown, [*command.program, *command.arguments])))
            return []
        connect(self._address, group := f"spikefront:{place}")
        return self._runs(commands) if search is None else self._sweep(commands, group, place)

    def _refuse_nodes(self, job_overrides: Sequence[Sequence[str]]) -> None:
        from spikefront.errors import UserError

        given = {o.rpartition("=")[2] for overrides in job_overrides for o in overrides if "trainer.num_nodes=" in o}
        for nodes in given or {str(self._config.trainer.get("num_nodes", 1))}:
            if nodes != "1":
                raise UserError(
                    f"hydra/launcher=ray trains each trial on one node, and trainer.num_nodes is {nodes}: take"
                    " trainer.num_nodes=1 with hydra.launcher.num_gpus=… of one node, or hydra/launcher=slurm_nodes"
                )

    def _worker(self, overrides: Sequence[str], place: Path) -> Command:
        from spikefront.sweeping.worker.template import PARENT

        return self._command("sweep", overrides, place / "workers" / "ray.log", PARENT)

    def _run(self, overrides: Sequence[str], number: int) -> Command:
        """A run by itself in the directory that it has among those of the multirun; a second start of it goes on."""
        from spikefront.config import override

        composed = self._loader.load_sweep_config(self._config, list(overrides))
        with open_dict(composed):
            composed.hydra.job.num = number
        place = Path(composed.hydra.sweep.dir).absolute() / str(composed.hydra.sweep.subdir)
        own = [override("hydra.run.dir", str(place))]
        if not any(o.startswith("resume=") for o in overrides):
            own.append("resume=auto")
        return self._command("train", [*overrides, *own], place / "ray.log")

    def _command(self, verb: str, overrides: Sequence[str], log: Path, parent: str | None = None) -> Command:
        from spikefront.cluster.actors import Command
        from spikefront.start import again

        program = [str(Path(part).absolute()) if Path(part).is_file() else part for part in again()]
        environment = {name: os.environ[name] for name in self._env if name in os.environ}
        return Command(program, verb, list(overrides), os.getcwd(), str(log), environment, parent)

    def _runs(self, commands: Sequence[Command]) -> list[JobReturn]:
        """Each as a task; what came of it."""
        import ray

        from spikefront.cluster.actors import options, run, spelled
        from spikefront.errors import UserError

        task = ray.remote(run).options(max_retries=-1, **options(self._resources))
        tasks = [task.remote(command) for command in commands]
        print(f"Ray: {len(tasks)} run{'s' if len(tasks) > 1 else ''}, each {spelled(self._resources)}", flush=True)
        found = []
        for command, reference in zip(commands, tasks, strict=True):
            code, said = ray.get(reference)
            result = JobReturn(overrides=command.arguments)
            result.status = JobStatus.COMPLETED if code == 0 else JobStatus.FAILED
            result.return_value = None if code == 0 else UserError(said)
            found.append(result)
        return found

    def _sweep(self, commands: Sequence[Command], group: str, place: Path) -> list[JobReturn]:
        from spikefront.cluster.actors import Crew

        crew = Crew(group, self._resources)
        if others := crew.others():
            crew.stop(others)
        there = [name for name in crew.names() if name not in others]
        for command in commands[: max(0, len(commands) - len(there))]:
            crew.add(command)
        self._announce(crew, len(commands), len(there), len(others), place)
        if self._wait:
            self._watch(crew, place)
        return []

    def _announce(self, crew: Crew, workers: int, there: int, others: int, place: Path) -> None:
        from spikefront.config import override
        from spikefront.start import spelled

        line = f"Ray: {workers} worker{'s' if workers > 1 else ''}, each {crew.asks}"
        line += f", {there} of them from before" if there else ""
        line += f", in the place of {others} that asked for something else" if others else ""
        print(line)
        print(f"logs:  {place}/workers/ray_*.log")
        print(f"watch: {spelled('study')} {shlex.quote(override('study', self._config.search.study))}; ray status")
        print("stop:  Ctrl-C, here or in the same command later, which also goes on with the study", flush=True)

    def _watch(self, crew: Crew, place: Path) -> None:
        """Wait until the study is whole or no worker is left; then say what ended them.

        Raises:
            KeyboardInterrupt: interrupted, and the workers have ended.
            UserError: they have ended before the study.
        """
        from spikefront.errors import UserError
        from spikefront.sweeping.study import study as studies
        from spikefront.sweeping.study.accounts import account
        from spikefront.sweeping.study.attributes import BEGAN
        from spikefront.sweeping.worker.budgets import Limits

        study, _ = studies.load(self._config.search)
        began, waiting = time.monotonic(), True
        try:
            while names := crew.names():
                if account(study).whole:
                    crew.stop(names)  # what waits for a node would find nothing to do
                elif waiting and time.monotonic() - began > 5 * POLL:
                    waiting = False
                    if not crew.placed(names):
                        print(f"no worker runs yet: they wait for a node with {crew.asks} (`ray status`)", flush=True)
                time.sleep(POLL)
        except KeyboardInterrupt:
            print("\nstopping: running trials write their checkpoints", file=sys.stderr, flush=True)
            self._stop(crew)
            raise
        limits = Limits(self._config.search, BEGAN.get(study))
        if not account(study).whole and not limits.reached(study):
            raise UserError(_last_words(place / "workers"))

    def _stop(self, crew: Crew) -> None:
        crew.stop(crew.names())
        end = time.monotonic() + STOPPING
        while crew.names() and time.monotonic() < end:
            time.sleep(POLL / 4)


def _last_words(logs: Path) -> str:
    """What the worker that wrote last said at its end."""
    from spikefront.console import last_words

    found = sorted(logs.glob("ray_*.log"), key=lambda log: log.stat().st_mtime)
    return last_words(found[-1]) if found else f"all workers have ended; they left no logs in {logs}"
