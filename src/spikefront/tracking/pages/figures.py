"""A study's records as Plotly figures: front, anytime curves, importance, parallel coordinates, hypervolume."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from spikefront.analysis.confidence import spread
from spikefront.analysis.front import axes, completed, placed, placed_front
from spikefront.analysis.schema import Point, StudyRecord, Taken, TrialRecord
from spikefront.units import si

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#8c8c8c"  # of Okabe and Ito's colour-blind safe palette
PALETTE = (BLUE, ORANGE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", GREY)
LOGARITHMIC = ("energy", "latency", "parameters", "memory")
UNITS = {"energy": " (J a sample)", "latency": " (s a sample)"}


def front_figure(records: StudyRecord) -> go.Figure:
    """Accuracy against energy on a log axis: the front as a staircase; a menu colours the trials by any parameter."""
    (gain, cost), at = axes(records["objectives"]), placed(records)
    trials = [t for t in records["trials"] if t["number"] in at]
    keys = sorted({k for t in trials for k in t["params"]})
    front = placed_front(records)
    figure = go.Figure(
        [
            go.Scatter(
                x=[at[t["number"]][0] for t in trials],
                y=[at[t["number"]][1] for t in trials],
                mode="markers",
                name="trials",
                marker={"size": 9, "color": _colours([t["on_front"] for t in trials])},
                text=[_words(t) for t in trials],
                hovertemplate="%{text}<extra></extra>",
            ),
            go.Scatter(
                x=[x for _, x, _ in front],
                y=[y for _, _, y in front],
                mode="lines+markers",
                name="front, with networks stopped early",
                line={"shape": "hv", "color": BLUE, "width": 2},
                marker={"symbol": ["circle" if p["final"] else "circle-open" for p, _, _ in front], "size": 10},
                text=[_point(p) for p, _, _ in front],
                hovertemplate="%{text}<br>%{x}<br>%{y}<extra></extra>",
            ),
        ]
    )
    if again := [t for t in records["taken"] if {gain, cost} <= set(t["values"])]:
        gains, costs = ([spread(t["values"][axis]) for t in again] for axis in (gain, cost))
        figure.add_scatter(
            x=[mean for mean, _ in costs],
            y=[mean for mean, _ in gains],
            error_x={"array": [deviation for _, deviation in costs]},
            error_y={"array": [deviation for _, deviation in gains]},
            mode="markers",
            name="trained again with other seeds, mean ± deviation",
            marker={"symbol": "diamond-wide", "size": 9, "color": "#1f2430"},
            text=[f"{_point(t)}, {len(t['seeds'])} other seeds" for t in again],
            hovertemplate="%{text}<br>%{x}<br>%{y}<extra></extra>",
        )
    choices: list[tuple[str, list[Any]]] = [("on the front", [t["on_front"] for t in trials])]
    choices += [(key, [t["params"].get(key) for t in trials]) for key in keys]
    buttons = [
        {"label": label, "method": "restyle", "args": [{"marker.color": [_colours(values)]}, [0]]}
        for label, values in choices
    ]
    figure.update_layout(updatemenus=[{"buttons": buttons, "x": 1, "xanchor": "right", "y": 1.15, "yanchor": "top"}])
    return _dressed(figure, cost, gain)


def anytime_figure(records: StudyRecord) -> go.Figure:
    """Accuracy and energy of stopping each network of the front after t = 1 … T timesteps."""
    figure = go.Figure()
    on_front = [t for t in completed(records["trials"]) if t["on_front"] and len(t["anytime"]) > 1]
    for i, t in enumerate(sorted(on_front, key=lambda t: t["anytime"][-1]["energy_joules"])):
        steps = t["anytime"]
        figure.add_scatter(
            x=[p["energy_joules"] for p in steps],
            y=[p["accuracy"] for p in steps],
            mode="lines+markers",
            name=f"trial {t['number']}",
            line={"color": PALETTE[i % len(PALETTE)]},
            text=[f"t = {p['t']}" for p in steps],
        )
    return _dressed(figure, "energy", "accuracy")


def importance_figure(records: StudyRecord) -> go.Figure:
    """Share of each objective's variance that a parameter explains."""
    shares = {o: s for o, s in records["importance"].items() if s}
    names = sorted({k for s in shares.values() for k in s}, key=lambda k: max(s.get(k, 0.0) for s in shares.values()))
    figure = go.Figure(
        [
            go.Bar(
                y=names,
                x=[s.get(k) for k in names],
                orientation="h",
                name=o,
                marker={"color": PALETTE[i % len(PALETTE)]},
            )
            for i, (o, s) in enumerate(shares.items())
        ]
    )
    return figure.update_layout(template="plotly_white", xaxis={"title": "share of the variance", "tickformat": ".0%"})


def parallel_figure(records: StudyRecord) -> go.Figure:
    """Parallel coordinates of the searched parameters and the objectives, coloured by the first."""
    at = placed(records)
    trials = [t for t in records["trials"] if t["number"] in at]
    dimensions = [_dimension(key, [t["params"].get(key) for t in trials]) for key in _keys(trials)]
    for name in (o["name"] for o in records["objectives"]):
        dimensions.append({"label": name, "values": [t["values"][name] for t in trials]})
    colour = {"color": [at[t["number"]][1] for t in trials], "colorscale": "Cividis", "showscale": True}
    return go.Figure([go.Parcoords(line=colour, dimensions=dimensions)])


def hypervolume_figure(records: StudyRecord) -> go.Figure:
    """What the front so far dominates, after each finished trial, all against the same reference point; on the right
    with the costs in decades."""
    figure = go.Figure()
    kinds = (
        ("hypervolume", "hypervolume_over_trials", BLUE),
        ("with the costs in decades", "decades_over_trials", ORANGE),
    )
    for name, key, colour in kinds:
        if volumes := records[key]:  # type: ignore[literal-required]
            trials = list(range(1, len(volumes) + 1))
            axis = "y" if colour == BLUE else "y2"
            figure.add_scatter(y=volumes, x=trials, name=name, yaxis=axis, line={"shape": "hv", "color": colour})
    return figure.update_layout(
        template="plotly_white",
        xaxis={"title": "trials finished"},
        yaxis={"title": "hypervolume"},
        yaxis2={"title": "with the costs in decades", "overlaying": "y", "side": "right"},
        legend={"orientation": "h", "y": -0.2},
    )


def _keys(trials: Sequence[TrialRecord]) -> list[str]:
    return list(dict.fromkeys(k for t in trials for k in t["params"]))


def _dimension(key: str, values: Sequence[Any]) -> dict[str, Any]:
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return {"label": key, "values": list(values)}
    named = sorted({str(v) for v in values})
    ticks = {"tickvals": list(range(len(named))), "ticktext": [escape(name) for name in named]}
    return {"label": key, "values": [named.index(str(v)) for v in values], **ticks}


def _colours(values: Sequence[Any]) -> list[Any]:
    """A colour for each value: by size where they are numbers of many kinds, else one of the palette's."""
    distinct = sorted({v for v in values if v is not None}, key=lambda v: (isinstance(v, str), v))
    if len(distinct) > len(PALETTE) and all(isinstance(v, int | float) for v in distinct):
        from plotly.colors import sample_colorscale

        low, high = distinct[0], distinct[-1]
        return sample_colorscale("Cividis", [(v - low) / (high - low) if v is not None else 0.0 for v in values])
    if set(distinct) <= {True, False}:
        return [BLUE if v else "#c8ccd2" for v in values]
    return [PALETTE[distinct.index(v) % len(PALETTE)] if v is not None else "#c8ccd2" for v in values]


def _point(point: Point | Taken) -> str:
    return f"trial {point['number']}" + (f", t = {point['t']}" if point["t"] else "")


def _words(trial: TrialRecord) -> str:
    lines = [f"<b>trial {trial['number']}</b>"]
    lines += [f"{k} {si(v, 'J') if k == 'energy' else format(v, '.4g')}" for k, v in trial["values"].items()]
    for key, value in trial["params"].items():
        lines.append(f"{key} = {value:.4g}" if isinstance(value, float) else f"{key} = {escape(str(value))}")
    return "<br>".join(lines)


def _dressed(figure: go.Figure, cost: str, gain: str) -> go.Figure:
    kind = "log" if cost in LOGARITHMIC else "linear"
    return figure.update_layout(
        template="plotly_white",
        xaxis={"title": cost + UNITS.get(cost, ""), "type": kind, "exponentformat": "SI"},
        yaxis={"title": f"{gain} (validation)" if gain == "accuracy" else gain},
        legend={"orientation": "h", "y": -0.2},
    )
