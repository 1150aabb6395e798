"""Entry scripts, run in this process."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra


def run_script(patch: pytest.MonkeyPatch, script: str, *arguments: str) -> int:
    """The exit code of ``python <script> <arguments>``; what is started below takes the script's path from here."""
    patch.setattr(sys, "argv", [script, *arguments])
    GlobalHydra.instance().clear()
    try:
        importlib.import_module(f"spikefront.commands.{Path(script).stem}").main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    return 0


def keep_workers_here(patch: pytest.MonkeyPatch) -> None:
    """From here on a sweep's workers run in this process, one after the other, given what processes would be."""
    from spikefront.config import compose
    from spikefront.start import again
    from spikefront.sweeping.worker import processes, template
    from spikefront.sweeping.worker.worker import Worker

    class Here:
        def __init__(self, commands: list[list[str]], *_: object) -> None:
            self.commands = commands

        def run(self) -> None:
            for command in self.commands:
                own = command[len(again()) :]
                Worker(compose(own, root="sweep"), own).run()

    patch.setattr(processes, "Processes", Here)
    patch.setattr(template, "POSSIBLE", False)


def quick(directory: Path) -> list[str]:
    """Overrides that train a very small network for a moment, into ``directory``/run."""
    return [
        "model=sdt_1_16",
        "data=digits",
        "trainer=cpu",
        "hydra.output_subdir=null",
        "trainer.max_epochs=2",
        "trainer.limit_train_batches=4",
        "trainer.limit_val_batches=1",
        "trainer.limit_test_batches=1",
        "neuron.threshold=0.1",  # fires before BN's running statistics have settled
        "logger=none",
        f"hydra.run.dir={directory}/run",
    ]
