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


def test_a_record_has_the_hypervolume_in_decades_too():
    def of(*points, objectives=made.OBJECTIVES):
        trials = [{"state": "complete", "outcome": {"metrics": {"accuracy": a, "energy": e}}} for e, a in points]
        return made.records_of("s", trials, objectives=objectives)

    found = of((10.0, 0.8), (1.0, 0.5), (1e-9, 0.1))
    # up to 10: the cheaper ones (10 - 1) * 0.5 and nearly 1 * 0.1; a decade of 0.5 and two more of 0.1
    assert found["hypervolume_over_trials"] == pytest.approx([0, 4.5, 4.6])
    assert found["decades_over_trials"] == pytest.approx([0, 0.5, 0.7]) and found["decades"] == pytest.approx(0.7)
    assert of((10.0, 0.8), objectives={"accuracy": "maximize"})["decades"] is None
    assert of((0.0, 0.8))["decades"] is None and of()["decades"] is None
