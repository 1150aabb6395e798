"""Whatever has a config builds, trains a step with every other, and is audited."""

from __future__ import annotations

import itertools
import re
from functools import cache, partial

import pytest
import torch
import torch.nn.functional as F
from examples import few, some
from hydra.utils import instantiate

import spikefront
from spikefront.config import CONF, compose
from spikefront.errors import UserError
from spikefront.nn import LIF, PreSpikeResidual, SpikeDrivenTransformer
from spikefront.nn.layers import over_frames
from spikefront.nn.patches import Subsampled


def options(group: str) -> list[str]:
    return sorted(str(f.relative_to(CONF / group).with_suffix("")) for f in (CONF / group).rglob("*.yaml"))


@cache
def component(group: str, option: str, surrogate: str = "sigmoid"):
    if "/" in option:
        pytest.importorskip(option.split("/")[0])
    return instantiate(compose([f"{group}={option}", f"surrogate={surrogate}"])[group])


def lively(neuron: str, surrogate: str = "sigmoid"):
    """A neuron with a threshold at which an untrained network fires up to its head and doesn't saturate."""
    return partial(component("neuron", neuron, surrogate), threshold=1.0 if neuron == "ilif" else 0.3)


def tiny(**components) -> SpikeDrivenTransformer:
    torch.manual_seed(0)
    return SpikeDrivenTransformer(
        1,
        16,
        **{
            "num_heads": 2,
            "timesteps": 2,
            "in_channels": 2,
            "num_classes": 3,
            "image_size": 8,
            "pooling": "0010",
            **components,
        },
    )


def train_a_step(model: SpikeDrivenTransformer, images: torch.Tensor) -> None:
    """One SGD step; fails unless the loss is finite and changes, and gradients reach the first convolution."""
    model.train()
    target = torch.arange(len(images)) // 2
    loss = F.cross_entropy(model(images), target)
    loss.backward()
    for name, p in model.named_parameters():
        assert p.grad is None or p.grad.isfinite().all(), name
    first = next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d)).weight
    assert first.grad.abs().sum() > 0
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    after = F.cross_entropy(model(images), target)
    assert after.isfinite() and after != loss


NEURONS, ATTENTIONS = options("neuron"), options("attention")
FEWER = min(len(NEURONS), len(ATTENTIONS))
SHAPES = list(itertools.product(("sps", "conv_stem"), options("residual")))
COMBINATIONS = [  # every neuron and every attention in `make test`, all their pairs in `make test-all`
    pytest.param(NEURONS[i], ATTENTIONS[j], marks=[] if (i - j) % FEWER == 0 else pytest.mark.slow)
    for i, j in itertools.product(range(len(NEURONS)), range(len(ATTENTIONS)))
]


@pytest.mark.parametrize(("neuron", "attention"), COMBINATIONS)
def test_every_combination_trains(neuron, attention):
    images, events = torch.rand(3, 2, 8, 8), (torch.rand(3, 2, 2, 8, 8) < 0.3).float()
    for embedding, residual in some(SHAPES, NEURONS.index(neuron) + ATTENTIONS.index(attention), 5):
        model = tiny(
            neuron=lively(neuron),
            attention=component("attention", attention),
            embedding=component("embedding", embedding),
            residual=component("residual", residual),
            event_mode=embedding == "sps",
            drop_path=0.1,
        )
        train_a_step(model, events if embedding == "sps" else images)


@pytest.mark.parametrize("embedding", few(options("embedding")))
def test_every_embedding_trains_on_every_shortcut(embedding):
    for residual in some(options("residual"), options("embedding").index(embedding), 2):
        made = {"embedding": component("embedding", embedding), "residual": component("residual", residual)}
        train_a_step(tiny(**made, neuron=lively("lif"), image_size=16), torch.rand(3, 2, 16, 16))


def test_components_without_a_use_for_sizes_need_not_take_them():
    class Mixer(torch.nn.Module):
        def __init__(self, dim, num_heads, neuron, event_mode, potentials):
            super().__init__()
            self.conv = torch.nn.Conv2d(dim, dim, 1)

        def forward(self, x):
            return over_frames(x, self.conv)

    class Shortcut(torch.nn.Module):
        potentials = True

        def __init__(self, neuron):
            super().__init__()

        def forward(self, x, branch):
            return x + branch

    class Patches(torch.nn.Module):
        def __init__(self, in_channels, dim, pooling, neuron, residual):
            super().__init__()
            self.conv = torch.nn.Conv2d(in_channels, dim, 2, 2)

        def forward(self, x, timesteps):
            return over_frames(x, self.conv).expand(timesteps, -1, -1, -1, -1)

    own = {"embedding": Patches, "residual": Shortcut}
    train_a_step(tiny(**own, attention=Mixer), torch.rand(3, 2, 8, 8))
    stage = {"embedding": Patches, "mixer": Mixer, "dim": 16}
    settings = {"timesteps": 2, "in_channels": 2, "num_classes": 3, "image_size": 8, "residual": Shortcut}
    network = spikefront.nn.StagedTransformer({"s1": stage}, **settings)
    assert network(torch.rand(3, 2, 8, 8)).shape == (3, 3)
    with pytest.raises(UserError, match="can only begin the first stage"):
        spikefront.nn.StagedTransformer({"s1": stage, "s2": stage}, **settings)


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("maxfromer", {}, "model=maxfromer does not exist; did you mean 'maxformer'"),
        ("sdt_1_16", {"data": "digit"}, "data=digit does not exist; did you mean 'digits'"),
        ("sdt_1_16", {"dimm": 3}, "no configuration key 'model.dimm'; did you mean 'dim'"),
        ("sdt_1_16", {"overrides": ["neuron=lief"]}, "neuron=lief does not exist; did you mean 'lif'"),
        ("sdt_1_16", {"overrides": ["model.dim=["]}, "can't read the argument 'model.dim=['"),
        ("sdt_1_16", {"overrides": ["neuron.gain=3"]}, "no configuration key 'neuron.gain'"),
        ("sdt_1_16", {"timesteps": 3, "overrides": ["attention=statten"]}, "model.timesteps is 3"),
        ("sdt_1_16", {"data": "digits", "dim": 20}, "model.dim is 20: not divisible"),
    ],
)
def test_what_a_model_cannot_be_is_one_line_in_python_too(name, settings, says):
    with pytest.raises(UserError, match=re.escape(says)) as told:
        spikefront.create_model(name, **settings)
    assert "\n" not in str(told.value)


def test_a_model_takes_values_of_every_kind_by_name():
    model = spikefront.create_model("sdt_1_16", data="digits", neurons={"mlp": {"threshold": 0.8}}, compile=False)
    assert model.block[0].mlp.fc1_lif.threshold == 0.8 and model.block[0].attn.shortcut_lif.threshold == 1.0


@pytest.mark.parametrize("key", ["sparse", "compile", "checkpoint_blocks", "event_mode"])
def test_switches_are_true_or_false(key):
    with pytest.raises(UserError, match=f"model.{key} is 'abc': use true or false"):
        tiny(**{key: "abc"})


@pytest.mark.parametrize("neuron", few(["lif", "plif", "ilif", "relu"]))
def test_a_family_of_integers_takes_any_neuron(neuron):
    settings = {"dim": 32, "num_classes": 3, "overrides": [f"neuron={neuron}", "model.stages.s4.depth=1"]}
    train_a_step(spikefront.create_model("e_spikeformer", data="digits", **settings), torch.rand(3, 1, 8, 8))


@pytest.mark.parametrize("mlp", options("mlp"))
def test_every_mlp_trains_on_every_shortcut(mlp):
    for residual in some(options("residual"), options("mlp").index(mlp), 2):
        made = {"mlp": component("mlp", mlp), "residual": component("residual", residual)}
        train_a_step(tiny(**made, neuron=lively("lif")), torch.rand(3, 2, 8, 8))


@pytest.mark.parametrize("surrogate", few(options("surrogate"), 6))
def test_every_surrogate_trains_every_neuron(surrogate):
    for neuron in some(options("neuron"), 1):
        train_a_step(tiny(neuron=lively(neuron, surrogate)), torch.rand(3, 2, 8, 8))


def test_reset_modes_and_group_overrides_by_name():
    model = spikefront.create_model(
        "sdt_1_16",
        data="digits",
        overrides=["neuron.reset=soft", "model.neurons.mlp.threshold=0.5", "model.neurons.embedding.tau=3"],
        num_heads=2,
        drop_path=0.1,
    )
    neurons = {n: m for n, m in model.named_modules() if isinstance(m, LIF)}
    assert {m.reset for m in neurons.values()} == {"soft"}
    assert {n for n, m in neurons.items() if m.threshold == 0.5 and "attn.t" not in n and "attn.a" not in n} == {
        "block.0.mlp.fc1_lif",
        "block.0.mlp.fc2_lif",
    }
    assert {m.tau for n, m in neurons.items() if n.startswith("patch_embed")} == {3.0}
    assert model.head_lif.tau == 2.0


def test_unknown_neuron_of_a_library_is_named():
    pytest.importorskip("spikingjelly")
    with pytest.raises(UserError, match="did you mean 'LIFNode'"):
        spikefront.nn.SpikingJelly(node="LIFNod")


@pytest.mark.parametrize(
    ("library", "node", "arguments"),
    [
        *(("spikingjelly", n, {}) for n in ("IFNode", "ParametricLIFNode", "KLIFNode", "QIFNode", "CUBALIFNode")),
        ("spikingjelly", "PSN", {"T": 3}),  # has no v_threshold
        *(("snntorch", n, {"beta": 0.5}) for n in ("Leaky", "Lapicque")),
        ("snntorch", "Synaptic", {"alpha": 0.9, "beta": 0.5}),
    ],
)
def test_other_neurons_of_a_library_fire_and_learn(library, node, arguments):
    pytest.importorskip(library)
    torch.manual_seed(0)
    adapter = {"spikingjelly": spikefront.nn.SpikingJelly, "snntorch": spikefront.nn.SnnTorch}[library]
    neuron, x = adapter(node=node, **arguments), (torch.randn(3, 2, 4, 5, 5) * 3).requires_grad_()
    spikes = neuron(x)
    assert spikes.shape == x.shape and set(spikes.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(neuron(x), spikes)  # nothing is left of the first call
    spikes.sum().backward()
    assert x.grad.abs().sum() > 0


def test_arguments_that_a_neuron_of_a_library_does_not_take_are_named():
    pytest.importorskip("snntorch")
    with pytest.raises(UserError, match=r"Alpha can't be made with .*'alpha'"):
        spikefront.nn.SnnTorch(node="Alpha", beta=0.5)


def test_spikingjelly_lif_equals_ours():
    neuron = pytest.importorskip("spikefront.nn").SpikingJelly
    pytest.importorskip("spikingjelly")
    x = torch.randn(5, 3, 4, dtype=torch.float64) * 2
    ours, theirs = LIF(tau=2.0), neuron(node="LIFNode", tau=2.0, detach_reset=True)
    gradients = []
    for lif in (ours, theirs):
        y = x.clone().requires_grad_()
        (lif(y) * torch.arange(12.0).view(3, 4)).sum().backward()
        gradients.append(y.grad)
    assert torch.equal(ours(x), theirs(x)) and ours(x).any()
    torch.testing.assert_close(*gradients)


def test_integer_neuron_counts():
    lif = spikefront.nn.ILIF(levels=4, leak=0.25)
    x = torch.tensor([[-1.0, 0.4, 1.4, 9.0], [0.0, 0.45, 0.45, -3.0]])
    # leaves -1, 0.4, 0.4 and 5 on the membrane, a quarter of which stays
    assert lif(x).tolist() == [[0, 0, 1, 4], [0, 1, 1, 0]]


def test_adaptive_threshold_slows_a_neuron_down():
    x = torch.full((40, 1), 2.5)
    alif, lif = spikefront.nn.ALIF(beta=5.0)(x), LIF()(x)
    assert alif[0] == lif[0] == 1 and alif[-10:].sum() < lif[-10:].sum()


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    drop = spikefront.nn.blocks.DropPath(0.25)
    x = torch.ones(4, 2000, 1, 1, 1)
    y = drop.train()(x)
    assert ((y == 0).all(0) | (y == 1 / 0.75).all(0)).all()
    assert y.mean() == pytest.approx(1, abs=0.05)
    assert drop.eval()(x) is x


class TestAudit:
    images = torch.rand(2, 2, 8, 8, generator=torch.Generator().manual_seed(0))

    def test_published_configuration_only_adds(self):
        report = spikefront.audit(tiny(), self.images, "additions")
        assert report.spike_driven and not report.multiplications and not report.scales
        kinds = list(report.inputs.values())
        assert kinds[0] == "input" and set(kinds[1:]) == {"binary"} and len(kinds) == 12

    @pytest.mark.parametrize("attention", ["sdsa2", "sdsa3", "ssa", "qkta", "none"])
    def test_other_spiking_attentions_only_add(self, attention):
        report = spikefront.audit(tiny(attention=component("attention", attention)), self.images, "additions")
        assert report.spike_driven, str(report)
        assert bool(report.scales) == (attention in ("sdsa3", "ssa"))

    def test_softmax_multiplies(self):
        report = spikefront.audit(tiny(attention=component("attention", "softmax")), self.images, "additions")
        assert not report.spike_driven
        assert any("attn.op: bmm of real and real" in m for m in report.multiplications)
        assert any("softmax" in m for m in report.multiplications)
        assert report.inputs["block.0.attn.proj_conv"] == "real" and report.inputs["block.0.attn.q_conv"] == "binary"

    def test_sew_makes_integers(self):
        report = spikefront.audit(tiny(residual=PreSpikeResidual), self.images, "additions")
        assert not report.spike_driven
        assert report.inputs["block.0.attn.q_conv"] == "integer" and report.inputs["block.0.mlp.fc2_conv"] == "binary"

    def test_integer_neurons_multiply_in_the_mask(self):
        report = spikefront.audit(tiny(neuron=component("neuron", "ilif")), self.images, "additions")
        assert "integer" in report.inputs.values()
        assert any("attn.op: mul of integer and integer" in m for m in report.multiplications)

    def test_network_without_spikes(self):
        model = tiny(neuron=component("neuron", "relu"), attention=component("attention", "softmax"))
        report = spikefront.audit(model, self.images, "additions")
        assert set(report.inputs.values()) == {"input", "real"}
        assert "not spike-driven" in str(report)

    def test_leaves_the_model_alone(self):
        model = tiny().train()
        before = {k: v.clone() for k, v in model.state_dict().items()}
        spikefront.audit(model, self.images)
        assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_strided_pointwise_convolution_has_the_gradient_of_its_sums():
    """Of few channels that come last in memory: where oneDNN's own writes past its buffer."""
    conv = Subsampled(2, 16, 1, 2, bias=False)
    x = torch.rand(3, 2, 16, 16).contiguous(memory_format=torch.channels_last).requires_grad_()
    given = torch.rand(3, 16, 8, 8)
    conv(x).backward(given)
    weight, exact = (t.detach().double().contiguous().requires_grad_() for t in (conv.weight, x))
    F.conv2d(exact, weight, stride=2).backward(given.double())
    torch.testing.assert_close(conv.weight.grad.double(), weight.grad, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(x.grad.double(), exact.grad, rtol=1e-5, atol=1e-6)
