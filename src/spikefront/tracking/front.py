"""The front for people: a table in the terminal and a small page with a plot. Reads plain records of a study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from rich import box
from rich.table import Table

UNITS = {"energy": ("energy", "joules a sample"), "latency": ("latency", "seconds a sample")}


def front_table(records: Mapping[str, Any]) -> Table:
    """The front as a rich table: trial and timestep, validation objectives, test accuracy, parameters."""
    objectives = [o["name"] for o in records["objectives"]]
    searched: list[str] = list(dict.fromkeys(k for point in records["front"] for k in point["params"]))
    table = Table(title=f"Pareto front of {records['study']}", box=box.SIMPLE_HEAD, title_justify="left")
    anytime = any(point["t"] is not None for point in records["front"])
    table.add_column("trial", justify="right")
    if anytime:
        table.add_column("t", justify="right")
    for name in objectives:
        table.add_column(name, justify="right", style="bold", no_wrap=True)
    if "accuracy" in objectives:
        table.add_column("test accuracy", justify="right")
    for key in searched:
        table.add_column(key.rpartition(".")[2], justify="right", style="dim", no_wrap=True)
    for point in records["front"]:
        cells = [str(point["number"])]
        if anytime:
            cells.append(f"{point['t']}{'' if point['final'] else ' *'}")
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


def figure(name: str, value: float) -> str:
    """A metric as people read it: ``0.9639``, ``1.24 µJ``, ``163,650``."""
    if name == "energy":
        return si(value, "J")
    if name in ("latency", "seconds"):
        return si(value, "s")
    if name in ("parameters", "memory"):
        return f"{value:,.0f}"
    return f"{value:.4f}"


def si(value: float, unit: str) -> str:
    """A quantity with its SI prefix, three digits."""
    for prefix, scale in (("", 1.0), ("m", 1e-3), ("µ", 1e-6), ("n", 1e-9)):
        if abs(value) >= scale:
            return f"{value / scale:.3g} {prefix}{unit}"
    return f"{value / 1e-12:.3g} p{unit}"


def write_front_html(records: Mapping[str, Any], path: str | Path) -> Path:
    """Write a self-contained page that plots the first two objectives of all finished trials and the front."""
    names = [o["name"] for o in records["objectives"]]
    y, x = (names[0], names[1]) if len(names) > 1 else (names[0], None)
    figure_ = go.Figure()
    done = [t for t in records["trials"] if t["state"] == "complete"]
    figure_.add_scatter(
        x=[t["values"][x] if x else t["number"] for t in done],
        y=[t["values"][y] for t in done],
        mode="markers",
        name="trials",
        marker={"size": 9, "color": "#9aa5b1"},
        text=[_hover(t["number"], None, t["params"]) for t in done],
        hovertemplate="%{text}<br>%{x:.4g}, %{y:.4f}<extra></extra>",
    )
    front = sorted(records["front"], key=lambda p: p["values"][x] if x else p["number"])
    figure_.add_scatter(
        x=[p["values"][x] if x else p["number"] for p in front],
        y=[p["values"][y] for p in front],
        mode="lines+markers",
        name="front",
        line={"color": "#c2410c", "shape": "hv"},
        marker={"size": 10, "symbol": ["circle" if p["final"] else "circle-open" for p in front]},
        text=[_hover(p["number"], None if p["final"] else p["t"], p["params"]) for p in front],
        hovertemplate="%{text}<br>%{x:.4g}, %{y:.4f}<extra></extra>",
    )
    figure_.update_layout(
        template="plotly_white",
        title=f"{records['study']}: {len(done)} trials, {records['convention'] or ''}",
        xaxis_title=" in ".join(UNITS.get(x, (x,))) if x else "trial",
        yaxis_title=y,
        xaxis_type="log" if x in ("energy", "parameters", "latency") else "linear",
        xaxis_tickformat="~s" if x else None,
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure_.write_html(path, include_plotlyjs=True, full_html=True)
    return path


def _hover(number: int, t: int | None, params: Mapping[str, Any]) -> str:
    lines = [f"trial {number}" + (f", stopped at t = {t}" if t is not None else "")]
    return "<br>".join([*lines, *(f"{k} = {_short(v)}" for k, v in params.items())])


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
