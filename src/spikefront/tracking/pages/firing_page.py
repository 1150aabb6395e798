"""The page of one measured network: energy and firing rates by layer, a spike raster, attention over the image."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from spikefront.tracking.pages.figures import PALETTE
from spikefront.units import si

HERE = Path(__file__).parent
Record = Mapping[str, Any]


def write_activity(measured: Record, activity: Record, path: str | Path) -> Path:
    """Write the page; it needs no network and no other file.

    Args:
        measured: an energy report's ``to_dict()``.
        activity: one sample's, as ``spikefront.energy.firing.activity`` gives it.
    """
    figures = {"layers": layers_figure(measured), "raster": raster_figure(activity)}
    if activity["attention"]:
        figures["attention"] = attention_figure(activity)
    data = {
        "cards": cards(measured),
        "notes": measured["notes"],
        "figures": {name: json.loads(figure.to_json()) for name, figure in figures.items()},
    }
    parts = {
        "css": (HERE / "assets" / "report.css").read_text(encoding="utf-8"),
        "js": (HERE / "assets" / "activity.js").read_text(encoding="utf-8"),
        "plotly": get_plotlyjs(),
        "data": json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
    }
    template = (HERE / "assets" / "activity.html").read_text(encoding="utf-8")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(re.sub(r"@@(\w+)@@", lambda match: parts[match[1]], template), encoding="utf-8")
    return path


def cards(measured: Record) -> list[tuple[str, str]]:
    """What the page says first: figure and label."""
    found = [
        (si(measured["total_joules"], "J"), "energy a sample"),
        (f"{100 * measured['firing_rate']:.2f} %", "mean firing rate, weighted by operations"),
        (f"{100 * measured['dead']:.1f} %", "channels that never fire"),
        (f"{100 * measured['saturated']:.1f} %", "channels that always fire"),
    ]
    for name, label in (("ann", "the same network without spikes"), ("quantised", "that one at {bits} bits")):
        baseline = measured["baseline"][name]
        ratio = baseline["network_ratio"]
        times = f", {ratio:.3g}×" if ratio is not None else ""
        found.append((f"{si(baseline['total_joules'], 'J')}{times}", label.format(**baseline)))
    return [*found, (f"{measured['samples']}", f"samples; {measured['convention']}")]


def layers_figure(measured: Record) -> go.Figure:
    """The firing rate of what enters each layer at each timestep, and beside it the layer's energy."""
    rows, steps = measured["rows"], measured["timesteps"]
    names = [row["name"] for row in rows]
    groups = list(dict.fromkeys(row["group"] for row in rows))
    figure = make_subplots(1, 2, shared_yaxes=True, column_widths=[0.4, 0.6], horizontal_spacing=0.02)
    rates = [row["firing_rate_per_timestep"] or [None] * steps for row in rows]
    figure.add_heatmap(
        z=rates,
        x=[f"t={t + 1}" for t in range(steps)],
        y=names,
        colorscale="Cividis",
        zmin=0,
        xgap=1,
        ygap=1,
        colorbar={
            "title": {"text": "firing rate", "side": "top"},
            "orientation": "h",
            "y": 1,
            "x": 0.08,
            "len": 0.16,
            "thickness": 10,
        }
        | {"yanchor": "bottom", "tickformat": ".0%"},
        hovertemplate="%{y}<br>%{x}: %{z:.4f}<extra></extra>",
        row=1,
        col=1,
    )
    for i, group in enumerate(groups):
        own = [row for row in rows if row["group"] == group]
        joules = sum(row["joules"] for row in own)
        figure.add_bar(
            x=[row["joules"] for row in own],
            y=[row["name"] for row in own],
            orientation="h",
            name=f"{group} {si(joules, 'J')}",
            marker={"color": PALETTE[i % len(PALETTE)]},
            text=[f"{100 * row['share']:.1f} %" for row in own],
            textposition="outside",
            cliponaxis=False,
            customdata=[[si(row["joules"], "J"), row["kind"], si(row["operations"], "")] for row in own],
            hovertemplate="%{y}<br>%{customdata[0]}, %{text}<br>%{customdata[1]}, %{customdata[2]} operations a step",
            row=1,
            col=2,
        )
    figure.update_yaxes(autorange="reversed", categoryorder="array", categoryarray=names, dtick=1, automargin=True)
    figure.update_xaxes(type="category", showgrid=False, col=1)
    figure.update_xaxes(title="energy (J a sample)", exponentformat="SI", rangemode="tozero", col=2)
    height = 170 + 19 * len(rows)
    return figure.update_layout(
        height=height,
        margin={"l": 10, "r": 50, "t": 80, "b": 50},
        legend={
            "orientation": "h",
            "x": 1,
            "xanchor": "right",
            "yref": "container",
            "y": 1 - 30 / height,
            "yanchor": "top",
        },
        bargap=0.25,
    )


def raster_figure(activity: Record) -> go.Figure:
    """Spikes of one sample: a strip of T columns for each layer of neurons, a line for each neuron shown."""
    neurons = activity["neurons"]
    steps = len(neurons[0]["spikes"]) if neurons else 0
    tallest = max((len(n["units"]) for n in neurons), default=0)
    width = steps + 1  # a gap after each layer
    values = np.full((tallest, max(width * len(neurons) - 1, 0)), np.nan)
    words = np.full(values.shape, "", dtype=object)
    for i, layer in enumerate(neurons):
        spikes = np.array(layer["spikes"])
        at = slice(i * width, i * width + steps)
        values[: spikes.shape[1], at] = spikes.T
        words[: spikes.shape[1], at] = [
            [f"{layer['name']}, neuron {unit}, t = {t + 1}" for t in range(steps)] for unit in layer["units"]
        ]
    figure = go.Figure(
        go.Heatmap(
            z=[[None if np.isnan(v) else v for v in line] for line in values.tolist()],
            text=words.tolist(),
            colorscale=[[0, "rgba(128,138,150,.13)"], [1, PALETTE[0]]],
            zmin=0,
            zmax=max(1.0, float(np.nanmax(values)) if values.size else 1.0),
            showscale=False,
            xgap=0.5,
            ygap=0.5,
            hovertemplate="%{text}: %{z}<extra></extra>",
        )
    )
    ticks = [i * width + (steps - 1) / 2 for i in range(len(neurons))]
    names = [n["name"] for n in neurons]
    figure.update_xaxes(tickvals=ticks, ticktext=names, tickangle=-60, automargin=True, showgrid=False, zeroline=False)
    figure.update_yaxes(
        title="neurons", showticklabels=False, ticks="", showgrid=False, zeroline=False, autorange="reversed"
    )
    return figure.update_layout(height=520, margin={"l": 90, "r": 10, "t": 30, "b": 170})


def attention_figure(activity: Record) -> go.Figure:
    """The firing rate of the attention's streams at every patch, drawn over the image; a row for each block."""
    blocks = activity["attention"]
    columns = list(dict.fromkeys(name for block in blocks for name in block["maps"]))
    shown = picture(activity["image"])
    titles = [f"<b>{c}</b>" if c != "leaves" else "<b>leaves the operator</b>" for c in ("image", *columns)]
    figure = make_subplots(
        len(blocks),
        1 + len(columns),
        column_titles=titles,
        horizontal_spacing=0.015,
        vertical_spacing=0.2 / len(blocks),
    )
    for i, block in enumerate(blocks):
        for j, name in enumerate((None, *columns)):
            rates = block["maps"].get(name)
            place = {"row": i + 1, "col": j + 1}
            number = i * (1 + len(columns)) + j + 1
            axis = "" if number == 1 else str(number)
            figure.add_layout_image(
                source=shown,
                xref=f"x{axis}",
                yref=f"y{axis}",
                x=0,
                y=0,
                sizex=1,
                sizey=1,
                sizing="stretch",
                layer="below",
            )
            if name is None:
                figure.add_scatter(x=[0.5], y=[0.5], mode="markers", marker={"opacity": 0}, hoverinfo="skip", **place)
            elif rates is not None:
                high, wide = len(rates), len(rates[0])
                figure.add_heatmap(
                    z=rates,
                    x=[(k + 0.5) / wide for k in range(wide)],
                    y=[(k + 0.5) / high for k in range(high)],
                    colorscale="Cividis",
                    opacity=0.75,
                    showscale=False,
                    hovertemplate="firing rate %{z:.3f}<extra></extra>",
                    **place,
                )
            text = _block_title(block) if name is None else f"{_mean(rates):.1%}" if rates is not None else ""
            figure.update_xaxes(
                title={"text": text, "standoff": 4}, range=[0, 1], showgrid=False, zeroline=False, **place
            )
            figure.update_yaxes(range=[1, 0], showgrid=False, zeroline=False, **place)
    figure.update_xaxes(showticklabels=False, ticks="", constrain="domain")
    figure.update_yaxes(showticklabels=False, ticks="", scaleanchor="x", constrain="domain")
    for number in range(2, len(blocks) * (1 + len(columns)) + 1):
        figure.layout[f"yaxis{number}"].scaleanchor = f"x{number}"
    return figure.update_layout(
        height=90 + 255 * len(blocks), showlegend=False, margin={"l": 10, "r": 10, "t": 60, "b": 50}
    )


def picture(image: Sequence[Any]) -> str:
    """An image ``(C, H, W)``, or frames ``(T, C, H, W)`` summed over time, as a PNG's data URI, stretched to its range.

    Three channels are red, green and blue, two the polarities of an event camera (red and blue), others their mean.
    """
    from PIL import Image

    values = np.array(image, dtype=np.float64)
    values = values.sum(0) if values.ndim == 4 else values
    if len(values) == 2:
        values = np.stack([values[0], np.zeros_like(values[0]), values[1]])
    elif len(values) != 3:
        values = np.repeat(values.mean(0, keepdims=True), 3, 0)
    low, high = values.min(), values.max()
    pixels = ((values - low) / ((high - low) or 1.0) * 255).round().astype(np.uint8).transpose(1, 2, 0)
    drawn = Image.fromarray(pixels)
    if max(drawn.size) < 128:  # browsers would blur it
        drawn = drawn.resize((drawn.width * 16, drawn.height * 16), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    drawn.save(buffer, "png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _mean(rates: Sequence[Sequence[float]]) -> float:
    return float(np.mean(rates))


def _block_title(block: Record) -> str:
    if block["open"] is None:
        return block["name"]
    return f"{block['name']}<br>open " + " ".join(f"{share:.0%}" for share in block["open"])
