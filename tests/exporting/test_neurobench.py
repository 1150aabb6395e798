"""NeuroBench's metrics as we count them, against its own package on the same network, and why ours differ."""

from __future__ import annotations

import json

import pytest
import torch
from networks import network
from sklearn.datasets import load_digits
from torch import nn

from spikefront.energy import measure_energy
from spikefront.exporting.neurobench_metrics import synaptic_operations, write
from spikefront.nn import LIF, SnnTorch

REASON = "needs the extra 'neurobench': pip install -c constraints.txt -e '.[neurobench]'"
SAMPLES = 3


def by_the_package(model, images, neuron):
    """What NeuroBench itself says of ``images`` in batches of all."""
    benchmarks = pytest.importorskip("neurobench.benchmarks", reason=REASON)
    from neurobench.metrics import static, workload
    from neurobench.models import TorchModel
    from torch.utils.data import DataLoader, TensorDataset

    wrapped = TorchModel(model)
    wrapped.add_activation_module(neuron)
    batches = DataLoader(TensorDataset(images, torch.zeros(len(images))), batch_size=len(images))
    statics = [static.Footprint, static.ParameterCount, static.ConnectionSparsity]
    workloads = [workload.ActivationSparsity, workload.SynapticOperations, workload.MembraneUpdates]
    with torch.no_grad():
        found = benchmarks.Benchmark(wrapped, batches, [], [], [statics, workloads]).run(quiet=True)
    wrapped.cleanup_hooks()
    return found


@pytest.fixture(scope="module")
def images():
    return torch.tensor(load_digits().images[:SAMPLES, None] / 16, dtype=torch.float32)


def pruned(**settings):
    """A network some of whose weights are 0."""
    model = network(**settings)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.weight.data[layer.weight.abs() < 0.01] = 0
    return model


def test_all_but_membrane_updates_are_the_packages(images, tmp_path):
    model = pruned()
    said = by_the_package(model, images, LIF)
    found = json.loads(json.dumps(write(model, images, tmp_path)))
    assert len(found.pop("lines")) == 1 + len(said)
    assert json.loads((tmp_path / "neurobench.json").read_text()) == found
    ours = found["neurobench"]
    assert set(ours) == set(said)
    assert 0 < ours["ConnectionSparsity"] < 1 and 0 < ours["ActivationSparsity"] < 1
    assert 0 < ours["SynapticOperations"]["Effective_ACs"] < ours["SynapticOperations"]["Dense"]
    for name in set(ours) - {"MembraneUpdates"}:
        assert ours[name] == pytest.approx(said[name], rel=1e-12), name
    assert said["MembraneUpdates"] == 0 < ours["MembraneUpdates"]  # it follows snnTorch's neurons alone


def test_membrane_updates_are_the_packages_where_it_sees_them(images, tmp_path):
    """The same network with snnTorch's neuron: without 1 / tau before the input, so at twice the threshold."""
    snntorch = pytest.importorskip("snntorch", reason=REASON)
    ours, theirs = network(), network()
    for module in [m for m in theirs.modules() if not isinstance(m, SnnTorch)]:
        for name, child in list(module.named_children()):
            if isinstance(child, LIF):
                made = SnnTorch("Leaky", 2 * child.threshold, beta=0.5, reset_mechanism="zero", reset_delay=False)
                setattr(module, name, made.eval())
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))
    said = by_the_package(theirs, images, snntorch.SpikingNeuron)
    assert write(ours, images, tmp_path)["neurobench"]["MembraneUpdates"] == said["MembraneUpdates"] > 0


def test_where_ours_differ(images, tmp_path):
    """Padding, the image that is shown T times, zero weights, attention: the only differences of the operations."""
    model, entered, hooks = pruned(), {}, []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            keep = lambda m, args, name=name: entered.update({name: args[0].clone()})
            hooks.append(module.register_forward_pre_hook(keep))
    report = measure_energy(model, images)
    for hook in hooks:
        hook.remove()
    found = write(model, images, tmp_path)
    theirs, ours = found["neurobench"]["SynapticOperations"], found["spikefront"]
    assert ours["attention_additions"] > 0
    additions = 0.0
    for layer in report.layers:
        if layer.kind == "spikes":
            module, x = model.get_submodule(layer.name), entered[layer.name]
            effective, dense, spiking = synaptic_operations(module, x)
            assert spiking and effective < dense
            nn.init.ones_(module.weight)  # no zero weights
            every, _, _ = synaptic_operations(module, x)
            if isinstance(module, nn.Linear) or module.padding == (0, 0):
                assert every == pytest.approx(float(layer.additions.sum()) * SAMPLES, rel=1e-9)
            else:
                assert every < float(layer.additions.sum()) * SAMPLES
            additions += effective / SAMPLES
    assert additions == pytest.approx(theirs["Effective_ACs"], rel=1e-12)
    first = next(layer for layer in report.layers if layer.kind == "analog")
    once = ours["multiply_accumulates"] / model.timesteps
    assert once == first.potential > theirs["Effective_MACs"] > 0


def test_neurons_that_nobody_follows_are_named(images, tmp_path):
    from spikefront.nn import ALIF

    found = write(network(neuron=ALIF), images, tmp_path)
    elements = found["spikefront"]["neuron_updates"]
    assert found["neurobench"]["MembraneUpdates"] == elements
    assert any("ALIF" in note for note in found["notes"])
