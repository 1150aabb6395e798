"""Every search in sweeps/hparams_search can run: every value of its space builds a network on each data set."""

from __future__ import annotations

import optuna
import pytest
import torch
from examples import few
from hydra.utils import instantiate
from optuna.distributions import CategoricalDistribution

from spikefront.config import CONF, ROOT, Composer, compose
from spikefront.sweeping.search import objectives
from spikefront.sweeping.search.automatic import chosen
from spikefront.sweeping.search.samplers import seeded
from spikefront.sweeping.search.space import Space
from spikefront.sweeping.study import accounts, attributes, brought

SEARCHES = sorted(p.stem for p in (ROOT / "sweeps" / "hparams_search").glob("*.yaml"))
DATA = [
    d for d in sorted(p.stem for p in (CONF / "data").glob("*.yaml")) if d in ("digits", "digits_dvs", "cifar10_dvs")
]


def ends(parameter):
    d = parameter.distribution
    return d.choices if isinstance(d, CategoricalDistribution) else (d.low, d.high)


@pytest.mark.parametrize(  # each search on one of the data sets, all on all with `make test-all`
    ("search", "data"),
    [
        pytest.param(s, d, marks=[] if s != "families" and d == DATA[i % len(DATA)] else pytest.mark.slow)
        for i, s in enumerate(SEARCHES)
        for d in DATA
    ],
)
def test_every_value_of_a_searchs_space_builds_a_network(search, data):
    shared = [f"hparams_search={search}", f"data={data}"]
    cfg = compose(shared, root="sweep")
    space = Space.parse(dict(cfg.search.space))
    assert len(space) and objectives.parse(cfg.search.objectives)
    made = Composer(shared)
    left = {p.key: list(ends(p)) for p in space}
    while key := next((key for key, rest in left.items() if rest), None):  # every value, beside others of its kind
        values = {**space.example(key), key: left[key][0]}
        values = {k: left[k][0] if k in left and left[k] and k != "model" else v for k, v in values.items()}
        values = {k: values[k] for k in space.active(values) if k in values}
        for k, value in values.items():
            left[k] = [v for v in left[k] if v != value]
        with torch.device("meta"):
            model = instantiate(made(space.overrides(values)).model)
        for k, value in values.items():
            if k.startswith("model.") and k.count(".") == 1:
                assert getattr(model, k.removeprefix("model."), value) == value


SAMPLERS = sorted(p.stem for p in (ROOT / "sweeps" / "search" / "sampler").glob("*.yaml"))


@pytest.mark.parametrize("name", few(SAMPLERS, 2))
def test_every_sampler_proposes(name):
    """Also with the anytime points shown, and with conditional and categorical parameters where it can."""
    from spikefront.sweeping.search.anytime import Shown

    wanted = {"accuracy": "maximize"} if name == "cmaes" else {"accuracy": "maximize", "energy": "minimize"}
    search = compose([f"search/sampler={name}"], root="sweep").search
    sampler = chosen(instantiate(search.sampler), wanted)
    space = Space.parse({"a": "choice(1,2)"} if name == "grid" else {"a": "interval(0.0,1.0)", "b": "range(1,5)"})
    shown = Shown(sampler, wanted, brought.candidate, accounts.bad)
    study = optuna.create_study(directions=list(wanted.values()), sampler=shown)
    for _ in range(2 if name == "grid" else 14):
        trial = study.ask()
        values = space.suggest(trial)
        accuracy, energy = values["a"] / 2, values["a"]
        anytime = [{"t": t, "accuracy": accuracy / (3 - t), "energy_joules": energy * t / 2} for t in (1, 2)]
        attributes.set_outcome(trial, {"anytime": anytime})
        study.tell(trial, [accuracy, energy][: len(wanted)])
    if name == "grid":
        assert {t.params["a"] for t in study.trials} == {1, 2}


@pytest.mark.parametrize("name", few(sorted(p.stem for p in (ROOT / "sweeps" / "search" / "pruner").glob("*.yaml")), 5))
def test_every_pruner_is_built_by_workers(make_sweep, name):
    """Of the study's settings, and of the worker's own overrides."""
    search = make_sweep("search.n_trials=3", "search.workers=1", f"search/pruner={name}", "trainer.max_epochs=4")
    search.run_here()
    assert len(accounts.account(search.study()).finished) == 3


@pytest.mark.parametrize(
    "name",
    [
        "random",
        "tpe",
        *(pytest.param(n, marks=pytest.mark.slow) for n in sorted({*SAMPLERS} - {"grid", "random", "tpe"})),
    ],
)
def test_workers_with_one_seed_propose_different_points_and_the_same_ones_again(name):
    wanted = ["maximize"] if name == "cmaes" else ["maximize", "minimize"]
    asked = dict(zip(("accuracy", "energy"), wanted, strict=False))
    space = Space.parse({"a": "interval(0.0,1.0)", "b": "interval(0.0,1.0)"})

    def proposals(workers: int) -> list[float]:
        """Of fourteen trials, asked for in turn by workers that begin anew after every second trial."""
        study, found = optuna.create_study(directions=wanted), []
        for i in range(14):
            if i % 2 == 0:
                cfg = compose([f"search/sampler={name}", "search.sampler.seed=3"], root="sweep").search.sampler
                made = [seeded(chosen(instantiate(cfg), asked), 3) for _ in range(workers)]
            study.sampler = made[i % workers]
            trial = study.ask()
            values = space.suggest(trial)
            found.append(values["a"])
            study.tell(trial, [values["a"], values["b"]][: len(wanted)])
        return found

    alone, together = proposals(1), proposals(2)
    assert len(set(alone[:8])) == 8  # later ones may well meet at a corner of the space
    random = 10 if name == "gp" else 14  # it begins each fit where its last one ended
    assert alone[:random] == together[:random]
