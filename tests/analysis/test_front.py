"""What of a study's record is drawn, and where."""

from __future__ import annotations

import made
import pytest

from spikefront.analysis.front import axes, placed, placed_front


@pytest.mark.parametrize(
    ("objectives", "drawn"),
    [
        ({"accuracy": "maximize", "energy": "minimize"}, ("accuracy", "energy")),
        ({"energy": "minimize", "latency": "minimize", "accuracy": "maximize"}, ("accuracy", "energy")),
        ({"latency": "minimize", "accuracy": "maximize"}, ("accuracy", "latency")),
        ({"accuracy": "maximize"}, ("accuracy", "energy")),
        ({"parameters": "minimize", "latency": "minimize"}, ("accuracy", "parameters")),
    ],
)
def test_the_first_of_each_direction_is_drawn(objectives, drawn):
    study = made.study("s", 8, objectives=objectives, importance=False)
    assert axes(study["objectives"]) == drawn
    at = placed(study)
    assert at == {t["number"]: (t["metrics"][drawn[1]], t["metrics"][drawn[0]]) for t in study["trials"][:8]}
    front = placed_front(study)
    assert len(front) == len(study["front"]) and [x for _, x, _ in front] == sorted(x for _, x, _ in front)
    assert all((x, y) == at[p["number"]] for p, x, y in front if p["final"])


def test_what_lacks_a_figure_is_not_drawn():
    known = {"state": "complete", "outcome": {"metrics": {"accuracy": 0.9}}}
    study = made.records_of("s", [known], objectives={"accuracy": "maximize"})
    assert len(study["front"]) == 1 and placed(study) == {} and placed_front(study) == []
