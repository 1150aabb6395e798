"""How Hydra finds the sweep engine (``hydra/sweeper=spikefront``) and local processes (``hydra/launcher=local``)."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class SpikefrontSweeper(Sweeper):
    """Makes or continues the study, then has the launcher start workers on it."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self._loader = config, hydra_context.config_loader
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        from spikefront.commands.sweep import sweep
        from spikefront.config import places
        from spikefront.sweeping.worker import template

        def launch(workers: list[list[str]]) -> None:
            if type(self._launcher).__name__ == "BasicLauncher":
                workers = workers[:1]  # it runs one after the other
            for job in self._launcher.launch(workers, initial_job_idx=0):
                _ = job.return_value  # raises what the job raised

        if not isinstance(self._launcher, LocalProcesses):
            template.spare()
        assert self.config is not None
        submitit = "submitit" in str(type(self._launcher).__mro__) and "Local" not in type(self._launcher).__name__
        elsewhere = submitit or getattr(self._launcher, "elsewhere", False)
        own = places(self.config.hydra)

        def options(group: str) -> list[str]:
            return self._loader.get_group_options(group, overrides=own)

        prepare = getattr(self._launcher, "prepare", lambda: None)
        sweep(self.config, [*own, *arguments], options, launch, elsewhere, prepare)


class LocalProcesses(Launcher):
    """Runs each job as a process of this machine; a killed one is started again."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._config = config
        self._template: Any = None

    def prepare(self) -> None:
        """Begin what jobs are forked from: its imports go on while a study is made."""
        from spikefront.sweeping.worker import template

        self._template = template.begun()

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from spikefront.console import shown
        from spikefront.errors import UserError
        from spikefront.start import again
        from spikefront.sweeping.study.storage import directory
        from spikefront.sweeping.worker.processes import Processes, gpus_of

        search = self._config.get("search")
        if search is None:
            raise UserError(
                "hydra/launcher=local starts the workers of a sweep: leave it out and the jobs run one after the"
                " other, or take hydra/launcher=slurm"
            )
        commands = [[*again(), *overrides] for overrides in job_overrides]
        if self._config.get("dry_run"):
            print("\n".join(shlex.join(map(shown, command)) for command in commands))
            return []
        Processes(commands, directory(search) / "workers", gpus_of(self._config.trainer), self._template).run()
        return []


for group, plugin in (("sweeper", SpikefrontSweeper), ("launcher", LocalProcesses)):
    ConfigStore.instance().store(
        group=f"hydra/{group}",
        name="spikefront" if group == "sweeper" else "local",
        node={"_target_": f"{__name__}.{plugin.__name__}"},
        provider="spikefront",
    )
