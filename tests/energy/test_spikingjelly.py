"""Operation counts against those of SpikingJelly's ``op_counter``, layer by layer, with every difference explained."""

from __future__ import annotations

import pytest
import torch
from networks import network
from torch import nn

from spikefront.energy import measure_energy

pytestmark = pytest.mark.slow
SAMPLES = 3


@pytest.fixture(scope="module")
def counts():
    """Ours, SpikingJelly's synaptic operations and multiply-accumulates by module, and what entered each layer."""
    reason = "needs the extra 'bench': pip install -c constraints.txt -e '.[bench]'"
    op_counter = pytest.importorskip("spikingjelly.activation_based.op_counter", reason=reason)
    model, images = network(), torch.rand(SAMPLES, 1, 8, 8)
    report = measure_energy(model, images)
    entered, hooks = {}, []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            keep = lambda m, args, name=name: entered.update({name: args[0].detach().clone()})
            hooks.append(module.register_forward_pre_hook(keep))
    synops, macs = op_counter.SynOpCounter(), op_counter.MACCounter()
    with torch.no_grad(), op_counter.DispatchCounterMode([synops, macs]):
        model(images)
    for hook in hooks:
        hook.remove()

    def by_name(counter):
        return {k.partition(".")[2]: sum(v.values()) for k, v in counter.get_counts().items()}

    return model, {x.name: x for x in report.layers}, by_name(synops), by_name(macs), entered


def test_layers_without_padding_agree_exactly(counts):
    model, ours, synops, _, _ = counts
    compared = 0
    for name, layer in ours.items():
        module = model.get_submodule(name)
        if layer.kind == "spikes" and (isinstance(module, nn.Linear) or module.padding == (0, 0)):
            assert layer.additions.sum() * SAMPLES == pytest.approx(synops.get(name, 0), rel=1e-9), name
            compared += layer.additions.sum() > 0
    assert compared >= 10


def test_padding_is_the_only_difference_elsewhere(counts):
    """The papers' R * FL lets a spike at the border use all k² weights; SpikingJelly counts those inside the image."""
    model, ours, synops, _, entered = counts
    compared = 0
    for name, layer in ours.items():
        module = model.get_submodule(name)
        if layer.kind != "spikes" or isinstance(module, nn.Linear) or module.padding == (0, 0):
            continue
        spikes = entered[name].double().sum((0, 1))
        outside = torch.zeros_like(spikes)
        high, wide = spikes.shape
        for i in range(high):
            for j in range(wide):
                rows, columns = (sum(0 <= a + d < n for d in (-1, 0, 1)) for a, n in ((i, high), (j, wide)))
                outside[i, j] = 9 - rows * columns
        unused = float((spikes * outside).sum()) * module.out_channels
        assert layer.additions.sum() * SAMPLES - unused == pytest.approx(synops.get(name, 0), rel=1e-9), name
        compared += unused > 0
    assert compared >= 2


def test_first_layer_counts_what_it_may_be_run_once(counts):
    """The image's convolution runs once in the network; the convention decides whether it is charged T times."""
    _, ours, synops, macs, _ = counts
    first = ours["patch_embed.proj_conv"]
    assert first.kind == "analog" and synops.get(first.name, 0) == 0
    assert macs[first.name] == first.potential * SAMPLES


def test_attention_masks_are_counted_only_here(counts):
    """SDSA multiplies element by element, which SpikingJelly's synaptic operations leave out."""
    _, ours, synops, _, _ = counts
    for layer in ours.values():
        if layer.kind == "attention":
            assert layer.additions.sum() > 0 and synops.get(layer.name, 0) == 0
