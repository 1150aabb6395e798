"""What untrained networks tell a search."""

from __future__ import annotations

import optuna
import pytest
import torch

from spikefront.config import Composer, compose
from spikefront.planning import untrained
from spikefront.sweeping.search.openings import AWAKE, awake, opening
from spikefront.sweeping.search.space import Space
from spikefront.sweeping.worker.proposal import propose, sampler

POOL = [{"joules": j} for j in (5, 3, 8, 1, 6, 2, 7, 4)]


def firing(params):
    return 0.1, params["joules"]


def up_to(limit):
    """Of these alone the network fires, of those above the dearest most."""
    return lambda params: (0.1 if params["joules"] <= limit else AWAKE * params["joules"] / 10, params["joules"])


def test_the_first_trials_of_a_search_are_spread_evenly_along_the_joules():
    taken = [opening(POOL, firing, n)["joules"] for n in range(8)]
    assert sorted(taken) == list(range(1, 9))
    assert sorted(taken[1:5]) == [2, 3, 5, 7]


def test_what_hardly_fires_is_left_out_unless_nothing_else_is_there():
    assert {opening(POOL, up_to(3), n)["joules"] for n in range(8)} == {1, 2, 3}
    assert opening(POOL, up_to(0), 1)["joules"] == 8
    assert awake(POOL, up_to(1)) == {"joules": 1} and awake(POOL, up_to(0)) == POOL[0]


def test_where_no_network_can_be_looked_at_the_sampler_proposes_as_ever():
    assert opening(POOL, lambda params: None, 1) == {} and awake(POOL, lambda params: None) == POOL[0]


DIGITS = ["data=digits", "model=sdt_1_16", "trainer=cpu"]


def test_a_network_looks_the_same_whenever_it_is_made_and_leaves_random_numbers_alone():
    cfg = compose(DIGITS)
    torch.manual_seed(7)
    first, drawn = untrained(cfg), torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(drawn, torch.rand(3))
    again = untrained(cfg)
    assert first.firing_rate == again.firing_rate > AWAKE and first.total_joules == again.total_joules > 0


def test_untrained_networks_fire_less_with_a_higher_threshold_and_are_silent_in_the_end():
    rates = [untrained(compose([*DIGITS, f"neuron.threshold={t}"])).firing_rate for t in (0.5, 1.0, 2.0, 8.0)]
    assert rates == sorted(rates, reverse=True) and rates[0] > 0.1 and rates[-1] < AWAKE


@pytest.mark.parametrize("data", ["digits_dvs", "cifar10", "dvs128_gesture"])
def test_events_and_images_of_any_size_are_looked_at_without_their_data(data):
    assert 0 < untrained(compose([f"data={data}", "model=sdt_1_32", "trainer=cpu"])).firing_rate < 1


def search(space, *options, base=DIGITS):
    cfg = compose(["search/sampler=front", "search.sampler.seed=3", *options], root="sweep").search
    study, parsed = optuna.create_study(directions=["maximize", "minimize"]), Space.parse(space)
    study.sampler = sampler(cfg, {"accuracy": "maximize", "energy": "minimize"}, parsed, Composer(base))
    return [propose(study.ask(), study, parsed) for _ in range(8)]


THRESHOLDS = {"neuron.threshold": "tag(log,interval(0.2,20))", "model.dim": "choice(16,32)"}


def test_a_worker_s_first_proposals_are_of_networks_that_fire():
    """Half of this space is silent; workers that all begin before anything has ended propose none of it."""
    plain = search(THRESHOLDS, "search.sampler.untrained=0")
    looked = search(THRESHOLDS)
    assert max(p["neuron.threshold"] for p in plain) > 8 > max(p["neuron.threshold"] for p in looked)
    assert looked == search(THRESHOLDS)  # of one seed
    begun = search(THRESHOLDS, base=[*DIGITS, "init=somewhere.ckpt"])  # no network begins untrained
    assert begun == plain


def test_networks_that_cannot_be_made_are_left_to_their_trials_to_tell():
    assert len(search({**THRESHOLDS, "model.num_heads": "choice(3,5,7,9,11,13)"})) == 8
