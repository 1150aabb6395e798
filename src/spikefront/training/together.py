"""Training and evaluating on several devices: a process each, which srun or torchrun started, else this one does."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch.distributed as dist

from spikefront.cluster.jobs import requeue
from spikefront.errors import UserError
from spikefront.training.devices import count_devices, given, pin
from spikefront.training.preemption import Signals
from spikefront.training.setup import quiet
from spikefront.training.team import Team, Work, started_here

_team: Team | None = None  # one a process, as torch's process group
_give_up: Callable[[BaseException], None] | None = None  # of whoever keeps it from one training to the next


@contextlib.contextmanager
def together(trainer: Mapping[str, Any], work: Work) -> Iterator[None]:
    """Context in which all processes that a ``conf/trainer`` asks for do the same: this one the body, others ``work``.

    Of one process, or where every process runs the script itself (srun, torchrun), it is just the body.

    Raises:
        UserError: devices that aren't there, or another number of them than srun or torchrun started.
        Broken: a process was killed.
    """
    team = _led(trainer)
    if team is None:
        yield
        return
    try:
        with team.doing(work):
            yield
    finally:
        if _give_up is None:
            _end()


@contextlib.contextmanager
def leading(give_up: Callable[[BaseException], None]) -> Iterator[None]:
    """Context whose trainings share a team, which ends with it.

    Args:
        give_up: called, before this process ends, when it hangs because of the given error in another.
    """
    global _team, _give_up
    environment = None if started_here() else given()
    if environment is not None and environment.world_size() > 1:
        _team = Team.join(environment)
        _team.give_up = give_up
    _give_up = give_up
    try:
        yield
    finally:
        _give_up = None
        _end()


def served(signals: Signals) -> bool:
    """Do what the first of the processes says that srun or torchrun started as one worker; False: this is the first."""
    global _team
    environment = given()
    if environment is None or environment.global_rank() == 0:
        return False
    _team = Team.join(environment)
    _team.serve(signals)
    return True


def break_up() -> None:
    """After an error that others, started by srun, may not have had and wait for in vain: start all of them again."""
    if _team is not None and _team.broken and not _team.started:
        requeue(os.environ)
        sys.stdout.flush()
        os._exit(1)


def follow() -> None:
    """What a process that ``Team.start`` made does: serve, and end when the first has ended."""
    global _team

    def end_with_the_first() -> None:
        os.read(sys.stdin.fileno(), 1)  # sys.stdin.read would hold a lock that each loader's process waits for
        os._exit(1)

    threading.Thread(target=end_with_the_first, daemon=True).start()
    logging.disable(logging.WARNING)  # the first speaks
    warnings.simplefilter("ignore")
    quiet()
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    pin(rank, size)
    with Signals(signal.SIGINT) as signals:
        _team = Team.connect(rank, size)
        _team.serve(signals)
    if dist.is_initialized():
        dist.destroy_process_group()


def _led(trainer: Mapping[str, Any]) -> Team | None:
    """The team that this process leads, if ``trainer`` wants one."""
    global _team
    if _team is not None and _team.rank:
        return None
    size, nodes = count_devices(trainer), int(trainer.get("num_nodes") or 1)
    environment = None if started_here() else given()
    if environment is not None and environment.world_size() > 1:
        if (there := environment.world_size()) != size * nodes:
            raise UserError(
                f"srun or torchrun started {there} processes, trainer.devices={trainer.get('devices')} on"
                f" trainer.num_nodes={nodes} are {size * nodes}: make them agree"
            )
        return _team
    if nodes > 1:
        raise UserError(f"trainer.num_nodes={nodes} needs srun or torchrun: see slurm/train.sbatch")
    if _team is not None and (_team.size != size or not _team.lives()):
        _end()
    if size > 1 and _team is None:
        _team = Team.start(size)
        _team.give_up = _give_up or _team.give_up
    return _team


def _end() -> None:
    global _team
    if _team is not None:
        _team.broken = _team.broken or not _team.lives()
        _team.end()
        _team = None
