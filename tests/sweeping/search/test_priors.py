"""Priors: what a user thinks is good is tried sooner by any sampler, and costs little where it is wrong."""

from __future__ import annotations

import re
import statistics

import optuna
import pytest
from examples import few

from spikefront.config import compose
from spikefront.errors import UserError
from spikefront.sweeping.search import priors
from spikefront.sweeping.search.samplers import Exhaustive
from spikefront.sweeping.search.space import Space
from spikefront.sweeping.study import attributes
from spikefront.sweeping.worker.proposal import propose, sampler

OBJECTIVES = {"accuracy": "maximize", "energy": "minimize"}
SPACE = {
    "neuron": "choice(lif,plif,ilif)",
    "neuron.threshold": "tag(log,interval(0.25,4.0))",
    "model.timesteps": "range(1,9)",
    "neuron.tau": {"values": "interval(1.1,8.0)", "when": "neuron != 'ilif'"},
}
GIVEN = "+search.priors={neuron: plif, neuron.threshold: {value: 3.0, confidence: high}, model.timesteps: 8}"


def proposed(name, *options, trials=60):
    """What a sampler proposes where all trials come to the same."""
    search = compose([f"search/sampler={name}", "search.sampler.seed=0", *options], root="sweep").search
    study, space = optuna.create_study(directions=list(OBJECTIVES.values())), Space.parse(SPACE)
    study.sampler = sampler(search, OBJECTIVES, space)
    found = []
    for _ in range(trials):
        trial = study.ask()
        found.append(propose(trial, study, space))
        study.tell(trial, [0.5, 1e-6])
    return found


@pytest.mark.parametrize("name", few(["tpe", "nsga2", "qmc", "random", "gp", "front"]))
def test_the_first_trials_of_any_sampler_lie_nearer_to_the_priors_and_the_last_do_not(name):
    trials = 24 if name == "gp" else 60
    own, guided = proposed(name, trials=12), proposed(name, GIVEN, trials=trials)
    space = Space.parse(SPACE)
    assert all(space.holds(k, v) for p in guided for k, v in p.items()) and all(
        space.active(p) == list(p) for p in guided
    )
    near = lambda ps: statistics.mean(p["neuron.threshold"] > 2 for p in ps)
    assert near(guided[:12]) > near(own) + 0.2
    if name == "random":
        assert near(guided[40:]) < 0.5


def test_one_seed_proposes_the_same_with_the_same_priors():
    assert proposed("random", GIVEN, trials=10) == proposed("random", GIVEN, trials=10) != proposed("random", trials=10)


def test_a_prior_beside_the_values_is_the_same_as_one_of_the_search():
    space = Space.parse({"neuron.threshold": {"values": "interval(0.5,2)", "prior": 1.0, "confidence": "high"}})
    (parameter,) = space
    assert priors.parse({parameter.key: parameter.prior}, space) == {"neuron.threshold": priors.Prior(1.0, "high")}
    assert space.to_plain() == {"neuron.threshold": "interval(0.5,2)"}  # another prior is no other search


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"model.depth": 2}, "search.priors.model.depth: it isn't searched"),
        ({"neuron.threshold": 9.0}, "search.priors.neuron.threshold is 9.0: not one of tag(log,interval(0.25,4.0))"),
        ({"neuron": "if"}, "search.priors.neuron is if: not one of choice(lif,plif,ilif)"),
        ({"neuron": {"value": "lif", "confidence": "total"}}, "confidence is total: use low, medium, high"),
        ("abc", "search.priors is abc: write {<searched key>: <value>}"),
        ({"neuron": {"values": "lif"}}, "write {value: …, confidence: medium}"),
    ],
)
def test_what_is_no_prior_is_said(entries, said):
    with pytest.raises(UserError, match=re.escape(said)):
        priors.parse(entries, Space.parse(SPACE))


@pytest.mark.parametrize(
    "entry", [{"values": "interval(1,2)", "confidence": "low"}, {"values": "interval(1,2)", "prio": 1}]
)
def test_a_space_with_half_a_prior_is_refused(entry):
    with pytest.raises(UserError, match=r"search\.space\.neuron\.threshold"):
        Space.parse({"neuron.threshold": entry})


def test_a_sampler_that_takes_none_says_so():
    given = {"neuron": priors.Prior("lif")}
    grid = Exhaustive()
    assert priors.guided(grid, given) is grid and "looks at no priors" in str(priors.note(grid, "grid", given))
    assert priors.note(grid, "grid", {}) is None


def test_a_sweep_goes_on_with_other_priors_and_its_workers_follow_the_last(make_sweep):
    """What is drawn near them depends on the trial's number alone."""
    sweep = make_sweep("search.n_trials=2", "search.default_first=false")
    sweep.run_here()
    given = {"model.timesteps": {"value": 4, "confidence": "high"}, "neuron.threshold": 1.9}
    later = sweep.changed(
        "search.n_trials=8", "+search.priors={model.timesteps: {value: 4, confidence: high}, neuron.threshold: 1.9}"
    )
    later.run_here()
    assert attributes.settings(later.study())["priors"] == given
    near = [
        t.number
        for t in later.study().trials
        if t.params["model.timesteps"] == 4 and t.params["neuron.threshold"] > 1.5
    ]
    assert len(later.study().trials) == 8 and len([n for n in near if n >= 2]) >= 2
