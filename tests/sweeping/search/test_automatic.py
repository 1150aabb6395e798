"""The sampler of a search that names none."""

from __future__ import annotations

import pytest
from hydra.utils import instantiate
from optuna.samplers import NSGAIISampler, TPESampler

from spikefront.config import compose
from spikefront.sweeping.search.automatic import chosen
from spikefront.sweeping.search.frontier import FrontSampler

BOTH = {"accuracy": "maximize", "energy": "minimize"}


@pytest.mark.parametrize(
    ("options", "objectives", "kind"),
    [
        ([], BOTH, FrontSampler),
        ([], {"accuracy": "maximize"}, TPESampler),
        ([], {**BOTH, "latency": "minimize"}, TPESampler),
        (["search/engine=elastic"], BOTH, NSGAIISampler),
        (["search/sampler=tpe"], BOTH, TPESampler),
        (["search/sampler=front"], BOTH, FrontSampler),
    ],
)
def test_it_is_the_front_s_for_what_that_knows_but_of_the_elastic_engine(options, objectives, kind):
    search = compose(["search.sampler.seed=3", *options], root="sweep").search
    assert type(chosen(instantiate(search.sampler), objectives)) is kind


def test_a_seed_reaches_whichever_it_is():
    search = compose(["search.sampler.seed=3"], root="sweep").search
    auto = instantiate(search.sampler)
    assert auto.seed == search.sampler.otherwise.seed == 3 and auto.front.hurry == 0
    assert instantiate(compose([], root="sweep").search.sampler).front.hurry == 1
