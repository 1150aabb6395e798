"""The front for people: a table in the terminal and a small page with a plot. Reads plain records of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from spikefront.analysis.schema import StudyRecord
from spikefront.tracking.pages.page import write_report
from spikefront.units import figure


def front_table(records: StudyRecord) -> Table:
    """The front as a rich table: trial and timestep, validation objectives, test accuracy, parameters."""
    objectives = [o["name"] for o in records["objectives"]]
    searched: list[str] = list(dict.fromkeys(k for point in records["front"] for k in point["params"]))
    table = Table(
        title=f"Pareto front of {records['study']}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    anytime = any(point["t"] is not None for point in records["front"])
    table.add_column("trial", justify="right", no_wrap=True)
    if anytime:
        table.add_column("t", justify="right", no_wrap=True)
    for name in objectives:
        table.add_column(name, justify="right", style="bold", no_wrap=True)
    if "accuracy" in objectives:
        table.add_column("test", justify="right", no_wrap=True)
    for key in searched:  # a narrow terminal cuts these first
        table.add_column(key.rpartition(".")[2], justify="right", style="dim", overflow="ellipsis")
    for point in records["front"]:
        cells = [str(point["number"])]
        if anytime:
            cells.append(f"{point['t'] or ''}{'' if point['final'] else ' *'}")
        cells += [figure(name, point["values"][name]) for name in objectives]
        if "accuracy" in objectives:
            tested = point["test"].get("accuracy")
            cells.append("" if tested is None else figure("accuracy", tested))
        cells += [_short(point["params"].get(key, "")) for key in searched]
        table.add_row(*cells)
    if any(not point["final"] for point in records["front"]):
        table.caption = "* the same trained network, stopped before its last timestep"
        table.caption_justify = "left"
    return table


def write_front_html(records: StudyRecord, path: str | Path) -> Path:
    """Write the study's page, as ``python src/report.py`` does."""
    return write_report([records], path)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
