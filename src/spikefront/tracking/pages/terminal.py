"""A sweep in the terminal: one calm view that stays in place, or plain lines where there is no terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from spikefront.analysis.front import axes, placed, placed_front
from spikefront.analysis.progress import FINISHED, finished, left
from spikefront.analysis.schema import StudyRecord, TrialRecord
from spikefront.units import duration, figure, short_names

ENDED = ("complete", "pruned", "failed", "infeasible")
LOGARITHMIC = ("energy", "latency", "parameters", "memory")
ROWS = 8  # running trials shown
SCATTER = (52, 11)  # characters of the front's plot


class SweepView:
    """Shows a study while it grows; ``show`` takes its records as they are now.

    In a terminal the view is redrawn in place and gone at the end; elsewhere each trial that ends is a line.

    Args:
        budget: how many finished (complete or pruned) trials the study shall have.
    """

    def __init__(self, console: Console, budget: int, records: StudyRecord) -> None:
        self.console, self.budget = console, budget
        self._known = {t["number"] for t in records["trials"] if t["state"] in ENDED}
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._show(records)

    def __enter__(self) -> SweepView:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def show(self, records: StudyRecord) -> None:
        if not self._live:
            for line in self._lines(records):
                self.console.print(line)
        self._show(records)

    def _show(self, records: StudyRecord) -> None:
        if self._live:
            self._live.update(view(records, self.budget, self.console.width), refresh=self._live.is_started)

    def _lines(self, records: StudyRecord) -> list[str]:
        new = [t for t in records["trials"] if t["state"] in ENDED and t["number"] not in self._known]
        done = finished([t for t in records["trials"] if t["number"] in self._known])
        lines = []
        for t in sorted(new, key=lambda t: t["finished"] or ""):
            self._known.add(t["number"])
            done += t["state"] in FINISHED
            if t["state"] == "complete":
                what = "  ".join(f"{name} {figure(name, value)}" for name, value in t["values"].items())
            else:
                what = f"{t['state']}: {t['reason'] or ''}"
            lines.append(" ".join(f"{done}/{self.budget}  trial {t['number']}: {what}  {_params(t)}".splitlines()))
        return lines


def view(records: StudyRecord, budget: int, width: int = 100, now: float | None = None) -> RenderableType:
    """The view: how far, what runs, and the front."""
    states: Counter[str] = Counter(t["state"] for t in records["trials"])
    done = finished(records["trials"])
    parts: list[RenderableType] = [_progress(records, states, done, budget, width, now)]
    running = [t for t in records["trials"] if t["state"] == "running"]
    if running:
        parts += [Text(), _running(running)]
    if len(records["objectives"]) >= 2 and records["front"]:
        plot = scatter(records, min(SCATTER[0], max(20, width - 2)), SCATTER[1])
        body = Table.grid(padding=(0, 3))
        side = _front(records)
        if width >= SCATTER[0] + 46:
            body.add_row(plot, side)
        else:
            body.add_row(plot)
        parts += [Text(), body]
    return Group(*parts)


def scatter(records: StudyRecord, width: int, height: int) -> Text:
    """The trials as a small plot: front points bright, dominated ones faint; a cost such as energy on a log axis."""
    up, cost = axes(records["objectives"])
    logarithmic = cost in LOGARITHMIC

    def place(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(math.log10(x), y) for x, y in points if x > 0] if logarithmic else list(points)

    below = place(placed(records).values())
    front = place((x, y) for _, x, y in placed_front(records))
    every = below + front
    if not every:
        return Text()
    (x0, x1), (y0, y1) = ((min(v), max(v)) for v in zip(*every, strict=True))
    cells: dict[tuple[int, int], str] = {}
    for points, mark in ((below, "·"), (front, "●")):
        for x, y in points:
            column = round((x - x0) / (x1 - x0) * (width - 1)) if x1 > x0 else width // 2
            row = round((y1 - y) / (y1 - y0) * (height - 1)) if y1 > y0 else height // 2
            cells[row, column] = mark
    left = [figure(up, y1), *[""] * (height - 2), figure(up, y0)]
    margin = max(map(len, left))
    text = Text()
    for row in range(height):
        text.append(f"{left[row]:>{margin}} ", "dim").append("│", "dim")
        for column in range(width - margin - 2):
            mark = cells.get((row, column * (width - 1) // max(1, width - margin - 3)), " ")
            text.append(mark, "bold cyan" if mark == "●" else "dim")
        text.append("\n")
    ends = [figure(cost, 10**x if logarithmic else x) for x in (x0, x1)]
    text.append(" " * (margin + 1) + "└" + "─" * (width - margin - 2) + "\n", "dim")
    gap = width - margin - 2 - sum(map(len, ends))
    name = cost.center(max(0, gap))
    return text.append(" " * (margin + 2) + ends[0] + name + ends[1], "dim")


def _progress(
    records: StudyRecord, states: Counter[str], done: int, budget: int, width: int, now: float | None
) -> RenderableType:
    words = f"{done} of {budget} trials"
    remaining = left(records["trials"], budget, now)
    if remaining is not None:
        words += f", about {duration(remaining)} left"
    line = Table.grid(padding=(0, 2))
    line.add_row(ProgressBar(budget, done, width=min(40, width // 3)), Text(words))
    others = [f"{states[s]} {s}" for s in ("running", "pruned", "failed", "infeasible") if states[s]]
    if beyond := sum(bool(t["breaks"]) for t in records["trials"]):
        others.append(f"{beyond} finished that break search.constraints")
    return Group(Text(records["study"], "bold"), line, Text(", ".join(others), "dim"))


def _running(trials: Sequence[TrialRecord]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("trial", "epoch", "accuracy", "energy"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", style="dim", no_wrap=True, overflow="ellipsis")
    for t in trials[:ROWS]:
        last = t["curve"][-1] if t["curve"] else None
        cells = (
            [
                f"{last['epoch']}/{t['asked_epochs'] or '?'}",
                figure("accuracy", last["accuracy"]),
                figure("energy", last["energy_joules"]),
            ]
            if last
            else ["", "", ""]
        )
        table.add_row(str(t["number"]), *cells, _params(t))
    if len(trials) > ROWS:
        table.add_row("", "", "", "", f"and {len(trials) - ROWS} more")
    return table


def _front(records: StudyRecord) -> Table:
    names = [o["name"] for o in records["objectives"]]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("front", *(["t"] if any(p["t"] is not None for p in records["front"]) else []), *names):
        table.add_column(name, justify="right", no_wrap=True)
    shown = records["front"]
    if len(shown) > SCATTER[1]:  # evenly, both ends among them
        shown = [shown[round(i * (len(shown) - 1) / (SCATTER[1] - 1))] for i in range(SCATTER[1])]
    for point in shown:
        t = [] if len(table.columns) == len(names) + 1 else [str(point["t"] or "")]
        table.add_row(str(point["number"]), *t, *(figure(n, point["values"][n]) for n in names))
    return table


def _params(trial: TrialRecord) -> str:
    short = short_names(trial["params"])
    pairs = ((short[k], v) for k, v in trial["params"].items())
    return " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in pairs)
