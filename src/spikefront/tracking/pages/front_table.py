"""The front for people: a table in the terminal and a small page with a plot. Reads plain records of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich import box
from rich.measure import Measurement
from rich.table import Table

from spikefront.analysis.schema import StudyRecord
from spikefront.analysis.silence import silent
from spikefront.console import console
from spikefront.tracking.pages.page import write_report
from spikefront.units import figure, short_names

ANY = 10_000  # characters: more than a table has


def front_table(records: StudyRecord, width: int = ANY) -> Table:
    """The front as a rich table: trial and timestep, validation objectives, test accuracy, parameters.

    Where a ``width`` in characters is too little for it, columns stand closer; if that doesn't do, parameters are cut.
    """
    objectives = [o["name"] for o in records["objectives"]]
    sure = any(point["interval"] for point in records["front"])
    searched: list[str] = list(dict.fromkeys(k for point in records["front"] for k in point["params"]))
    table = Table(
        title=f"Pareto front of {records['study']}{_samples(records)}",
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
        if name == "accuracy" and sure:
            table.add_column("95 %", justify="right", style="dim", no_wrap=True)
    if "accuracy" in objectives:
        table.add_column("test", justify="right", no_wrap=True)
    for name in short_names(searched).values():  # a narrow terminal cuts these first
        table.add_column(name, justify="right", style="dim", overflow="ellipsis")
    mute = {t["number"] for t in records["trials"] if silent(t)}
    for point in records["front"]:
        cells = [f"{'x ' if point['number'] in mute else ''}{point['number']}"]
        if anytime:
            cells.append(f"{point['t'] or ''}{'' if point['final'] else ' *'}")
        for name in objectives:
            cells.append(figure(name, point["values"][name]))
            if name == "accuracy" and sure:
                cells.append("{:.2f}-{:.2f}".format(*point["interval"]) if point["interval"] else "")
        if "accuracy" in objectives:
            tested = point["test"].get("accuracy")
            cells.append("" if tested is None else figure("accuracy", tested))
        cells += [_short(point["params"].get(key, "")) for key in searched]
        table.add_row(*cells)
    notes = []
    if any(not point["final"] for point in records["front"]):
        notes.append("* the same trained network, stopped before its last timestep")
    if close := sum(bool(point["near"]) and not point["member"] for point in records["points"]):
        notes.append(f"{close} more points are too close to these to be told apart by so few samples")
    if any(point["number"] in mute for point in records["front"]):
        notes.append("x silent: no neuron fires, and the energy is that of a network that computes nothing")
    if beyond := [point for point in records["points"] if not point["feasible"]]:
        notes.append(f"{len(beyond)} of {len(records['points'])} points break search.constraints, and are on no front")
    endless = console(width=ANY)
    if Measurement.get(endless, endless.options, table).maximum > width:
        table.padding = 0
    table.caption = "\n".join(notes) or None
    table.caption_justify = "left"
    return table


def volumes_told(records: StudyRecord) -> str:
    """The front's hypervolume with the costs as they are, and with the costs in decades where that has a meaning."""
    told = f"hypervolume {records['hypervolume']:.4g}"
    costs = ", ".join(o["name"] for o in records["objectives"] if o["direction"] == "minimize")
    decades = records["decades"]
    return told if decades is None else f"{told}, with {costs} in decades {decades:.4g}"


def _samples(records: StudyRecord) -> str:
    """On how many samples the accuracies rest, as far as that is known."""
    known = sorted({n for point in records["front"] if (n := point["samples"])})
    if not known or not any(o["name"] == "accuracy" for o in records["objectives"]):
        return ""
    few = f"{known[0]}" if len(known) == 1 else f"{known[0]} to {known[-1]}"
    return f" (accuracy of {few} validation samples)"


def write_front_html(records: StudyRecord, path: str | Path) -> Path:
    """Write the study's page, as ``python src/report.py`` does."""
    return write_report([records], path)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
