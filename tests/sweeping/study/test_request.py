"""What a sweep's command asks for, and what of it is not quite what will happen."""

from __future__ import annotations

import pytest
from examples import few
from hydra.errors import HydraException
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState
from pretended import OPTIONS

from spikefront.sweeping.study import request
from spikefront.sweeping.study.attributes import ORIGIN

NUMBERS = ("model.timesteps=int(interval(1,4))", "neuron.threshold=interval(0.5,2)")
MIXED = (*NUMBERS, "model.dim=choice(32,64)", "optimizer=adamw,lamb")
ONE = "search.objectives=[accuracy]"


def read(make_sweep, space, *overrides):
    search = make_sweep("search.n_trials=2", *overrides, space=space)
    return request.read(search.cfg(), [*search.overrides, *space], lambda group: OPTIONS.get(group, []), False, None)


@pytest.mark.parametrize("sampler", few(["cmaes", "qmc", "tpe", "gp", "nsga2", "random"]))
def test_what_a_sampler_leaves_to_chance_is_said(make_sweep, sampler):
    asked = read(make_sweep, MIXED, f"search/sampler={sampler}", ONE)
    left = [p.key for p in asked.space if isinstance(p.distribution, CategoricalDistribution)]
    assert len(asked.notes) == (sampler in ("cmaes", "qmc"))
    for note in asked.notes:
        assert f"search/sampler={sampler} draws {', '.join(left)} at random" in note
    assert not read(make_sweep, NUMBERS, f"search/sampler={sampler}", ONE).notes


def test_one_objective_may_be_a_name_alone(make_sweep):
    assert read(make_sweep, NUMBERS, "search.objectives=accuracy").objectives == {"accuracy": "maximize"}


@pytest.mark.parametrize("pruner", few(["median", "asha", "hyperband", "front", "none"]))
def test_a_pruner_that_judges_one_of_two_objectives_says_so(make_sweep, pruner):
    judges = f"search/pruner={pruner}"
    notes = read(make_sweep, NUMBERS, judges).notes
    assert len(notes) == (pruner in ("median", "asha", "hyperband"))
    assert all(f"{judges} judges accuracy alone" in n and "search/pruner=front judges both" in n for n in notes)
    if notes:
        assert not read(make_sweep, NUMBERS, judges, ONE).notes
        assert "judges energy alone" in read(make_sweep, NUMBERS, judges, "search.prune_on=energy").notes[0]


@pytest.mark.parametrize(
    ("space", "is_it"),
    few(
        [
            ("model.timesteps=choice(1,4)", True),
            ("model.timesteps=choice(1,2)", False),  # drawn
            ("model.timesteps=range(1,3)", False),  # 2 is as near as it gets
            ("neuron.threshold=interval(2,3)", False),
            ("neuron=lif,if", True),
            ("neuron=plif,if", False),
        ]
    ),
)
def test_the_default_configuration_is_known_from_one_near_it(make_sweep, space, is_it):
    assert read(make_sweep, (space,)).default_whole == is_it


def test_trial_0_is_called_what_it_is(make_sweep, capfd):
    search = make_sweep("search.n_trials=1", "search/pruner=median", space=("model.timesteps=choice(1,2)",))
    search.run_here()
    (trial,) = search.study().get_trials(states=(TrialState.COMPLETE,))
    assert ORIGIN.get(trial) == "nearest to the default configuration"
    assert "judges accuracy alone" in capfd.readouterr().out  # at the sweep's start


@pytest.mark.parametrize(
    ("key", "values", "exists"),
    [
        ("neuron.tau", "choice(1.5,3)", True),
        ("neuron.tua", "choice(1.5,3)", False),
    ],
)
def test_what_only_some_configurations_have_is_tried_in_one_that_has_it(make_sweep, key, values, exists):
    search = make_sweep("search.n_trials=2")
    cfg = search.cfg()
    cfg.search.space = {"neuron": "ilif,plif", key: {"values": values, "when": "neuron == 'plif'"}}
    asked = lambda: request.read(cfg, search.overrides, lambda group: OPTIONS.get(group, []), False, None)
    if exists:
        assert [p.key for p in asked().space] == ["neuron", key]
    else:
        with pytest.raises(HydraException, match="tua"):
            asked()
