"""The energy report for people and for papers: a Rich table, JSON, CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from typing import Any

from rich.table import Table

from spikefront.console import console as plain_console
from spikefront.errors import UserError, near_matches
from spikefront.units import amount, joules

Figures = Mapping[str, Any]  # ``EnergyReport.to_dict()``
HEADER = ("layer", "kind", "input", "operations", "rate per timestep", "rate", "additions", "joules", "share")
BAR = 24
WIDE, NARROW = 150, 70  # columns of an output that isn't a terminal, and the fewest that the table takes


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A layer's row as text, in ``HEADER``'s order."""
    rates = row["firing_rate_per_timestep"]
    return (
        row["name"],
        row["kind"],
        "×".join(map(str, row["input_shape"])),
        amount(row["operations"]),
        " ".join(f"{r:.2f}".removeprefix("0") for r in rates) if rates else "",
        f"{row['firing_rate']:.3f}" if rates else "",
        amount(row["additions"]) if row["additions"] else "",
        joules(row["joules"]),
        f"{100 * row['share']:.1f} %",
    )


def summary(figures: Figures) -> list[tuple[str, str]]:
    """Totals, subtotals and baselines as label and text."""
    lines = [
        (name, f"{joules(j)}  {100 * j / (figures['total_joules'] or 1):.1f} %")
        for name, j in figures["groups"].items()
    ]
    lines.append(("total", f"{joules(figures['total_joules'])} a sample, firing rate {figures['firing_rate']:.4f}"))
    if len(figures["anytime_joules"]) > 1:
        steps = ", ".join(f"t={t} {joules(j)}" for t, j in enumerate(figures["anytime_joules"], 1))
        lines.append(("stopping early", steps))
    for name, baseline in figures["baseline"].items():
        what = "same-shape ANN" if name == "ann" else f"same at {baseline['bits']} bits"
        even = baseline["break_even_rate"]
        cheaper = (
            "never" if even is None else "at any firing rate" if even > 1 else f"below a firing rate of {even:.3f}"
        )
        spiking = any(row["kind"] == "spikes" for row in figures["rows"])
        lines.append(
            (
                what,
                f"{joules(baseline['total_joules'])}, {_times(baseline['network_ratio'])} ours;"
                f" its attention operator {joules(baseline['attention_operator_joules'])},"
                f" {_times(baseline['attention_operator_ratio'])} ours"
                + (f"; ours is cheaper {cheaper}" if spiking else ""),
            )
        )
    if attention := figures["attention"]:
        lines.append(
            (
                "operator",
                "N = {tokens}, D = {width}, T = {timesteps}, summed rate {summed_rate:.3f}".format(**attention),
            )
        )
    return [*lines, ("convention", figures["convention"]), ("samples", str(figures["samples"]))]


def _times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:,.0f}×" if ratio >= 1000 else f"{ratio:.3g}×"


def table(figures: Figures, width: int | None = None) -> str:
    """For a terminal of ``width`` columns: rows with a bar for each layer's share, subtotals, baselines.

    What a narrow terminal has no room for is left out: bars first, then rates per timestep, input shapes, kinds.
    """
    rows = figures["rows"]
    largest = max((row["share"] for row in rows), default=1.0) or 1.0
    columns = [
        *zip(HEADER, *map(cells, rows), strict=True),
        ("", *("█" * round(BAR * r["share"] / largest) for r in rows)),
    ]
    shown = _fitting(columns, width or WIDE)
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for i in shown:
        grid.add_column(columns[i][0], justify="left" if i in (0, 1, 2, 9) else "right", no_wrap=True)
    group = None
    for at, row in enumerate(rows, 1):
        if group is not None and row["group"].split()[0] != group.split()[0]:
            grid.add_section()
        group = row["group"]
        grid.add_row(*(columns[i][at] for i in shown))
    totals = Table(box=None, pad_edge=False, show_header=False)
    totals.add_column(style="bold", no_wrap=True)
    totals.add_column()
    for label, text in summary(figures):
        totals.add_row(label, text)
    buffer = io.StringIO()
    console = plain_console(file=buffer, width=max(width or WIDE, NARROW))
    console.print(grid)
    console.print()
    console.print(totals)
    for note in figures["notes"]:
        console.print(f"note: {note}")
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


def _fitting(columns: list[tuple[str, ...]], width: int) -> list[int]:
    """Which columns of the table fit side by side, two spaces between them."""
    shown = list(range(len(columns)))
    for dispensable in (9, 4, 2, 1):
        if sum(max(map(len, columns[i])) + 2 for i in shown) - 2 <= width:
            break
        shown.remove(dispensable)
    return shown


def as_json(figures: Figures) -> str:
    return json.dumps(figures, indent=2, allow_nan=False)


def as_csv(figures: Figures) -> str:
    """One line a layer, plain numbers; rates of the timesteps separated by spaces."""
    buffer = io.StringIO()
    rows = figures["rows"]
    writer = csv.DictWriter(buffer, fieldnames=[*rows[0], "convention"], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        rates = row["firing_rate_per_timestep"] or []
        writer.writerow(
            {
                **row,
                "input_shape": "x".join(map(str, row["input_shape"])),
                "firing_rate_per_timestep": " ".join(f"{r:.6g}" for r in rates),
                "convention": figures["convention"],
            }
        )
    return buffer.getvalue().rstrip("\n")


def markdown(figures: Figures) -> str:
    lines = [_pipe(HEADER), "|---|---|---|" + "--:|" * 6]
    lines += [_pipe(cells(row)) for row in figures["rows"]]
    lines += ["", "| | |", "|---|---|", *(_pipe(pair) for pair in summary(figures))]
    lines += [f"\n{note}" for note in figures["notes"]]
    return "\n".join(lines)


def _pipe(values: tuple[str, ...]) -> str:
    return "| " + " | ".join(values) + " |"


def latex(figures: Figures) -> str:
    """A ``longtable`` with ``booktabs`` rules, to ``\\input`` into a paper."""
    lines = [r"% needs \usepackage{booktabs,longtable}", r"\begin{longtable}{lllrrrrrr}", r"\toprule"]
    lines += [
        _ampersand(HEADER),
        r"\midrule",
        r"\endhead",
        *(_ampersand(cells(row)) for row in figures["rows"]),
        r"\midrule",
    ]
    lines += [
        rf"\textbf{{{_tex(label)}}} & \multicolumn{{8}}{{p{{.7\linewidth}}}}{{{_tex(text)}}} \\"
        for label, text in summary(figures)
    ]
    lines += [rf"\multicolumn{{9}}{{p{{\linewidth}}}}{{{_tex(note)}}} \\" for note in figures["notes"]]
    return "\n".join([*lines, r"\bottomrule", r"\end{longtable}"])


def _ampersand(values: tuple[str, ...]) -> str:
    return " & ".join(map(_tex, values)) + r" \\"


def _tex(text: str) -> str:
    text = re.sub(r"([&%$#_{}])", r"\\\1", text)
    return text.replace("×", r"$\times$").replace("µ", r"$\mu$").replace("–", "--").replace("²", "$^2$")


FORMATS: dict[str, Callable[[Figures], str]] = {
    "table": table,
    "json": as_json,
    "csv": as_csv,
    "markdown": markdown,
    "latex": latex,
}


def render(figures: Figures, form: str) -> str:
    """The report in one of ``FORMATS``.

    Raises:
        UserError: no such format.
    """
    if form not in FORMATS:
        raise UserError(f"format={form} does not exist; {near_matches(form, FORMATS)}")
    if form == "table" and sys.stdout.isatty():
        return table(figures, shutil.get_terminal_size().columns)
    return FORMATS[form](figures)
