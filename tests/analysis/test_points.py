"""A trial is T points: whoever lists a front lists the same ones."""

from __future__ import annotations

import csv
import io
import json

import made
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefront.analysis.front import minimised
from spikefront.commands.study import rows_of
from spikefront.console import console as plain_console
from spikefront.tracking.pages.front_table import front_table
from spikefront.tracking.pages.page import payload
from spikefront.tracking.wandb.study_run import front_rows, summary

level = st.integers(0, 6).map(lambda k: k / 6)  # few values: equal points and equal axes are common
steps = st.lists(st.tuples(level, st.integers(1, 6).map(float)), min_size=1, max_size=4)
OBJECTIVES = (
    {"accuracy": "maximize", "energy": "minimize"},
    {"energy": "minimize", "accuracy": "maximize", "parameters": "minimize"},
    {"accuracy": "maximize", "latency": "minimize"},
)


def study_of(trials, objectives):
    outcomes = []
    for number, points in enumerate(trials):
        anytime = [{"t": t, "accuracy": a, "energy_joules": e} for t, (a, e) in enumerate(points, 1)]
        accuracy, energy = points[-1]
        metrics = {"accuracy": accuracy, "energy": energy, "parameters": float(number % 3), "latency": energy * 2}
        outcomes.append({"state": "complete", "outcome": {"metrics": metrics, "anytime": anytime, "samples": 144}})
    return made.records_of("s", [*outcomes, {"state": "failed"}], objectives=objectives)


@settings(max_examples=examples(60), deadline=None, derandomize=True, database=None)
@given(st.lists(steps, max_size=8), st.sampled_from(OBJECTIVES))
def test_all_list_the_front_and_nothing_else(trials, objectives):
    found = study_of(trials, objectives)
    anytime = "latency" not in objectives
    assert len(found["points"]) == sum(len(t) if anytime else 1 for t in trials)
    values = [minimised(p["values"], objectives) for p in found["points"]]

    def dominated(own):
        return any(all(a <= b for a, b in zip(v, own, strict=True)) and v != own for v in values)

    expected = {(p["number"], p["t"]) for p, v in zip(found["points"], values, strict=True) if not dominated(v)}

    def listed(points):
        pairs = [(int(number), int(t) if t else None) for number, t in points]
        assert len(pairs) == len(set(pairs))
        return set(pairs)

    assert listed((p["number"], p["t"]) for p in found["front"]) == expected
    assert {t["number"] for t in found["trials"] if t["on_front"]} == {number for number, _ in expected}
    read = json.loads(json.dumps(found))
    assert listed((p["number"], p["t"]) for p in read["points"] if p["member"]) == expected
    rows = rows_of(found)
    assert len(rows) == len(found["points"]) + 1  # and the failed one
    assert listed((r["number"], r["t"]) for r in rows if r.get("on_front")) == expected
    (drawn,) = payload([found])["studies"]
    assert listed((p["number"], p.get("t")) for p in drawn["points"] if p.get("member")) == expected
    columns, table = front_rows(found)
    assert columns[:2] == ["trial", "t"] and listed(row[:2] for row in table) == expected
    assert summary(found)["front/points"] == len(expected)
    console = plain_console(file=io.StringIO(), width=200, force_terminal=False)
    console.print(front_table(found))
    cells = [line.split() for line in console.file.getvalue().splitlines()]
    shown = [c[:2] for c in cells if c and c[0].isdigit()]
    shown = [(number, t if anytime else None) for number, t in shown]
    if len(expected) == len(shown):  # a caption begins with a number too
        assert listed(shown) == expected
    else:
        assert listed(shown[: len(expected)]) == expected


def test_each_point_says_what_it_rests_on():
    found = made.study("s", 12, importance=False)
    early = next(p for p in found["points"] if p["t"] == 1)
    low, high = early["interval"]
    assert low < early["values"]["accuracy"] < high and early["samples"] == 360
    row = next(r for r in rows_of(found) if r["number"] == early["number"] and r["t"] == 1)
    assert (row["accuracy_low"], row["accuracy_high"], row["samples"], row["final"]) == (low, high, 360, False)
    text = io.StringIO()
    table = csv.DictWriter(text, list(dict.fromkeys(k for r in rows_of(found) for k in r)))
    table.writerows(rows_of(found))
    assert text.getvalue()


def test_a_front_stands_closer_before_it_cuts_a_name():
    found = made.study("s", 12, importance=False)

    def head(width: int) -> str:
        out = plain_console(file=io.StringIO(), width=width, force_terminal=False)
        out.print(front_table(found, width))
        return next(line for line in out.file.getvalue().splitlines() if "trial" in line and "accuracy" in line)

    whole = head(400).rstrip()
    closer = head(len(whole) - 1).split()
    assert closer == whole.split() and "…" not in closer


def test_nothing_is_cut_where_there_is_no_terminal(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert plain_console(file=io.StringIO()).width > 200 and plain_console(file=io.StringIO(), width=50).width == 50
