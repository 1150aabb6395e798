"""NIR: what is written is read back and gives the same spikes, by NIR's equations and in other frameworks."""

from __future__ import annotations

import contextlib
import io
import sys
from functools import partial
from graphlib import TopologicalSorter

import pytest
import torch
from networks import network
from sklearn.datasets import load_digits
from torch import nn

import spikefront
from spikefront.commands.energy import settle
from spikefront.errors import UserError
from spikefront.exporting.nir_graph import DT, write
from spikefront.nn import (
    ALIF,
    IF,
    LIF,
    PLIF,
    QKTA,
    SDSA2,
    SDSA3,
    NoAttention,
    PreSpikeResidual,
    SpikeDrivenTransformer,
    VanillaResidual,
)

REASON = "needs the extra 'nir': pip install -c constraints.txt -e '.[nir]'"
nir = pytest.importorskip("nir", reason=REASON)
import nir_run  # noqa: E402

SAMPLES = 5
lively = partial(LIF, threshold=0.5)


@pytest.fixture(scope="module")
def images():
    return torch.tensor(load_digits().images[:SAMPLES, None] / 16)


def exported(model, images, directory):
    """What was told, and the graph as ``nir`` reads it."""
    return write(model, images, directory), nir.read(directory / "network.nir")


def spikes_of(model, images, names):
    """What each neuron of a network fires ``(T, B, …)``, and its logits a step."""
    fired, hooks = {}, []
    for name, module in model.named_modules():
        if name in names:
            keep = lambda m, args, out, name=name: fired.update({name: out.clone()})
            hooks.append(module.register_forward_hook(keep))
    with torch.no_grad():
        logits = model(images, per_step=True)
    for hook in hooks:
        hook.remove()
    return fired, logits


@pytest.mark.parametrize(
    ("settings", "custom"),
    [
        ({}, []),
        ({"pooling": "0111"}, ["patch_embed.maxpool3"]),
        ({"attention": SDSA2}, []),
        ({"attention": QKTA}, []),
        ({"attention": NoAttention}, []),
        ({"neuron": PLIF}, []),
        ({"neuron": partial(IF, threshold=2.0)}, []),
        ({"neuron": partial(LIF, tau=3.0)}, []),
        ({"residual": PreSpikeResidual}, []),
        ({"residual": VanillaResidual, "neuron": partial(LIF, threshold=0.2)}, []),
        ({"mlp_ratio": 1.0}, []),
    ],
    ids=lambda x: "-".join(f"{k}={getattr(v, '__name__', v)}" for k, v in x.items()) if isinstance(x, dict) else "",
)
def test_spikes_and_logits_are_those_of_the_graph_read_back(images, tmp_path, settings, custom):
    model = network(**{"neuron": lively, **settings}).double()
    told, graph = exported(model, images, tmp_path)
    assert told["custom"] == custom and told["timesteps"] == int(graph.metadata["timesteps"]) == 4
    given, spikes = nir_run.run(graph, images.expand(4, *images.shape), DT)
    ours, logits = spikes_of(model, images, set(spikes))
    assert torch.equal(given, logits) or torch.allclose(given, logits, rtol=1e-12, atol=1e-14)
    assert logits.any() and len(ours) >= 5
    for name, fired in ours.items():
        if fired.shape == spikes[name].shape:
            assert torch.equal(fired, spikes[name]), name
    assert sum(bool(fired.any()) for fired in ours.values()) >= 5


def test_the_mask_is_that_of_the_attention(images, tmp_path):
    """What the subgraph gives, against the operator's own output."""
    model = network(neuron=lively).double()
    _, graph = exported(model, images, tmp_path)
    found = {}
    hook = model.block[0].attn.op.register_forward_hook(lambda m, args, out: found.update(args=args, out=out))
    with torch.no_grad():
        model(images)
    hook.remove()
    part = graph.nodes["block.0.attn.sdsa1"]
    assert isinstance(part, nir.NIRGraph) and part.metadata["spikefront"] in ("sdsa1", b"sdsa1")
    _, spikes = nir_run.run(graph, images.expand(4, *images.shape), DT)
    masked = spikes["block.0.attn.sdsa1.masked"]
    assert masked.any() and torch.equal(masked, found["out"])
    for name, fired in zip("qkv", found["args"], strict=False):
        assert torch.equal(spikes[f"block.0.attn.sdsa1.{name}_lif"], fired)


def test_events_enter_frame_by_frame(tmp_path):
    torch.manual_seed(0)
    events = torch.rand(16, 4, 2, 8, 8)
    sizes = {"timesteps": 4, "in_channels": 2, "num_classes": 10, "image_size": 8, "pooling": "0010"}
    model = SpikeDrivenTransformer(1, 32, neuron=lively, **sizes)
    settle(model, events)
    model, events = model.eval().double(), events[:2].double()
    _, graph = exported(model, events, tmp_path)
    given, _ = nir_run.run(graph, events.transpose(0, 1), DT)
    with torch.no_grad():
        assert torch.allclose(given, model(events, per_step=True), rtol=1e-12, atol=1e-14) and given.any()


def in_order(graph):
    """Sort nodes by what they read: HDF5 has them by name, and nirtorch 2.6 wires a graph within a graph but once."""
    sources = {name: {a for a, b in graph.edges if b == name} for name in graph.nodes}
    graph.nodes = {name: graph.nodes[name] for name in TopologicalSorter(sources).static_order()}
    for node in graph.nodes.values():
        if isinstance(node, nir.NIRGraph):
            in_order(node)


def in_steps(net, x):
    state, steps = None, []
    with torch.no_grad():
        for _ in range(4):
            y, state = net(x, state)
            steps.append(y)
    return torch.stack(steps)


def simple():
    """A network of nodes that other readers know: neither pools of spikes nor masks."""
    return network(pooling="0000", attention=NoAttention, neuron=lively)


def test_spikingjelly_runs_what_it_knows(images, tmp_path):
    exchange = pytest.importorskip("spikingjelly.activation_based.nir_exchange", reason="needs the extra 'bench'")
    model = simple().double()
    write(model, images, tmp_path)
    theirs = in_steps(exchange.import_from_nir(tmp_path / "network.nir", dt=DT, dtype=torch.float64), images)
    with torch.no_grad():
        assert torch.equal(theirs, model(images, per_step=True)) and theirs.any()


def test_spikingjelly_runs_the_whole_network_with_two_nodes_more(images, tmp_path):
    """It has neither ``Threshold`` nor ``SumPool2d`` with padding; with these and its own it runs the masks too."""
    reader = pytest.importorskip(
        "spikingjelly.activation_based.nir_exchange.from_nir", reason="needs the extra 'bench'"
    )
    nirtorch = pytest.importorskip("nirtorch", reason=REASON)

    class Above(nn.Module):
        def __init__(self, node):
            super().__init__()
            self.threshold = torch.as_tensor(node.threshold)

        def forward(self, x):
            return (x > self.threshold).to(x.dtype)

    class Sum(nn.AvgPool2d):
        def __init__(self, node):
            sizes = [tuple(int(n) for n in pair) for pair in (node.kernel_size, node.stride, node.padding)]
            super().__init__(*sizes, divisor_override=1)

    model = network(neuron=lively).double()
    _, graph = exported(model, images, tmp_path)
    with pytest.raises(ValueError, match="Threshold"):
        reader.import_from_nir(tmp_path / "network.nir", dt=DT, dtype=torch.float64)
    in_order(graph)
    nodes = {**reader._NodeMapper(DT).map_dict, nir.Threshold: Above, nir.SumPool2d: Sum}
    theirs = in_steps(nirtorch.nir_to_torch(graph, nodes, dtype=torch.float64), images)
    with torch.no_grad():
        assert torch.equal(theirs, model(images, per_step=True)) and theirs.any()


def test_snntorch_runs_what_it_knows(images, tmp_path):
    """One image at a time, as it takes ``Flatten``'s dimensions for those with the batch; between two it is reset."""
    importing = pytest.importorskip("snntorch.import_nir", reason="needs the extra 'bench'")
    from snntorch import utils

    model = simple()
    _, graph = exported(model, images.float(), tmp_path)
    with contextlib.redirect_stdout(io.StringIO()):  # it tells that it scales thresholds
        net = importing.import_from_nir(graph)
    with torch.no_grad():
        ours = model(images.float(), per_step=True)
    theirs = []
    for image in images.float():
        utils.reset(net)
        theirs.append(in_steps(net, image).float())
    assert torch.allclose(torch.stack(theirs, 1), ours, atol=1e-6) and ours.any()


def test_other_readers_get_nothing_plausible_of_a_pool_of_potentials(images, tmp_path):
    """Whoever overlooks the metadata of ``maxpool3`` reads NaN, not another pool's values."""
    _, graph = exported(network(pooling="0011").double(), images, tmp_path)
    (scale,) = (n for n in graph.nodes["patch_embed.maxpool3"].nodes.values() if isinstance(n, nir.Scale))
    assert (scale.scale != scale.scale).all()


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: network(neuron=ALIF), r"patch_embed\.proj_lif \(ALIF\)"),
        (lambda: network(neuron=partial(LIF, reset="soft")), r"patch_embed\.proj_lif subtracts"),
        (lambda: network(attention=SDSA3), r"block\.0\.attn\.op \(SDSA3Op\)"),
        (lambda: network(event_mode=True), r"block\.0\.attn\.op pools"),
        (lambda: spikefront.create_model("spikformer_2_256", data="digits"), r"stages\.0\.patch_embed \(PatchEmb"),
    ],
    ids=["alif", "soft", "sdsa3", "event_mode", "spikformer"],
)
def test_a_part_without_a_node_is_named(images, tmp_path, make, part):
    with pytest.raises(UserError, match=f"^format=nir: {part}") as said:
        write(make(), images.float(), tmp_path)
    assert "\n" not in str(said.value) and not (tmp_path / "network.nir").exists()


def test_without_the_package_its_extra_is_named(images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(UserError, match=r"pip install 'spikefront\[nir\]'"):
        write(network(), images.float(), tmp_path)
