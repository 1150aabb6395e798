"""Of a long study a sampler is shown the best and an even sample, whichever turn it is."""

from __future__ import annotations

import random

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from spikefront.analysis.pareto import non_dominated
from spikefront.errors import UserError
from spikefront.sweeping.search.anytime import Shown
from spikefront.sweeping.search.excerpt import Excerpt
from spikefront.sweeping.search.optuna_internals import as_asked
from spikefront.sweeping.study import attributes, brought

OBJECTIVES = {"accuracy": "maximize", "energy": "minimize"}


def trials(count):
    draw, found = random.Random(0), []
    for number in range(count):
        x, y = draw.random(), draw.random()
        trial = create_trial(
            values=[x, y], params={"x": x}, distributions={"x": optuna.distributions.FloatDistribution(0, 1)}
        )
        trial.number = number
        found.append(trial)
    return found


def numbers(found):
    return {t.number for t in found}


def ranks(found):
    """Trials by fronts, the best first."""
    left, fronts = list(found), []
    while left:
        keep = non_dominated([(-t.values[0], t.values[1]) for t in left])
        fronts.append({t.number for t, kept in zip(left, keep, strict=True) if kept})
        left = [t for t, kept in zip(left, keep, strict=True) if not kept]
    return fronts


def test_the_best_of_all_and_an_even_sample_that_stays():
    every, excerpt = trials(2000), Excerpt(OBJECTIVES, most=100)
    assert excerpt.choose(every[:100], {}, ()) is None
    before = None
    for count in (500, 501, 900, 2000):
        shown = excerpt.choose(every[:count], {}, ())
        assert len(shown) == 100 and [t.number for t in shown] == sorted(numbers(shown))
        first, *_ = ranks(every[:count])
        assert first <= numbers(shown)
        anew = Excerpt(OBJECTIVES, most=100).choose(every[:count], {}, ())
        assert numbers(shown) == numbers(anew)  # another worker, which has seen none of the turns before
        if count == 501:
            assert len(numbers(shown) & before) >= 98
        before = numbers(shown)
    rest = sorted(before - set().union(*ranks(every)[:3]))
    assert sum(n < 1000 for n in rest) == pytest.approx(len(rest) / 2, abs=8)


def test_what_breaks_a_constraint_is_not_among_the_best_and_what_is_early_on_the_front_is():
    every = sorted(trials(1000), key=lambda t: t.values[1] - t.values[0])
    best, beyond = every[0], attributes.constrained(every[0], {"energy < 0": 1.0})

    def shown(bound, early):
        return numbers(Excerpt(OBJECTIVES, most=20).choose(every, bound, early))

    assert best.number in shown({}, ()) and best.number not in shown({best.number: beyond}, ())
    worst = next(t.number for t in reversed(every) if t.number not in shown({}, ()))
    assert worst in shown({}, (worst,))


def test_a_sampler_asks_for_none_but_those():
    study = optuna.create_study(directions=list(OBJECTIVES.values()))
    study.add_trials(trials(300))
    sampler = optuna.samplers.TPESampler(seed=0, multivariate=True, n_startup_trials=5)
    shown = Shown(sampler, OBJECTIVES, brought.candidate, lambda _: [], excerpt=Excerpt(OBJECTIVES, most=50))
    study.sampler = shown
    trial = study.ask()
    assert 0 <= trial.suggest_float("x", 0, 1) <= 1
    assert len(shown._view(study).get_trials(states=(TrialState.COMPLETE,))) in (49, 50)
    assert as_asked(trial).number == 300


@pytest.mark.parametrize("most", [3, "all", 100.5])
def test_what_is_no_number_of_trials_is_a_line(most):
    with pytest.raises(
        UserError, match=f"search.excerpt is {most}: use a number of trials, 20 or more, or null for all"
    ):
        Excerpt(OBJECTIVES, most)
