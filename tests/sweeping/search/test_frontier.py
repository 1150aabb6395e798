"""The front sampler: what points are worth to a front, what is between known trials, and what is proposed for it."""

from __future__ import annotations

import math
import random

import numpy as np
import optuna
import pytest
from hydra.utils import instantiate
from hypothesis import example, given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from spikefront.analysis import pareto
from spikefront.analysis.front import DECADES, in_decades
from spikefront.config import compose
from spikefront.errors import UserError
from spikefront.sweeping.search import finite
from spikefront.sweeping.search.optuna_internals import contains
from spikefront.sweeping.search.space import Space
from spikefront.sweeping.search.surrogate import Process
from spikefront.sweeping.search.worth import Gains, placed, volumes
from spikefront.sweeping.study import attributes
from spikefront.sweeping.worker.proposal import propose, sampler

OBJECTIVES = {"accuracy": "maximize", "energy": "minimize"}


def volume(points, worst):
    return sum(volumes(points, worst)) / 2


def some_points(seed, n=12):
    draw = np.random.default_rng(seed)
    return np.stack([draw.random(n), 10.0 ** draw.uniform(-9, -5, n)], axis=1)


@pytest.mark.parametrize("seed", range(3))
def test_volumes_are_those_in_joules_and_in_decades_and_places_have_their_mean(seed):
    points, worst = some_points(seed), 1e-5
    minimised = points * [-1, 1]
    linear = pareto.hypervolume(minimised, (0.0, worst)) / worst
    decades = pareto.hypervolume(*in_decades(minimised, (0.0, worst), [1])) / DECADES
    assert volumes(points, worst) == pytest.approx((linear, decades), rel=1e-9)
    mean = pareto.hypervolume(np.stack([-points[:, 0], placed(points[:, 1], worst)], axis=1), (0.0, 1.0))
    assert mean == pytest.approx((linear + decades) / 2, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_gains_are_what_the_volume_grows_by(seed):
    front, worst = some_points(seed), 1e-5
    sets = np.stack([some_points(100 * seed + i, 3) for i in range(1, 20)])
    found = Gains(front, worst, cells=2000).of(sets[..., 0], sets[..., 1])
    wanted = [volume(np.vstack([front, s]), worst) - volume(front, worst) for s in sets]
    assert found == pytest.approx(wanted, abs=2e-3) and max(wanted) > 0.01


def test_what_is_dominated_adds_nothing():
    assert Gains([(0.9, 1e-7)], 1e-6).of(np.array([[0.9, 0.8]]), np.array([[1e-7, 5e-7]])).tolist() == [0.0]


def test_a_process_learns_what_matters_and_knows_where_it_knows_little():
    draw = np.random.default_rng(0)
    rows, fresh = draw.uniform(-1, 1, (60, 5)), draw.uniform(-1, 1, (200, 5))
    truth = lambda x: np.sin(3 * x[:, 0]) + 2 * x[:, 1]
    process = Process(rows, truth(rows) + draw.normal(0, 0.05, 60))
    mean, error = process(fresh)
    assert np.abs(mean - truth(fresh)).mean() < 0.15  # the best straight line is off by 0.35
    assert np.mean(np.abs(mean - truth(fresh)) < 2 * error + 0.05) > 0.9
    _, far = process(np.full((1, 5), 4.0))
    assert far[0] > 3 * error.mean()


def test_a_process_of_equal_values_is_sure_of_them():
    mean, error = Process(np.arange(6.0)[:, None], np.full(6, 0.3))(np.array([[2.5]]))
    assert mean[0] == pytest.approx(0.3) and error[0] < 1e-3


DISTRIBUTIONS = st.sampled_from(
    [
        IntDistribution(1, 4),
        IntDistribution(2, 64, log=True),
        IntDistribution(0, 12, step=4),
        IntDistribution(3, 3),
        FloatDistribution(0.25, 4.0, log=True),
        FloatDistribution(-1.0, 2.0),
        FloatDistribution(0.1, 0.7, step=0.2),
        CategoricalDistribution((16, 24, 32, 64)),
        CategoricalDistribution(("lif", "plif", None, True)),
        CategoricalDistribution(("alone",)),
    ]
)


def is_among(d, value):
    if isinstance(d, CategoricalDistribution):
        return any(value is c or (type(value) is type(c) and value == c) for c in d.choices)
    return contains(d, value)


@example(FloatDistribution(0.1, 0.7, step=0.2), 0.75, 171)  # 0.1 + 3 * 0.2 is above 0.7
@given(DISTRIBUTIONS, st.floats(0, 1), st.integers(0, 2**31))
def test_what_is_drawn_and_what_is_beside_it_are_values_of_the_parameter(d, share, seed):
    value = finite.at(d, share)
    near = finite.beside(d, value, random.Random(seed))
    assert is_among(d, value) and is_among(d, near)
    assert finite.size(d) == 1 or finite.size(d) == math.inf or near != value


def test_shares_reach_every_value_as_evenly_as_it_is_searched():
    at = [finite.at(IntDistribution(1, 4), (i + 0.5) / 400) for i in range(400)]
    assert [at.count(v) for v in range(1, 5)] == [100] * 4
    logs = [math.log(finite.at(FloatDistribution(0.25, 4.0, log=True), s)) for s in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert np.diff(logs) == pytest.approx([math.log(2)] * 4)


SPACE = {
    "model.timesteps": "range(1,5)",
    "model.dim": "choice(16,32,64)",
    "neuron": "choice(lif,ilif)",
    "neuron.threshold": "tag(log,interval(0.25,4.0))",
    "neuron.tau": {"values": "interval(1.1,4.0)", "when": "neuron == 'lif'"},
}


def outcome(p):
    """A made-up network: larger is better and dearer, a threshold of 1 best, one above 2.5 silent."""
    silent, neuron = (
        p["neuron.threshold"] > 2.5,
        0.05 * (p["neuron"] == "lif") * (1 - (p.get("neuron.tau", 2) - 2) ** 2 / 4),
    )
    best = 0.5 + 0.15 * math.log2(p["model.dim"] / 16) - 0.2 * math.log(p["neuron.threshold"]) ** 2 + neuron
    accuracies = [0.1 if silent else max(0.1, best * (1 - 0.4 / t)) for t in range(1, p["model.timesteps"] + 1)]
    return [(a, 1e-9 * t * p["model.dim"] ** 2 / p["neuron.threshold"]) for t, a in enumerate(accuracies, 1)]


class Search:
    """Ask and tell with our sampler as a worker has it."""

    def __init__(self, *options, seed=0, space=SPACE):
        self.search = compose([*options, f"search.sampler.seed={seed}"], root="sweep").search
        self.space = Space.parse(space)
        self.study = optuna.create_study(directions=list(OBJECTIVES.values()))
        attributes.RECORD.set(self.study, {"space": self.space.to_plain()})
        self.study.sampler = sampler(self.search, OBJECTIVES, self.space)

    def ask(self):
        trial = self.study.ask()
        return trial, propose(trial, self.study, self.space)

    def tell(self, trial, params, seconds=1.0):
        points = outcome(params)
        steps = [{"t": t, "accuracy": a, "energy_joules": e} for t, (a, e) in enumerate(points, 1)]
        metrics = dict(zip(OBJECTIVES, points[-1], strict=True))
        attributes.set_outcome(trial, {"metrics": metrics, "anytime": steps, "seconds": seconds})
        self.study.tell(trial, list(points[-1]))
        return points

    def run(self, trials, seconds=lambda params: 1.0):
        return [self.tell(trial, params, seconds(params)) for trial, params in (self.ask() for _ in range(trials))]


def reached(*options, seed, trials=30):
    points = [p for found in Search(*options, seed=seed).run(trials) for p in found]
    return volume(points, 1e-9 * 4 * 64**2 * 4)


def test_it_finds_more_than_chance_in_as_many_trials():
    """Also where the first trials are all cheap, and nothing says yet how dear a network may be."""
    ours = [reached("search/sampler=front", "search.sampler.candidates=300", seed=s) for s in range(6)]
    chance = [reached("search/sampler=random", seed=s) for s in range(6)]
    assert min(ours) > max(chance)


def proposals(search, n=3):
    return [params for _, params in (search.ask() for _ in range(n))]


def test_one_seed_proposes_one_thing_and_what_still_trains_is_not_proposed_again():
    made = []
    for seed in (1, 1, 2):
        search = Search("search/sampler=front", "search.sampler.candidates=200", seed=seed)
        search.run(12, seconds=lambda params: 1 + random.random())  # which differ from one machine to another
        made.append(proposals(search))
    assert made[0] == made[1] != made[2]
    apart = [
        abs(math.log(a["neuron.threshold"] / b["neuron.threshold"])) for a, b in zip(made[0], made[0][1:], strict=False)
    ]
    assert all(
        a["model.dim"] != b["model.dim"] or d > 1e-3 for a, b, d in zip(made[0], made[0][1:], apart, strict=False)
    )


def test_where_trainings_differ_in_length_the_short_come_more_often():
    """Of two searches that are told the same accuracies one is told that wide networks take ten times as long."""
    taken = lambda params: params["model.dim"] / 16
    chosen = []
    for seconds in (lambda params: 1.0, taken):
        search = Search("search/sampler=front", "search.sampler.candidates=200", "search.sampler.hurry=1", seed=5)
        search.run(30, seconds)
        chosen.append([t.params["model.dim"] for t in search.study.trials[12:]])
    assert np.mean(chosen[1]) < np.mean(chosen[0])


def test_every_point_of_a_small_space_is_tried_once():
    space = {"model.timesteps": "choice(1,2)", "model.dim": "choice(16,32,64)", "neuron": "choice(lif,ilif)"}
    space |= {"neuron.threshold": "choice(0.5,1.0)"}
    search = Search(
        "search/sampler=front", "search.sampler.startup_trials=3", "search.sampler.candidates=50", space=space
    )
    search.run(24)
    assert len({tuple(t.params.items()) for t in search.study.trials}) == 24


def test_known_points_are_learnt_from_though_of_their_last_timestep_alone():
    """As those of a warm start's table: a search that has them finds at once what another takes trials for."""
    source, made = Search("search/sampler=random", seed=7), []
    source.run(25)
    search = Search("search/sampler=front", "search.sampler.candidates=200", "search.anytime=false", seed=7)
    for t in source.study.trials:
        search.study.add_trial(attributes.known_trial(t.params, t.distributions, t.values, "points.csv"))
    for _ in range(5):
        trial, params = search.ask()
        made.append(search.tell(trial, params)[-1])
    known = [tuple(t.values) for t in source.study.trials]
    worst = max(e for _, e in known)
    assert volume([*known, *made], worst) > 1.02 * volume(known, worst)


def test_stopped_and_failed_trials_are_learnt_from_or_left():
    search = Search("search/sampler=front", "search.sampler.candidates=50")
    search.run(10)
    for outlook in ([], [(0.2, 1e-6)]):
        trial, params = search.ask()
        if outlook:
            attributes.OUTLOOK.set(trial, outlook * params["model.timesteps"])
        search.study.tell(trial, state=TrialState.PRUNED)
    trial, _ = search.ask()
    search.study.tell(trial, state=TrialState.FAIL)
    search.run(2)
    assert all(set(t.params) - {"neuron.tau"} == set(SPACE) - {"neuron.tau"} for t in search.study.trials)


def test_what_breaks_a_constraint_is_proposed_seldom():
    """Wide networks, which are most accurate here, are told to be too large."""
    text = "model.dim <= 32"
    constraint = "+search.constraints={model.dim: '<= 32'}"
    search = Search("search/sampler=front", "search.sampler.candidates=200", constraint, seed=1)
    wide = []
    for _ in range(45):
        trial, params = search.ask()
        wide.append(params["model.dim"] > 32)
        trial.set_constraint(text, 1.0 if wide[-1] else -0.5)
        if wide[-1]:
            search.study.tell(trial, state=TrialState.PRUNED)
        else:
            search.tell(trial, params)
    assert sum(wide[:20]) > 3 and sum(wide[-15:]) <= 2


@pytest.mark.parametrize("setting", ["candidates=0", "candidates=many", "startup_trials=-1", "hurry=-1", "hurry=.nan"])
def test_settings_that_are_none_are_refused(setting):
    with pytest.raises(Exception, match=rf"search\.sampler\.{setting.partition('=')[0]} is") as error:
        instantiate(compose(["search/sampler=front", f"search.sampler.{setting}"], root="sweep").search.sampler)
    assert isinstance(error.value.__cause__, UserError)  # as `refusals` tells it


OTHERS = "search/sampler=front needs the objectives accuracy and energy, not accuracy, latency"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["search/sampler=front", "search.objectives=[accuracy,latency]"], OTHERS),
        (["search/sampler=front", "search.sampler.candidates=0"], "search.sampler.candidates is 0: use a whole number"),
        (["search/pruner=front", "search.pruner.confidence=2"], "search.pruner.confidence is 2: use a number between"),
    ],
)
def test_what_a_search_for_fronts_cannot_do_is_refused_in_a_line(script, tmp_path, wrong, said):
    options = ["data=digits", "model=sdt_1_16", "trainer=cpu", "neuron=lif,plif", f"search.dir={tmp_path}"]
    code, _, err = script("sweep", "-m", *options, *wrong)
    assert code == 1 and said in err and len(err.strip().splitlines()) == 1
