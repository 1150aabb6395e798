"""A comparison for people: tables of who is ahead at which energy, and which settings differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table

from spikefront.analysis.attainment import attainment
from spikefront.analysis.compare import (
    Placed,
    Side,
    best_within,
    cheapest_above,
    differences,
    levels,
    sides,
    stretches,
    volumes,
)
from spikefront.analysis.confidence import spread
from spikefront.analysis.front import axes, placed, placed_front
from spikefront.analysis.schema import StudyRecord
from spikefront.units import figure


def comparison(records: Sequence[StudyRecord], by: str) -> tuple[list[StudyRecord], list[Table | str]]:
    """The studies by one parameter's value, as records to be drawn, and what is to be printed about them.

    Raises:
        KeyError: no study knows the parameter.
    """
    every = sides(records, by)
    gain, cost = axes(records[0]["objectives"])
    costs, gains = levels(every)
    shown: list[Table | str] = []
    if costs:
        shown.append(_table(f"{gain} at most so much {cost} can buy, by {by}", every, costs, cost, best_within, gain))
        shown.append(_table(f"{cost} that so much {gain} takes, by {by}", every, gains, gain, cheapest_above, cost))
        shown += _ahead(every, by, cost)
    shown += [
        f"hypervolume {by}={s['value']}: {s['hypervolume']:.4g}, with {cost} in decades {s['decades']:.4g}"
        f" ({s['trials']} trial{'' if s['trials'] == 1 else 's'})"
        for s in every
    ]
    return [r for s in every for r in s["records"]], shown


def told_differences(records: Sequence[StudyRecord]) -> list[str]:
    """Settings in which studies differ, a line each."""
    names = [r["study"] for r in records]
    return [
        f"{key}: {', '.join(f'{v} in {n}' for v, n in zip(values, names, strict=True))}"
        for key, values in differences(records).items()
    ]


def told_volumes(records: Sequence[StudyRecord]) -> Iterator[str]:
    """A line for each study with a front, its hypervolume with the cost as it is and in decades, and one for each
    search of which there are several runs, mean and deviation; all up to the worst cost of the studies given."""
    cost = axes(records[0]["objectives"])[1]
    reference = max((x for r in records for x, _ in placed(r).values()), default=0.0)
    known = [volumes([(x, y) for _, x, y in placed_front(r)], reference) for r in records]
    for record, (linear, decades) in zip(records, known, strict=True):
        if record["front"]:
            yield (
                f"{record['study']}: hypervolume {linear:.4g}, with {cost} in decades {decades:.4g}"
                f" (up to {figure(cost, reference)})"
            )
    for found in attainment(records):
        linears, in_decades = (
            "{:.4g} ± {:.2g}".format(*spread(values)) for values in zip(*(known[i] for i in found["runs"]), strict=True)
        )
        yield (
            f"{len(found['runs'])} runs of one search ({', '.join(records[i]['study'] for i in found['runs'])}):"
            f" hypervolume {linears}, with {cost} in decades {in_decades} (mean ± deviation)"
        )


def _table(title: str, every: Sequence[Side], at: Sequence[float], at_name: str, pick: object, name: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False)
    table.show_edge = False
    table.add_column(at_name, justify="right", no_wrap=True)
    for side in every:
        table.add_column(side["value"], justify="right", no_wrap=True)
    for level in at:
        picked = [pick(side, level) for side in every]  # type: ignore[operator]
        table.add_row(figure(at_name, level), *(_cell(p, name, pick is best_within) for p in picked))
    return table


def _cell(point: Placed | None, name: str, upwards: bool) -> str:
    if point is None:
        return "-"
    own, x, y = point
    sure = "" if own["interval"] is None or name != "accuracy" else " ({:.2f}-{:.2f})".format(*own["interval"])
    return figure(name, y if upwards else x) + sure


def _ahead(every: Sequence[Side], by: str, cost: str) -> Iterator[str]:
    for value, begun, end, n in stretches(every):
        where = figure(cost, begun) if begun == end else f"{figure(cost, begun)} to {figure(cost, end)}"
        yield f"ahead at {where}: {by}={value} ({n} point{'s' if n > 1 else ''} of the joint front)"
