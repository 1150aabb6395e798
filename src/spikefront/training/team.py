"""The processes of one training (DDP): the first tells the others what to do, and they end with it.

Lightning sees an environment as torchrun's: one store, at one free port, serves its rendezvous and this.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import pickle
import secrets
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.plugins.environments import ClusterEnvironment
from torch.distributed import TCPStore

from spikefront.errors import UserError
from spikefront.training.devices import pin, threads_of

GRACE = 5.0  # seconds in which all processes end a work, when one did with an error
PATIENCE = 20.0  # seconds that one may wait in a collective operation for another that is gone
FOREVER = timedelta(days=365)
SECRET = "SPIKEFRONT_TEAM"  # environment: what its processes sign their words with
FOLLOW = """
from spikefront.start import importing
with importing():
    from spikefront.training.together import follow
follow()
"""
Work = Callable[[Any], Any]  # picklable; gets the process's Signals


class Broken(UserError):
    """A process of the team was killed: not the work's fault."""


class Team:
    """The processes of one training: ``rank`` 0 says what all do, the others ``serve``.

    ``give_up`` is called, before this process ends, when it hangs because of the given error in another one.

    Args:
        children: the other processes, if they were started here.
        before: the environment to restore in the end.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        store: TCPStore,
        children: Sequence[subprocess.Popen[bytes]] = (),
        before: Mapping[str, str] | None = None,
    ) -> None:
        self.rank, self.size, self.started, self.broken = rank, size, bool(children), False
        self.give_up: Callable[[BaseException], None] = lambda _: None
        self._store, self._children, self._before = store, list(children), before
        self._cores, self._threads = pin(None), torch.get_num_threads()
        self._count = 0

    @classmethod
    def start(cls, size: int) -> Team:
        """Start ``size - 1`` more processes on this machine, each with its share of this one's cores."""
        store = TCPStore("127.0.0.1", 0, None, True, FOREVER, wait_for_workers=False)
        common = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
            "WORLD_SIZE": str(size),
            "LOCAL_WORLD_SIZE": str(size),
            "GROUP_RANK": "0",
            "TORCHELASTIC_RUN_ID": "spikefront",
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "TORCH_CPP_LOG_LEVEL": "ERROR",  # a process that is gone is told in a line of ours
            SECRET: secrets.token_hex(),
            **threads_of(size),
        }
        before = dict(os.environ)
        children = [
            subprocess.Popen(
                [sys.executable, "-c", FOLLOW],
                stdin=subprocess.PIPE,  # which closes when this process ends, however it does
                env={**before, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                start_new_session=True,  # the terminal's Ctrl-C reaches the first alone, which tells the others
            )
            for rank in range(1, size)
        ]
        own = {k: v for k, v in common.items() if k != "PYTHONPATH"}
        os.environ.update(own, RANK="0", LOCAL_RANK="0")
        team = cls(0, size, store, children, before)
        torch.set_num_threads(int(common["OMP_NUM_THREADS"]))
        pin(0, size)
        return team

    @classmethod
    def connect(cls, rank: int, size: int) -> Team:
        """Be one of the processes that ``start`` started."""
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        return cls(rank, size, TCPStore(address, port, None, False, FOREVER))

    @classmethod
    def join(cls, environment: ClusterEnvironment) -> Team:
        """Be one of the processes that srun or torchrun started."""
        rank, size = environment.global_rank(), environment.world_size()
        address, port = environment.main_address, environment.main_port
        first = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        store = TCPStore(address, port, None, first, FOREVER, wait_for_workers=False)
        os.environ.update(MASTER_ADDR=address, MASTER_PORT=str(port), TORCHELASTIC_USE_AGENT_STORE="True")
        return cls(rank, size, store)

    @contextlib.contextmanager
    def doing(self, work: Work) -> Iterator[None]:
        """Have the others do ``work`` while this, the first, does the body.

        An error that not all had ends the team: another's error is raised in place of what it caused here.

        Raises:
            Broken: a process was killed.
        """
        number, over = self._count, threading.Event()
        self._count += 1
        self._say(f"work/{number}", work)
        threading.Thread(target=self._watch, args=(number, over), daemon=True).start()
        try:
            yield
        except BaseException as error:
            over.set()
            self._say(f"ended/{number}/0", None)
            if isinstance(error, Exception) and self._ended_alike(number):
                raise
            cause = self._loss(number)
            self.broken = True
            self.end()
            if cause is not None and isinstance(error, Exception):
                raise cause from error
            raise
        finally:
            over.set()

    def serve(self, signals: Any) -> None:
        """Do what the first says until it says no more; not the first."""
        for number in range(sys.maxsize):
            work = self._hear(f"work/{number}")
            if work is None:
                self._say(f"gone/{self.rank}", None)
                return
            try:
                work(signals)
            except BaseException as error:
                error.add_note(f"in process {self.rank + 1} of {self.size}: {traceback.format_exc()}")
                self._say(f"ended/{number}/{self.rank}", None)
                if not self._all_ended(number):
                    self._say(f"lost/{number}/{self.rank}", _picklable(error))
                    if not started_here():
                        time.sleep(2 * PATIENCE)  # srun would end the first process too, before it has told anybody
                    os._exit(1)
                if started_here():
                    signals.received = None  # all have ended for it
            else:
                self._say(f"ended/{number}/{self.rank}", None)

    def end(self) -> None:
        """Let the others go, or end them if the team is broken; what srun started only notes that it is."""
        if not self.started:
            if not self.broken:
                self._say(f"work/{self._count}", None)
                with contextlib.suppress(Exception):  # they heard it before the first takes the store with it
                    self._store.wait([f"gone/{r}" for r in range(1, self.size)], timedelta(seconds=GRACE))
            return
        if self.broken:
            for child in self._children:
                child.kill()
        else:
            self._say(f"work/{self._count}", None)
        if dist.is_initialized():
            dist.destroy_process_group()
        for child in self._children:
            assert child.stdin is not None
            child.stdin.close()
            try:
                child.wait(GRACE)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        if self._before is not None:
            os.environ.clear()
            os.environ.update(self._before)
        torch.set_num_threads(self._threads)
        pin(self._cores)
        self._children = []

    def lives(self) -> bool:
        return not self.broken and all(child.poll() is None for child in self._children)

    def _watch(self, number: int, over: threading.Event) -> None:
        """End this process if it still waits for another one that is gone: some backends wait for ever."""
        while not over.wait(1.0):
            if (cause := self._loss(number)) is None:
                continue
            if over.wait(PATIENCE if self.started else 0.0):
                return
            self.broken = True
            print(f"spikefront: {cause}", file=sys.stderr, flush=True)
            self.give_up(cause)
            os._exit(1)

    def _loss(self, number: int) -> BaseException | None:
        """Why one of the others will not go on, if that is so."""
        for rank in range(1, self.size):
            if self._store.check([f"lost/{number}/{rank}"]):
                return self._hear(f"lost/{number}/{rank}")
        for rank, child in enumerate(self._children, 1):
            if (code := child.poll()) is not None:
                how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with code {code}"
                return Broken(f"process {rank + 1} of {self.size} of this training {how}; the others were ended too")
        return None

    def _all_ended(self, number: int) -> bool:
        try:
            self._store.wait([f"ended/{number}/{r}" for r in range(self.size)], timedelta(seconds=GRACE))
        except Exception:  # DistStoreError: not within that time; or the first is gone
            return False
        return True

    def _ended_alike(self, number: int) -> bool:
        deadline, keys = time.monotonic() + GRACE, [f"ended/{number}/{r}" for r in range(self.size)]
        while time.monotonic() < deadline and self._loss(number) is None:
            if self._store.check(keys):
                return True
            time.sleep(0.1)
        return False

    def _say(self, key: str, words: Any) -> None:
        said = pickle.dumps(words)
        self._store.set(key, _signature(said) + said)  # type: ignore[arg-type]

    def _hear(self, key: str) -> Any:
        heard = self._store.get(key)
        if not hmac.compare_digest(heard[:32], _signature(heard[32:])):
            raise UserError("a process that is none of this training speaks at its port")
        return pickle.loads(heard[32:])


def started_here() -> bool:
    """Whether the processes of this training are our own, not srun's or torchrun's, which each run the script."""
    return SECRET in os.environ


def _signature(words: bytes) -> bytes:
    return hmac.digest(os.environ.get(SECRET, "").encode(), words, hashlib.sha256)


def _picklable(error: BaseException) -> BaseException:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
