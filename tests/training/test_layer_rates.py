"""Members of an elastic training learn to fire as the largest network does."""

import pytest
import torch
from test_supernet import run

from spikefront.nn.neurons import LIF
from spikefront.training import train
from spikefront.training.preemption import LAST
from spikefront.training.rate_matching import LayerRates


def test_the_distance_is_that_of_the_layers_mean_rates():
    rates, x = LayerRates(3.0), torch.full((4, 2, 5), 0.9, requires_grad=True)
    small, large = (torch.nn.ModuleDict({"a": LIF(threshold=0.4), "b": LIF(threshold=t)}) for t in (0.4, 0.8))
    with rates.of(small) as own:
        ours = [small[name](x) for name in "ab"]
    with rates.of(large) as others, torch.no_grad():
        theirs = [large[name](x) for name in "ab"]
    each = [(a.mean() - b.mean()).square() for a, b in zip(ours, theirs, strict=True)]
    assert float(each[1].detach()) > 0
    torch.testing.assert_close(rates.apart(own, others), 3 * torch.stack(each).mean())
    rates.apart(own, {"b": others["b"]}).backward()  # of layers that both have
    assert x.grad is not None and x.grad.abs().sum() > 0
    assert not any(m._forward_hooks for m in (*small.modules(), *large.modules()))


def test_without_weight_nothing_is_watched():
    network = torch.nn.Sequential(LIF())
    with LayerRates(0).of(network) as found:
        network(torch.rand(2, 1, 3))
    assert found == {} and float(LayerRates(0).apart(found, found)) == 0


@pytest.mark.slow
def test_it_is_part_of_an_elastic_training(tmp_path):
    ends = {}
    for weight in (0, 10):
        train(run(tmp_path / str(weight), "trainer.max_epochs=1", rate_weight=weight))
        ends[weight] = torch.load(tmp_path / str(weight) / LAST, weights_only=True)["state_dict"]
    plain = run(tmp_path / "plain", "trainer.max_epochs=1")  # a checkpoint of an earlier version has no such setting
    train(plain)
    before = torch.load(tmp_path / "plain" / LAST, weights_only=True)["state_dict"]
    assert all(torch.equal(before[key], ends[0][key]) for key in before)
    assert any(not torch.equal(ends[0][key], ends[10][key]) for key in before)
