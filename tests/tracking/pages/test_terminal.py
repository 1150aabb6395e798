"""The sweep in the terminal: what the view says, and plain lines where there is none."""

from __future__ import annotations

import io

import made
import pytest

from spikefront.analysis.progress import left
from spikefront.console import console as plain_console
from spikefront.tracking.pages.terminal import SweepView, scatter, view


def text(renderable, width=120) -> str:
    console = plain_console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(renderable)
    return console.file.getvalue()


@pytest.fixture
def study():
    return made.study("architecture", 20, importance=False)


@pytest.mark.parametrize("width", [60, 120])
def test_view_says_how_far_what_runs_and_the_front(study, width):
    shown = text(view(study, 40, width), width)
    assert "architecture" in shown and "21 of 40 trials" in shown and "1 pruned" in shown and "1 running" in shown
    assert "0.8750" in shown and "200 nJ" in shown  # the running trial's last epoch
    assert shown.count("●") >= 3 and "·" in shown
    assert max(len(line) for line in shown.splitlines()) <= width
    assert ("front" in shown) == (width == 120)  # the front's table where there is room beside the plot


def test_front_is_a_staircase_up_and_to_the_right(study):
    rows = [line for line in scatter(study, 52, 11).plain.splitlines() if "│" in line]
    marks = [(line.index("●"), i) for i, line in enumerate(rows) if "●" in line]
    assert marks == sorted(marks, reverse=True) and len(rows) == 11
    assert "%" not in rows[0] and "energy" in scatter(study, 52, 11).plain


def test_eta_is_what_is_missing_over_those_that_run():
    def trial(state, start, end=0):
        outcome = {"metrics": {"accuracy": 0.5, "energy": 1.0}}
        return {"state": state, "span": (start, end), "outcome": outcome if state == "complete" else None}

    begun = [trial("complete", 0, 10), trial("pruned", 0, 20), trial("complete", 0, 10)]
    trials = made.records_of("eta", [*begun, trial("running", 95), trial("running", 100)])["trials"]
    now = made.BEGAN.timestamp() + 100
    assert left(trials, 7, now=now) == pytest.approx((4 * 10 - 5) / 2)
    assert left(trials, 3, now=now) is None and left(trials[3:], 7, now=now) is None and left(trials[:3], 7) is None


def test_without_a_terminal_each_ended_trial_is_a_line_once(study):
    console = plain_console(file=io.StringIO(), width=200, force_terminal=False)
    began = {**study, "trials": study["trials"][:2]}
    with SweepView(console, 40, began) as shown:
        shown.show(study)
        shown.show(study)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 18 + 3 and lines[0].startswith("3/40  trial 2: accuracy 0.")
    assert any("failed: loss is <NaN>" in line for line in lines)


@pytest.mark.parametrize("reason", ["can't read [/data/train]", "[bold", "[/]", "one\nof two"])
def test_without_a_terminal_each_failed_trial_is_a_line_whatever_its_reason(reason):
    begun = made.records_of("s [/x]", [], space={"logger.tags": "choice([mlp,head],[/x])"})
    failed = [{"state": "failed", "params": {"logger.tags": tags}} for tags in ("[mlp,head]", "[/x]")]
    study = made.records_of("s [/x]", failed, space={"logger.tags": "choice([mlp,head],[/x])"})
    for trial in study["trials"]:
        trial["reason"] = reason
    out = plain_console(file=io.StringIO(), width=200)
    with SweepView(out, 4, begun) as shown:
        shown.show(study)
    lines = out.file.getvalue().splitlines()
    assert [line.split()[2] for line in lines] == ["0:", "1:"]
    assert all(reason.replace("\n", " ") in line for line in lines)
    assert "tags=[mlp,head]" in lines[0] and "tags=[/x]" in lines[1]
    assert "s [/x]" in text(view(study, 4))


def test_in_a_terminal_the_view_stays_in_place_and_leaves_nothing(study):
    out = io.StringIO()
    console = plain_console(file=out, width=100, force_terminal=True)
    with SweepView(console, 40, study) as shown:
        shown.show(study)
        console.print("a worker was killed; starting another")
        shown.show(study)
    assert "\x1b[2K" in out.getvalue() and "a worker was killed" in out.getvalue()
