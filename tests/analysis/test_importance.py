"""Which parameters matter: shares with their spread, from enough trials."""

from __future__ import annotations

import made
import pytest

from spikefront.analysis.importance import ENOUGH, importances, study_of
from spikefront.commands.study import importance_lines


def test_shares_add_up_and_say_how_far_they_are_to_be_trusted():
    found = made.study("s", 40)
    for objective in ("accuracy", "energy"):
        shares, spread = found["importance"][objective], found["importance_spread"][objective]
        assert shares.keys() == spread.keys() == found["trials"][0]["params"].keys()
        assert sum(shares.values()) == pytest.approx(1) and all(0 < s < 0.5 for s in spread.values())
    assert next(iter(found["importance"]["energy"])) == "model.dim"  # of which the made-up energy is made
    (line,) = [x for x in importance_lines(found) if "energy" in x]
    assert " ± " in line
    points = [(t["params"], t["values"]) for t in found["trials"] if t["values"]]
    shares, _ = importances(study_of(points, made.OBJECTIVES), made.OBJECTIVES)  # as from W&B
    assert max(shares["energy"], key=shares["energy"].get) == "model.dim"


def test_of_too_few_trials_nobody_can_say():
    found = made.study("s", ENOUGH - 1)
    assert found["importance"] == {"accuracy": {}, "energy": {}} and not list(importance_lines(found))
