"""The Weights & Biases client as this project uses it: never in the way of a run.

Everything is handed to a thread, so a server that refuses, stalls or drops delays no training. What can't be sent stays
in the run's directory for ``wandb sync``; what went wrong is said once.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import secrets
import shutil
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import requests
import wandb
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only
from requests.utils import get_netrc_auth

from spikefront.errors import UserError

PATIENCE = 20  # seconds for the server: to begin a run, and to take what is left at its end
ROOM = 1 << 16  # bytes on the disk without which the client drops what it is given, and says nothing
COMPONENTS = ("neuron", "attention", "embedding", "residual")  # their own groups, and inside the model once more
ASIDE = ("logger", "callbacks", "debug", "output_dir", "resume", "surrogate", "config")  # not what tells runs apart
CHECKPOINTS = ("none", "front", "all")


def has_account() -> bool:
    """Whether a W&B key is configured here (environment or netrc); asks neither the network nor the person."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    return get_netrc_auth(server()) is not None


def server() -> str:
    """The address of W&B's server: ``WANDB_BASE_URL``, W&B's settings files, or its public one."""
    return os.environ.get("WANDB_BASE_URL") or wandb.setup().settings.base_url


def is_online(mode: str) -> bool:
    """What ``logger.mode`` means here; ``auto`` is online with an account, and ``WANDB_MODE`` goes first.

    Raises:
        UserError: another mode.
    """
    if mode not in ("auto", "online", "offline"):
        raise UserError(f"logger.mode is {mode!r}: use auto, online or offline")
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE") or ("online" if has_account() else "offline")
    return mode == "online"


def reach(server: str, patience: float) -> None:
    """Raise unless the server answers at all: the client itself goes on trying without a word."""
    answer = requests.post(f"{server}/graphql", json={"query": "{__typename}"}, timeout=patience)
    if answer.status_code >= 500 or answer.status_code == 429:
        raise ConnectionError(f"{server} answers {answer.status_code}")


def safe_id(text: str) -> str:
    """``text`` as W&B takes it for an id or an artifact's name."""
    return re.sub(r"[^\w.-]", "_", text)[:120]


class Client:
    """One W&B run behind a thread: calls return at once, are done in order, and fail into one line on stderr.

    Args:
        init: arguments of ``wandb.init``.
        online: if the server doesn't let the run begin within ``patience`` seconds, it is written offline.
    """

    def __init__(self, init: Mapping[str, Any], online: bool, patience: float = PATIENCE) -> None:
        self.run: Any = None
        self.online, self._patience = online, patience
        self._init = {k: v for k, v in init.items() if v is not None}
        self._calls: queue.SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]] | None] = queue.SimpleQueue()
        self._later: list[Callable[[Any], Any]] = []
        self._said = False
        self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)
        self._thread.start()

    def do(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Have ``call(run, *arguments)`` done when its turn comes."""
        self._calls.put((call, arguments))

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
            self._say("the server does not answer")

    def _work(self) -> None:
        try:
            self.run = self._begin()
        except Exception as error:
            self._say(_reason(error), lost=True)
        while (item := self._calls.get()) is not None:
            if self.run is None:
                continue
            call, arguments = item
            try:
                call(self.run, *arguments)
                if shutil.disk_usage(self.run.dir).free < ROOM:
                    raise OSError(f"no space left on the disk of {self.run.dir}, what comes now is lost")
            except Exception as error:
                self._say(_reason(error))
                if isinstance(error, ConnectionError):  # W&B's own process is gone, as when SLURM signals all of a job
                    with contextlib.suppress(Exception):
                        wandb.teardown()  # so that the next run gets another, and the exit is quiet
        if self._later:  # the client asks the server before it takes an artifact, but not offline
            with contextlib.suppress(Exception), continued(self.run) as run:
                for call in self._later:
                    call(run)

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
            self._say(_reason(error), directory=run.dir)
            return run

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
        return wandb.init(mode=mode, settings=settings, reinit="create_new", **self._init)  # type: ignore[arg-type]

    def _say(self, reason: str, lost: bool = False, directory: str | None = None) -> None:
        if self._said:
            return
        self._said = True
        where = directory or (self.run.dir if self.run is not None else None)
        kept = f"its data is kept: wandb sync {Path(where).parent}" if where and not lost else "nothing is logged there"
        print(f"spikefront: W&B: {reason}; the run goes on, {kept}", file=sys.stderr, flush=True)


class RunLogger(WandbLogger):
    """Lightning's logger behind a ``Client``. ``experiment`` is None until W&B has begun the run.

    The configuration is logged nested, as W&B filters it (``model.timesteps``, ``neuron.name``, ``data.name``), without
    what doesn't tell runs apart; the tags are the data, the model and its components.
    """

    def __init__(
        self, init: Mapping[str, Any], online: bool, checkpoints: str, extra: Mapping[str, Any], patience: float
    ) -> None:
        super().__init__(**init)
        self._online, self._checkpoints, self._extra, self._patience = online, checkpoints, dict(extra), patience
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        if self._client is None:
            self._client = Client(self._wandb_init, self._online, self._patience)
            self._client.do(_axes)
        return self._client

    @property
    def experiment(self) -> Any:
        return self.client.run if getattr(rank_zero_only, "rank", 0) == 0 else None

    @rank_zero_only
    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        config = {**told_apart(params), **self._extra}
        self.client.do(lambda run: run.config.update(config, allow_val_change=True))
        self.client.do(_add_tags, tags_of(config))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        row = dict(metrics) if step is None else {**metrics, "trainer/global_step": step}
        self.client.do(lambda run: run.log(row))

    @rank_zero_only
    def conclude(self, result: Mapping[str, Any], checkpoint: str | None) -> None:
        """Put what the run came to into its summary, and the checkpoint beside it as an artifact.

        Args:
            result: ``spikefront.training.Result`` as a dictionary, with what a sweep adds: ``latency``, ``on_front``.
        """
        summary = summary_of(result)
        self.client.do(lambda run: run.summary.update(summary))
        self.client.do(lambda run: run.log({"anytime curve": _anytime(summary["anytime"])}))
        on_front = result.get("on_front")
        if checkpoint and (self._checkpoints == "all" or (self._checkpoints == "front" and on_front is not False)):
            aliases = ["best", "front"] if on_front else ["best"]
            metadata = {k: summary[k] for k in ("accuracy", "energy", "parameters")}
            name = safe_id(self._name or f"model-{self._id}")
            self.client.try_or_later(
                lambda run: run.log_artifact(_artifact(name, checkpoint, metadata), aliases=aliases)
            )

    @rank_zero_only
    def close(self, status: str) -> None:
        """``success``, ``pruned``, ``interrupted`` (goes on later) or ``failed``."""
        if self._client is not None:
            if status == "pruned":
                self._client.do(lambda run: run.summary.update({"pruned": True}))
            self._client.close(0 if status in ("success", "pruned") else 1, preempted=status == "interrupted")

    def finalize(self, status: str) -> None: ...


def wandb_logger(
    save_dir: str,
    project: str = "spikefront",
    entity: str | None = None,
    group: str | None = None,
    name: str | None = None,
    tags: Sequence[str] = (),
    mode: str = "auto",
    id: str | None = None,
    job_type: str = "train",
    checkpoints: str = "front",
    extra: Mapping[str, Any] | None = None,
    patience: float = PATIENCE,
) -> RunLogger:
    """A Lightning logger; ``mode="auto"`` is online with an account and offline without, ``WANDB_MODE`` goes first.

    Args:
        checkpoints: which runs upload their best checkpoint: ``none``, ``front`` (a sweep's trials that are on its
            front as they end, and every run of its own) or ``all``.
        extra: more to log with the configuration.
        patience: seconds for the server to begin a run, and to take what is left at its end.

    Raises:
        UserError: another mode, or other checkpoints.
    """
    if checkpoints not in CHECKPOINTS:
        raise UserError(f"logger.checkpoints is {checkpoints!r}: use {', '.join(CHECKPOINTS)}")
    online = is_online(mode)
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    init: dict[str, Any] = {"name": name, "project": project, "entity": entity, "group": group, "job_type": job_type}
    init |= {"tags": list(tags), "save_dir": save_dir, "id": id or secrets.token_hex(4)}
    return RunLogger(init, online, checkpoints, extra or {}, patience)


def told_apart(config: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved configuration as W&B's filters and charts want it.

    Nested (W&B joins with dots itself), a component's class as its ``name``, nothing twice, nothing of this machine's
    directories.
    """
    plain = {k: _named(v) for k, v in config.items() if k not in ASIDE}
    model = plain.get("model")
    if isinstance(model, dict):
        plain["model"] = {k: v for k, v in model.items() if k not in COMPONENTS}
        if {"depth", "dim"} <= set(model):
            plain["model"]["name"] = f"sdt_{model['depth']}_{model['dim']}"
    return plain


def tags_of(config: Mapping[str, Any]) -> list[str]:
    """Data, model and components of a ``told_apart`` configuration."""
    named = (config.get(group) for group in ("data", "model", *COMPONENTS))
    return [str(node["name"])[:64] for node in named if isinstance(node, Mapping) and node.get("name")]


def summary_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result as summary values: validation figures, which searches select on, by the objectives' names; the test
    part's under ``test/``."""
    validation = result.get("validation") or result
    summary = {
        "accuracy": validation["accuracy"],
        "energy": validation["energy_joules"],
        "firing_rate": validation["firing_rate"],
        "anytime": validation["anytime"],
        **{f"test/{k}": result[k] for k in ("accuracy", "energy_joules", "anytime")},
    }
    rest = ("parameters", "seconds", "epochs", "convention", "latency", "memory", "on_front", "seed", "energy_groups")
    return summary | {k: result[k] for k in rest if result.get(k) is not None}


def _named(node: Any) -> Any:
    if isinstance(node, Mapping):
        plain = {str(k): _named(v) for k, v in node.items() if k not in ("_target_", "_partial_")}
        if "_target_" in node:
            plain.setdefault("name", str(node["_target_"]).rpartition(".")[2])
        return plain
    return [_named(v) for v in node] if isinstance(node, list | tuple) else node


def _anytime(points: Sequence[Mapping[str, float]]) -> Any:
    """Accuracy and energy of stopping after t timesteps, as a table and the curve drawn from it."""
    columns: list[str | int] = ["t", "accuracy", "energy_joules"]
    table = wandb.Table(columns=columns, data=[[p[str(c)] for c in columns] for p in points])
    return wandb.plot.line(table, "energy_joules", "accuracy", title="Accuracy and energy of stopping early")


def _axes(run: Any) -> None:
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)


def _add_tags(run: Any, tags: Sequence[str]) -> None:
    run.tags = tuple(dict.fromkeys((*(run.tags or ()), *tags)))


def _artifact(name: str, checkpoint: str, metadata: Mapping[str, Any]) -> wandb.Artifact:
    artifact = wandb.Artifact(name, "model", metadata=dict(metadata))
    artifact.add_file(checkpoint, name="model.ckpt")
    return artifact


def continued(run: Any, id: str | None = None) -> Any:
    """The run, or another of its project, once more and offline: ``wandb sync`` adds it to the first part."""
    where = {"id": id or run.id, "project": run.project, "entity": run.entity or None, "dir": Path(run.dir).parents[2]}
    settings = wandb.Settings(silent=True, console="off")
    return wandb.init(mode="offline", resume="allow", reinit="create_new", settings=settings, **where)


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) < 200 else f"{text[:199]}…"
