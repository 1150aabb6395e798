"""Commands on a Ray cluster: a sweep's workers as actors that outlive who asked for them, a run as a task."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from spikefront.cluster.ray_internals import hush
from spikefront.cluster.restarts import Restarts
from spikefront.console import last_words
from spikefront.errors import UserError
from spikefront.start import RAY_NODE

ANSWER = 10.0  # seconds in which a cluster answers, and an actor that has its node


@dataclass(frozen=True)
class Command:
    """A command to be run on some node.

    Args:
        program: as it began here; on a node that lacks it, ``spikefront`` of the environment that Ray runs in.
        verb: which of the commands it is.
        directory: where it runs, on nodes that have that place.
        log: gets what it says.
        environment: more variables for it.
        parent: the variable that tells a process with whose end it shall end.
    """

    program: list[str]
    verb: str
    arguments: list[str]
    directory: str
    log: str
    environment: dict[str, str] = field(default_factory=dict)
    parent: str | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """Its process on this node."""
        import ray

        context = ray.get_runtime_context()
        program = self.program
        if not all(Path(part).exists() for part in program if os.path.isabs(part)):
            program = [sys.executable, "-m", "spikefront", self.verb]
        own = {RAY_NODE: context.get_node_id(), "RAY_ADDRESS": context.gcs_address, **self.environment}
        if self.parent:
            own[self.parent] = str(os.getpid())
        Path(self.log).parent.mkdir(parents=True, exist_ok=True)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # Ray's own block it, and theirs would
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                [*program, *self.arguments],
                cwd=self.directory if Path(self.directory).is_dir() else None,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **own},
                start_new_session=True,
            )


class Seat:
    """One process of a command, kept at work until it ends by itself; a killed one is started again."""

    def __init__(self, command: Command) -> None:
        self._command, self._stopping = command, False
        self._process: subprocess.Popen[bytes] | None = None

    def sit(self) -> int:
        """Its exit code in the end."""
        restarts = Restarts()
        while True:
            began = time.monotonic()
            self._process = self._command.start()
            code = self._process.wait()
            if code >= 0 or self._stopping or (pause := restarts.pause(time.monotonic() - began)) is None:
                return code
            time.sleep(pause)

    def stop(self) -> None:
        """Interrupt the process, which then writes its checkpoint and gives its trial back."""
        self._stopping = True
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)


class Worker(Seat):
    """A seat as an actor: begun with it, so that Ray begins it again where it starts a lost node's actor anew."""

    def __init__(self, command: Command) -> None:
        import ray

        super().__init__(command)
        ray.get_runtime_context().current_actor.run.remote()

    def run(self) -> None:
        """Sit, and be gone then."""
        import ray

        self.sit()
        ray.actor.exit_actor()

    def node(self) -> str:
        """Where it is, once it is anywhere."""
        import ray

        return str(ray.get_runtime_context().get_node_id())


def run(command: Command) -> tuple[int, str]:
    """A command as a task: its exit code, and its last line if that isn't 0."""
    code = Seat(command).sit()
    return code, "" if code == 0 else last_words(Path(command.log))


def connect(address: str | None, group: str) -> None:
    """Join a Ray cluster as one who asks for work.

    Args:
        address: None for ``RAY_ADDRESS``, or the cluster that this machine is a node of.
        group: the namespace of what is asked for.

    Raises:
        UserError: Ray isn't installed, or there is no cluster.
    """
    require()
    import ray

    address = address or os.environ.get("RAY_ADDRESS")
    try:
        if place := re.fullmatch(r"([^/]+):(\d+)", address or ""):  # as Ray itself tries for many minutes
            socket.create_connection((place[1].strip("[]"), int(place[2])), timeout=ANSWER).close()
        ray.init(
            address=address or "auto",
            namespace=group,
            log_to_driver=False,
            logging_level=logging.ERROR,
            ignore_reinit_error=True,
        )
    except (OSError, RuntimeError, ValueError) as error:
        where = f"at {address}" if address else "on this machine"
        why = " ".join(str(error).split())
        cure = "`ray start --head` begins one, hydra.launcher.address=… names another"
        raise UserError(f"no Ray cluster answers {where}: {cure} ({why})") from error
    hush()


class Crew:
    """The workers of one study on the Ray cluster that this process is connected to, whoever asked for them.

    Args:
        group: the study's namespace.
        resources: what each worker asks for, by Ray's names: ``{"CPU": 8, "GPU": 0.5, "fast": 1}``.
    """

    def __init__(self, group: str, resources: Mapping[str, float]) -> None:
        self.group = group
        self.asks = spelled(resources)
        self._options = options(resources)

    def names(self) -> list[str]:
        """Of the workers that are at work, wait for a node or are on their way to another."""
        import ray

        listed = ray.util.list_named_actors(all_namespaces=True)
        return sorted(one["name"] for one in listed if one["namespace"] == self.group)

    def add(self, command: Command) -> str:
        """One more worker; its name says what it asks for. Its log is another's neighbour."""
        import ray

        number = uuid.uuid4().hex[:8]
        name, log = f"{self.asks} #{number}", Path(command.log)
        actor = ray.remote(Worker).options(
            name=name,
            namespace=self.group,
            lifetime="detached",
            max_restarts=-1,
            max_concurrency=4,  # it answers while its process is at work
            **self._options,
        )
        actor.remote(replace(command, log=str(log.with_name(f"{log.stem}_{number}{log.suffix}"))))
        return name

    def others(self) -> list[str]:
        """Those that ask for something else than is asked for now."""
        return [name for name in self.names() if name.rpartition(" #")[0] != self.asks]

    def placed(self, names: Sequence[str], patience: float = ANSWER) -> list[str]:
        """Those that have a node."""
        return self._ask("node", names, patience)

    def stop(self, names: Sequence[str]) -> None:
        """Have workers write their checkpoints and end; one that has no node yet is not begun at all."""
        import ray

        stopped = self._ask("stop", names, ANSWER)
        for name in set(names) - set(stopped):
            if (actor := self._actor(name)) is not None:
                ray.kill(actor)

    def _ask(self, question: str, names: Sequence[str], patience: float) -> list[str]:
        import ray

        actors = {name: actor for name in names if (actor := self._actor(name)) is not None}
        asked = {getattr(actor, question).remote(): name for name, actor in actors.items()}
        answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=patience) if asked else ([], [])
        return [asked[reference] for reference in answered]

    def _actor(self, name: str) -> Any:
        import ray

        try:
            return ray.get_actor(name, namespace=self.group)
        except ValueError:  # it has ended meanwhile
            return None


def require() -> None:
    """Raise UserError where Ray isn't installed."""
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise UserError(
            "hydra/launcher=ray needs Ray, which is not installed: pip install 'spikefront[ray]'"
        ) from error


def spelled(resources: Mapping[str, float]) -> str:
    """Resources as they are printed and told apart: ``CPU=8 GPU=0.5``."""
    return " ".join(f"{name}={amount:g}" for name, amount in resources.items() if amount)


def options(resources: Mapping[str, float]) -> dict[str, Any]:
    """Resources as Ray's options have them."""
    own = {"CPU", "GPU"}
    more = {name: amount for name, amount in resources.items() if name not in own and amount}
    return {"num_cpus": resources.get("CPU", 0), "num_gpus": resources.get("GPU", 0), "resources": more}
