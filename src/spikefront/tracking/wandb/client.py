"""The Weights & Biases client as this project uses it: never in the way of a run.

Everything is handed to a thread, so a server that refuses, stalls or drops delays no training. What can't be sent stays
in the run's directory for ``wandb sync``; what went wrong is said once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import re
import shlex
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args

import psutil
import requests
import wandb
from requests.utils import get_netrc_auth

from spikefront.console import shown
from spikefront.errors import UserError
from spikefront.tracking.wandb.parts import join

PREFIX = "wandb:"  # of an address there
Mode = Literal["online", "offline", "disabled"]
PATIENCE = 20  # seconds for the server: to begin a run, and to take what is left at its end
ROOM = 1 << 16  # bytes on the disk without which the client drops what it is given, and says nothing


T = TypeVar("T")


def ask(address: str, question: Callable[[], T]) -> T:
    """W&B's answer. Raises UserError: it knows nothing of ``address``, or can't be reached."""
    try:
        return question()
    except (wandb.Error, ValueError, OSError, TypeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{address} can't be read from W&B: {reason[:300]}") from error


def has_account() -> bool:
    """Whether a W&B key is configured here (environment or netrc); asks neither the network nor the person."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    return get_netrc_auth(server()) is not None


def server() -> str:
    """The address of W&B's server: ``WANDB_BASE_URL``, W&B's settings files, or its public one."""
    return os.environ.get("WANDB_BASE_URL") or wandb.setup().settings.base_url


def mode_of(asked: str) -> Mode:
    """What ``logger.mode`` means here: ``auto`` is what ``WANDB_MODE`` says, by default online with an account.

    Raises:
        UserError: another mode.
    """
    mode = asked if asked != "auto" else os.environ.get("WANDB_MODE") or ("online" if has_account() else "offline")
    known = {**{mode: mode for mode in get_args(Mode)}, "dryrun": "offline", "run": "online", "shared": "online"}
    if mode not in known:
        where = f"logger.mode is {asked!r}" if mode == asked else f"WANDB_MODE is {mode!r}"
        raise UserError(f"{where}: use {', '.join(get_args(Mode)[:-1])} or {get_args(Mode)[-1]}, or logger.mode=auto")
    return cast(Mode, known[mode])


def check_names(project: str, tags: Sequence[str]) -> None:
    """Refuse what W&B would, by its own rules: later it costs the run its log.

    Raises:
        UserError: the setting, and W&B's reason.
    """
    tries = {"project": lambda: wandb.Settings(project=project), "tags": lambda: wandb.Settings(run_tags=tuple(tags))}
    for key, settings in tries.items():
        try:
            settings()
        except (wandb.errors.UsageError, ValueError) as error:
            reason = error.errors()[0]["msg"] if hasattr(error, "errors") else str(error)  # of pydantic's, the message
            raise UserError(f"logger.{key}: {reason.removeprefix('Value error, ')}") from error


def reach(server: str, patience: float) -> None:
    """Raise unless the server answers at all: the client itself goes on trying without a word."""
    answer = requests.post(f"{server}/graphql", json={"query": "{__typename}"}, timeout=patience)
    if answer.status_code >= 500 or answer.status_code == 429:
        raise ConnectionError(f"{server} answers {answer.status_code}")


def safe_id(text: str) -> str:
    """``text`` as W&B takes it for an id or an artifact's name; with a hash where much of it is lost."""
    short = re.sub(r"[^\w.-]", "_", text, flags=re.ASCII)[:100]
    return short if text.isascii() and len(text) <= 100 else f"{short}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


class Client:
    """One W&B run behind a thread: calls return at once, are done in order, and fail into one line on stderr.

    Args:
        init: arguments of ``wandb.init``.
        online: if the server doesn't let the run begin within ``patience`` seconds, it is written offline.
    """

    def __init__(self, init: Mapping[str, Any], online: bool, patience: float = PATIENCE) -> None:
        self.run: Any = None
        self.online, self._patience = online, patience
        self._init = {"resume": "allow", **{k: v for k, v in init.items() if v is not None}}
        self._calls: queue.SimpleQueue[tuple[Callable[[Any], Any], bool] | None] = queue.SimpleQueue()
        self._told: list[Callable[[Any], Any]] = []
        self._process: psutil.Process | None = None  # W&B's own, where this one started it
        self._later: list[Callable[[Any], Any]] = []
        self._said = False
        self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)
        self._thread.start()

    def do(self, call: Callable[..., Any], *arguments: Any, in_each_part: bool = False) -> None:
        """Have ``call(run, *arguments)`` done when its turn comes.

        Args:
            in_each_part: it says what the run is; also told to a part that takes over where W&B's own process is gone.
        """
        self._calls.put((lambda run: call(run, *arguments), in_each_part))

    def try_or_later(self, call: Callable[[Any], Any]) -> None:
        """Have ``call(run)`` done in its turn, or if that fails once the run has ended, offline."""

        def attempt(run: Any) -> None:
            try:
                call(run)
            except Exception:
                self._later.append(call)
                raise

        self.do(attempt)

    def close(self, exit_code: int = 0, preempted: bool = False) -> None:
        """End the run, and wait for what is left to be sent, but not for ever."""
        if preempted:
            self.do(lambda run: run.mark_preempting())
        self.do(lambda run: run.finish(exit_code=exit_code))
        self._calls.put(None)
        self._thread.join(3 * self._patience)
        if self._thread.is_alive():
            self._say("the server does not answer", self._kept())

    def _work(self) -> None:
        try:
            self.run = self._begin()
        except Exception as error:
            self._say(_reason(error), "nothing is logged there")
        while (item := self._calls.get()) is not None:
            if self.run is None:
                continue
            call, in_each_part = item
            try:
                try:
                    if _ended(self._process):  # as when SLURM signals all of a job; a call may not notice
                        raise ConnectionError
                    call(self.run)
                except ConnectionError:
                    self._take_over()
                    call(self.run)
                if in_each_part:
                    self._told.append(call)
                if shutil.disk_usage(self.run.dir).free < ROOM:
                    raise OSError(f"no space left on the disk of {self.run.dir}, what comes now is lost")
            except Exception as error:
                self._say(_reason(error), self._kept())
                if isinstance(error, ConnectionError):  # the other part's too
                    with contextlib.suppress(Exception):
                        wandb.teardown()  # so that the exit is quiet
        if self._later:  # the client asks the server before it takes an artifact, but not offline
            with contextlib.suppress(Exception), continued(self.run) as self.run:
                for call in self._later:
                    call(self.run)
        if self.run is not None:
            with contextlib.suppress(Exception):  # they stay apart
                join(Path(self.run.dir).parent, self._patience)

    def _begin(self) -> Any:
        if not self.online:
            return self._start("offline")
        try:
            reach(server(), self._patience)
            return self._start("online")
        except Exception as error:
            self.online = False
            wandb.teardown()  # lets go of the run's id
            run = self._start("offline")
            self._say(_reason(error), _kept(run))
            return run

    def _take_over(self) -> None:
        """Go on in another part of the run, offline, with another process of W&B's."""
        before = self.run
        with contextlib.suppress(Exception):
            wandb.teardown()
        self.online, self.run = False, self._start("offline")
        lost = "its own process ended, and what that had not written by then is lost"
        first = "" if before.offline else f"wandb sync {_part(before)}; "  # an offline one is joined to this at its end
        self._say(lost, f"in another part: {first}wandb sync {_part(self.run)}")
        for call in self._told:
            call(self.run)

    def _start(self, mode: str) -> Any:
        os.environ.setdefault("WANDB_SILENT", "true")  # what the settings below don't reach
        settings = wandb.Settings(
            silent=True,
            console="off",
            init_timeout=self._patience,
            finish_timeout=self._patience,
            finish_timeout_raises=True,
            x_file_stream_retry_max=3,
            x_file_transfer_retry_max=3,
        )
        with _without_passwords():
            run = wandb.init(mode=mode, settings=settings, reinit="create_new", **self._init)  # type: ignore[arg-type]
        own = (p for p in psutil.Process().children() if p.name().startswith("wandb") and not _ended(p))
        self._process = next(own, None)
        return run

    def _kept(self) -> str:
        return "nothing is logged there" if self.run is None else _kept(self.run)

    def _say(self, reason: str, then: str) -> None:
        if not self._said:
            self._said = True
            print(f"spikefront: W&B: {reason}; the run goes on, {then}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _without_passwords() -> Iterator[None]:
    """Context in which the command line is without those of the storages in it: W&B keeps it beside a run."""
    typed = sys.argv
    sys.argv = [shown(argument) for argument in typed]
    try:
        yield
    finally:
        sys.argv = typed


def _ended(process: psutil.Process | None) -> bool:
    try:
        return process is not None and process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _part(run: Any) -> str:
    """The directory that ``wandb sync`` takes."""
    return shlex.quote(str(Path(run.dir).parent))


def _kept(run: Any) -> str:
    return f"its data is kept: wandb sync {_part(run)}"


def continued(run: Any) -> Any:
    """The run once more, offline, after its end."""
    where = {"id": run.id, "project": run.project, "entity": run.entity or None, "dir": Path(run.dir).parents[2]}
    settings = wandb.Settings(silent=True, console="off")
    with _without_passwords():
        return wandb.init(mode="offline", resume="allow", reinit="create_new", settings=settings, **where)


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) < 200 else f"{text[:199]}…"
