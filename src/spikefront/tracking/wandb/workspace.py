"""The panels of studies as a W&B workspace, made once with your account."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import wandb

from spikefront.errors import UserError

LOGARITHMIC = ("lr", "weight_decay", "energy", "parameters")


def workspace(entity: str, project: str, studies: Sequence[str], parameters: Iterable[str]) -> Any:
    """The view, unsaved: the trials of ``studies`` by front, energy, hypervolume and parameters, a colour a study.

    Args:
        parameters: the searched ones, as configurations name them: ``model.timesteps``, ``neuron.name``.

    Raises:
        UserError: wandb-workspaces isn't installed.
    """
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise UserError("this needs wandb-workspaces: pip install 'spikefront[workspace]'") from error

    def column(metric: Any, name: str) -> Any:
        return wr.ParallelCoordinatesPlotColumn(metric, display_name=name, log=name.split(".")[-1] in LOGARITHMIC)

    columns = [column(wr.Config(p), p) for p in parameters]
    columns += [column(wr.SummaryMetric(name), name) for name in ("energy", "accuracy")]
    front: list[Any] = [
        wr.ScatterPlot(
            title="Accuracy against energy (validation)",
            x=wr.SummaryMetric("energy"),
            y=wr.SummaryMetric("accuracy"),
            log_x=True,
            layout=wr.Layout(w=14, h=12),
        ),
        wr.LinePlot(
            title="Hypervolume",
            x="trials",
            y=["hypervolume"],
            groupby_rangefunc=None,
            layout=wr.Layout(x=14, w=10, h=12),
        ),
    ]
    matters: list[Any] = [
        wr.ParallelCoordinatesPlot(columns=columns, layout=wr.Layout(w=24, h=10)),
        wr.ParameterImportancePlot(with_respect_to="accuracy", layout=wr.Layout(y=10, w=12, h=9)),
        wr.ParameterImportancePlot(with_respect_to="energy", layout=wr.Layout(x=12, y=10, w=12, h=9)),
    ]
    training: list[Any] = [
        wr.LinePlot(title=key, x="trainer/global_step", y=[key])
        for key in ("val/accuracy", "val/energy_joules", "val/firing_rate", "val/dead", "train/loss_epoch")
    ]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=" and ".join(studies),
        sections=[
            ws.Section(name="Front", panels=front, is_open=True),
            ws.Section(name="What matters", panels=matters, is_open=True),
            ws.Section(name="Training", panels=training, is_open=False),
        ],
        runset_settings=ws.RunsetSettings(
            filters=[ws.Metric("Group").isin(list(studies))],
            groupby=[ws.Metric("Group"), ws.Metric("JobType")] if len(studies) > 1 else [],
        ),
        auto_generate_panels=False,
    )


def searched(entity: str, project: str, studies: Sequence[str]) -> list[str]:
    """The parameters that the studies' trials differ in, as configurations name them.

    Raises:
        UserError: the project can't be read.
    """
    try:
        runs = wandb.Api(timeout=60).runs(
            f"{entity}/{project}", filters={"group": {"$in": list(studies)}}, per_page=200, lazy=False
        )
        configs = [dict(run.config) for run in runs]
    except (wandb.Error, ValueError, OSError) as error:
        raise UserError(f"{entity}/{project} can't be read from W&B: {' '.join(str(error).split())}") from error
    keys = dict.fromkeys(k for c in configs for k in dict((c.get("trial") or {}).get("params") or {}))
    return [f"{k}.name" if "." not in k and k != "seed" else k for k in keys]
