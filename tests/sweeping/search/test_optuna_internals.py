"""What `sweeping/search/optuna_internals.py` takes from Optuna. If one fails, mend that module alone."""

from __future__ import annotations

import copy

import numpy as np
import optuna
import pytest
from hydra.utils import instantiate
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.samplers._lazy_random_state import LazyRandomState

from spikefront.config import ROOT, compose
from spikefront.errors import UserError
from spikefront.sweeping.search.optuna_internals import StudyView, contains, id_of, random_states
from spikefront.sweeping.search.samplers import seeded

SAMPLERS = sorted(p.stem for p in (ROOT / "sweeps" / "search" / "sampler").glob("*.yaml"))
LEARNS = ("cmaes", "gp", "nsga2", "nsga3", "tpe")


def make(name):
    return instantiate(compose([f"search/sampler={name}"], root="sweep").search.sampler)


def test_a_trial_is_found_in_its_storage_by_its_id():
    study = optuna.create_study()
    optuna.create_study(storage=study._storage).ask()  # numbers and ids differ
    for trial in (study.ask(), study.ask()):
        assert study._storage.get_trial(id_of(trial)).number == trial.number != id_of(trial)


def test_a_distribution_contains_its_steps_only():
    assert contains(IntDistribution(1, 9, step=2), 3) and not contains(IntDistribution(1, 9, step=2), 4)
    assert contains(FloatDistribution(0.0, 1.0), 0.5) and not contains(FloatDistribution(0.0, 1.0), 1.5)


@pytest.mark.parametrize("name", [s for s in SAMPLERS if s != "front"])  # which is ours, and has one of NumPy's
def test_every_random_state_that_a_sampler_makes_is_found(name, monkeypatch):
    """One that is missed would draw differently in every search, seed or not."""
    made, init = [], LazyRandomState.__init__
    monkeypatch.setattr(LazyRandomState, "__init__", lambda self, *a, **k: (made.append(self), init(self, *a, **k))[1])
    sampler = make(name)
    assert made
    assert {id(state) for state in random_states(sampler)} == {id(lazy.rng) for lazy in made}


def test_a_sampler_in_which_no_random_state_is_found_is_not_taken_for_seeded():
    class Own(BaseSampler):
        infer_relative_search_space = sample_relative = lambda *_: {}

        def __init__(self):
            self.draw = np.random.default_rng()

        def sample_independent(self, study, trial, name, distribution):
            return self.draw.uniform(distribution.low, distribution.high)

    own = Own()
    assert seeded(own, None) is own
    with pytest.raises(UserError, match=r"search\.sampler\.seed=3: Own keeps no random state that could be seeded"):
        seeded(own, 3)


@pytest.mark.parametrize("name", LEARNS)
def test_samplers_read_a_study_through_the_view_alone(name, monkeypatch):
    """One that asked the storage itself would learn from other values than those it is shown."""
    directions = ["minimize"] if name == "cmaes" else ["minimize", "maximize"]
    study = optuna.create_study(directions=directions, sampler=RandomSampler(seed=0))
    space = {"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)}
    for _ in range(25):
        trial = study.ask(space)
        study.tell(trial, [trial.params["x"]] * len(directions))
    first = copy.copy(study.trials[0])
    first.values = [-5.0] * len(directions)
    view, reads = StudyView(study, {0: first}), []
    read = StudyView._get_trials
    monkeypatch.setattr(StudyView, "_get_trials", lambda *a, **k: (reads.append(read(*a, **k)), reads[-1])[1])
    aside = []
    inner = study._storage.get_all_trials

    def get_all_trials(*args, **kwargs):
        aside.append(1)
        return inner(*args, **kwargs)

    monkeypatch.setattr(study._storage, "get_all_trials", get_all_trials)
    sampler, waiting = make(name), study._storage.get_trial(id_of(study.ask()))
    aside.clear()
    found = sampler.infer_relative_search_space(view, waiting)
    sampler.sample_relative(view, waiting, found)
    sampler.sample_independent(view, waiting, "z", FloatDistribution(0, 1))
    assert any(t.number == 0 and t.values == first.values for trials in reads for t in trials)
    assert len(aside) <= len(reads)
