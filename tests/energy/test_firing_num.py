"""The four effects of the authors' firing_num.py, rebuilt on a small network, each with its size."""

from __future__ import annotations

import numpy as np
import pytest

from spikefront.config import ROOT


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        import firing_num

        return firing_num


@pytest.fixture(scope="module")
def each(script):
    """(T, samples): 6 timesteps of 21 samples, in batches of 8, 8 and 5."""
    rates = script.rates()
    assert rates.shape == (6, 21) and (rates.mean(0) > 0).mean() > 0.8
    return rates


def test_one_batch_too_few_is_a_factor_of_n_over_n_minus_1(script, each):
    assert script.one_batch_too_few(each, 8) == pytest.approx(each[:, :16].mean() * 2 / 1)
    assert script.one_batch_too_few(each, 3) == pytest.approx(each.mean() * 7 / 6)
    validation = np.full((4, 50_000), 0.2)  # ImageNet's, batches of 50: what it comes to there
    assert script.one_batch_too_few(validation, 50) / 0.2 - 1 == pytest.approx(1 / 999)


def test_timesteps_from_4_on_are_left_out(script, each):
    left_out = each[4:].mean() - each[:4].mean()
    assert script.first_keys(each) == pytest.approx(each.mean() - left_out / 3)
    assert abs(script.first_keys(each) / each.mean() - 1) > 0.02
    assert script.first_keys(each[:4]) == script.mean(each[:4])  # at T = 4, as published, nothing is


def test_the_last_small_batch_pulls_the_mean_to_its_own(script, each):
    wrong = script.small_batch_like_a_full_one(each, 8)
    assert wrong == pytest.approx(np.mean([each[:, :8].mean(), each[:, 8:16].mean(), each[:, 16:].mean()]))
    assert abs(wrong / each.mean() - 1) > 0.02
    assert script.small_batch_like_a_full_one(each, 7) == pytest.approx(each.mean())  # three full ones


def test_a_rank_has_the_rates_of_its_own_samples(script, each):
    first, second = (script.one_rank(each, 2, rank) for rank in (0, 1))
    assert (11 * first + 10 * second) / 21 == pytest.approx(each.mean())
    assert abs(first / second - 1) > 0.005


def test_together_they_are_what_none_is_alone(script, each):
    wrong = script.together(each, 8, 2, 0)
    own = each[:4, ::2]
    assert wrong == pytest.approx((own[:, :8].mean() + own[:, 8:].mean()) / 1)
    assert wrong / each.mean() > 1.5
