"""Lightning's logger for Weights & Biases, and what of a run it keeps."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from spikefront.errors import UserError
from spikefront.tracking.wandb.client import PATIENCE, Client, check_names, mode_of, safe_id
from spikefront.tracking.wandb.filters import tags_of, told_apart

CHECKPOINTS = ("none", "front", "all")


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
            self._client.do(_axes, in_each_part=True)
        return self._client

    @property
    def experiment(self) -> Any:
        return self.client.run if getattr(rank_zero_only, "rank", 0) == 0 else None

    @rank_zero_only
    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        config = {**told_apart(params), **self._extra}
        self.client.do(lambda run: run.config.update(config, allow_val_change=True), in_each_part=True)
        self.client.do(_add_tags, tags_of(config), in_each_part=True)

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
        self.client.do(lambda run: run.summary.update(summary), in_each_part=True)
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
) -> RunLogger | None:
    """A Lightning logger; None, and nothing is written, where W&B is disabled.

    Args:
        mode: ``online``, ``offline``, ``disabled``, or ``auto``: what ``WANDB_MODE`` says, by default online with an
            account and offline without.
        checkpoints: which runs upload their best checkpoint: ``none``, ``front`` (a sweep's trials that are on its
            front as they end, and every run of its own) or ``all``.
        extra: more to log with the configuration.
        patience: seconds for the server to begin a run, and to take what is left at its end.

    Raises:
        UserError: another mode, other checkpoints, a project or a tag that W&B does not take.
    """
    if checkpoints not in CHECKPOINTS:
        raise UserError(f"logger.checkpoints is {checkpoints!r}: use {', '.join(CHECKPOINTS)}")
    meant = mode_of(mode)
    if meant == "disabled":
        return None
    check_names(project, tags)
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    init: dict[str, Any] = {"name": name, "project": project, "entity": entity, "group": group, "job_type": job_type}
    # Of an agent of W&B's own sweeps, whose scheduler waits for this run.
    of_agent = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None
    init |= {"tags": list(tags), "save_dir": save_dir, "id": id or of_agent or secrets.token_hex(4)}
    return RunLogger(init, meant == "online", checkpoints, extra or {}, patience)


def summary_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result as summary values: validation figures, which searches select on, by the objectives' names; the test
    part's under ``test/``."""
    validation = result.get("validation") or result
    summary = {
        "accuracy": validation["accuracy"],
        "energy": validation["energy_joules"],
        "firing_rate": validation["firing_rate"],
        "anytime": validation["anytime"],
        "samples": validation["samples"],
        **{f"test/{k}": result[k] for k in ("accuracy", "energy_joules", "samples", "anytime")},
    }
    of_run = ("parameters", "seconds", "epochs", "convention", "latency", "memory", "on_front", "seed")
    return summary | {k: result[k] for k in (*of_run, "energy_groups", "twin_joules") if result.get(k) is not None}


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
