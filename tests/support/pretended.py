"""Sweeps whose training is a stand-in: forked workers on a real study."""

from __future__ import annotations

import contextlib
import copy
import multiprocessing
import os
import random
import signal
import sqlite3
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from spikefront.commands.sweep import sweep
from spikefront.config import ROOT, compose, override
from spikefront.sweeping.worker.callback import TrialCallback
from spikefront.sweeping.worker.worker import Worker
from spikefront.training import Evaluation, Result
from spikefront.training.preemption import LAST

SPACE = ("model.timesteps=choice(1,2,4)", "neuron.threshold=interval(0.5,2)")
FORK = multiprocessing.get_context("forkserver")  # forks a process that has imported torch and runs no threads
FORK.set_forkserver_preload(["prepared"])
os.environ["PYTHONPATH"] = str(ROOT / "src")  # for the preloading, which looks nowhere else


OPTIONS = {"neuron": ["if", "lif", "plif"]}
PROGRESS = SimpleNamespace(is_last_batch=False, current=SimpleNamespace(ready=1))
TRAINER = SimpleNamespace(
    world_size=1,
    accumulate_grad_batches=1,
    logger=None,
    fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=PROGRESS)),
    save_checkpoint=lambda path: None,
)


def pretend(cfg, callbacks=(), seconds=0.05, steps=4):
    """Trains nothing: takes some time, leaves checkpoints and tells of each epoch as training does, continues from one,
    follows a formula."""
    output = Path(cfg.output_dir)
    checkpoint = output / LAST
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    done = int(checkpoint.read_text()) if cfg.resume else 0
    t, threshold = cfg.model.timesteps, cfg.neuron.threshold
    accuracy, energy = 1 - 0.3 / t - 0.1 * (threshold - 1) ** 2, 1e-6 * t / threshold
    for step in range(done + 1, steps + 1):
        time.sleep(seconds / steps)
        with (output / "steps").open("a") as file:  # first: killed between the two, a step is done again
            file.write(f"{step} {os.getpid()}\n")
        whole = checkpoint.with_suffix(f".{os.getpid()}")
        whole.write_text(str(step))
        whole.replace(checkpoint)
        for callback in callbacks:
            callback.on_train_batch_end(TRAINER, None, None, None, step)
        told = {"accuracy": accuracy * step / steps, "energy_joules": energy, "firing_rate": 0.1, "anytime": []}
        report(callbacks, step, told)
    anytime = [{"t": i, "accuracy": accuracy * i / t, "energy_joules": energy * i / t} for i in range(1, t + 1)]
    validation = Evaluation(accuracy, energy, 0.1, 360, anytime)
    return Result(accuracy, energy, 0.1, 1000, seconds, anytime, "none", "test", 10, validation, steps)


def report(callbacks, epoch, point):
    """Tell the sweep of an epoch, as its callback does after each validation."""
    for callback in callbacks:
        if isinstance(callback, TrialCallback):
            callback._report(callback, epoch, point)


class Sweep:
    """One search in a directory: ``run`` it with forked workers."""

    def __init__(self, directory, *overrides, space=SPACE, train=pretend):
        self.space = space
        self.overrides = [override("search.dir", str(directory)), "search.study=s", "logger=none", *overrides]
        self.train = train
        self.kills = 0

    def changed(self, *overrides, space=None):
        """The same search with other settings, or another space."""
        other = copy.copy(self)
        other.overrides, other.space = [*self.overrides, *overrides], self.space if space is None else space
        return other

    def cfg(self, *more):
        return compose([*self.overrides, *more], root="sweep", with_hydra=True)

    def run(self, kills=0, seed=0):
        """Run to the end; the first ``kills`` processes die by SIGKILL at a random moment of their work."""
        draw = random.Random(seed)

        def launch(workers):
            lives = [draw.uniform(0.0, 0.8) for _ in range(kills)]
            processes = [self.start(w, lives.pop() if lives else None) for w in workers]
            deadline = time.monotonic() + 200
            while any(p.exitcode is None for p in processes) and time.monotonic() < deadline:
                time.sleep(0.02)
                for i, process in enumerate(processes):
                    if process.exitcode == -signal.SIGKILL:
                        self.kills += 1
                        processes[i] = self.start(workers[i], lives.pop() if lives else None)
            for process in processes:
                process.kill()
            codes = [p.exitcode for p in processes]
            assert codes == [0] * len(codes), codes

        sweep(self.cfg(), [*self.overrides, *self.space], lambda group: OPTIONS.get(group, []), launch)

    def run_here(self):
        """Run with one worker, in this process."""

        def launch(workers):
            Worker(compose(workers[0], root="sweep"), workers[0], train=self.train).run()

        sweep(self.cfg(), [*self.overrides, *self.space], lambda group: OPTIONS.get(group, []), launch)

    def start(self, overrides, life=None):
        process = FORK.Process(target=self._work, args=(overrides, life))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", os.pathsep.join([os.environ["PYTHONPATH"], str(Path(__file__).parent)]))
            process.start()
        return process

    def _work(self, overrides, life):
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        worker = Worker(compose(overrides, root="sweep"), overrides, train=self.train)
        if life is not None:
            threading.Timer(life, os.kill, (os.getpid(), signal.SIGKILL)).start()
        worker.run()

    def study(self):
        from spikefront.sweeping.study.study import load

        return load(self.cfg().search)[0]


@contextlib.contextmanager
def lock(database):
    """Another program that holds an SQLite database."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("begin exclusive")
    try:
        yield
    finally:
        connection.execute("rollback")
        connection.close()
