"""Every check finds the fault that is planted for it, names the place, and passes the network without it."""

from __future__ import annotations

import json

import pytest
import torch
from examples import few
from networks import network
from torch import nn

import spikefront
from spikefront.api import AUDITS, LONG
from spikefront.errors import UserError
from spikefront.nn import LIF, AcrossBatchResidual, Integer, NoAttention
from spikefront.nn.sparse_conv import SparseConv2d

IMAGES = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def sound():
    return network(timesteps=3)


@pytest.fixture
def plant(sound):
    """A copy of the network with another module at a place."""

    def put(place: str | None = None, made=None) -> nn.Module:
        model = network(timesteps=3)
        if place is not None:
            parent, _, name = place.rpartition(".")
            setattr(model.get_submodule(parent), name, made(model.get_submodule(place)))
        return model

    return put


def verdict(model, check, batch=IMAGES, **more):
    (finding,) = spikefront.audit(model, batch, [check], **more).findings
    assert finding.check == check and finding.to_dict()["verdict"] == finding.verdict
    return finding


class Around(nn.Module):
    """A fault: what a module gives, changed."""

    def __init__(self, inner, change):
        super().__init__()
        self.inner, self.change = inner, change

    def forward(self, *args, **kwargs):
        return self.change(self.inner(*args, **kwargs))


class AcrossBatch(nn.Module):
    """As in QKFormer's published code: frames of all samples, T x B, are one sequence to a neuron."""

    def __init__(self, inner=None):
        super().__init__()
        self.lif = LIF()

    def forward(self, x, *_):
        return self.lif(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class AlwaysTraining(nn.BatchNorm2d):
    def __init__(self, inner):
        super().__init__(inner.num_features)
        self.load_state_dict(inner.state_dict())

    def forward(self, x):
        self.training = True
        return super().forward(x)


class Remembers(nn.Module):
    """A neuron that begins with the membrane that the last call left."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.left = inner, 0.0

    def forward(self, x, *_):
        x = x + self.left
        self.left = 0.5 * x[-1:].mean(1, keepdim=True)
        return self.inner(x)


class AlwaysDrops(nn.Module):
    def forward(self, x, *_):
        return torch.dropout(x, 0.5, True)


class Always(nn.Module):
    """A neuron that fires whatever comes."""

    def __init__(self):
        super().__init__()
        self.lif = LIF(threshold=1e-6)

    def forward(self, x, *_):
        return self.lif(x.abs() + 1)


def wrong_fold(mlp):
    """Another network once it is deployed."""
    mlp.__class__ = type("Wrong", (type(mlp),), {"join": lambda self: nn.init.zeros_(self.fc2_conv.weight)})
    return mlp


class Leaky(nn.Module):
    """A neuron that is called step by step and keeps its membrane."""

    def __init__(self):
        super().__init__()
        self.mem = None

    def forward(self, x):
        self.mem = x if self.mem is None else 0.5 * self.mem + x
        spikes = (self.mem >= 1).to(x)
        self.mem = self.mem - spikes
        return spikes


class Stepped(nn.Module):
    """Time in front, one step after the other: ``(T, B, 1, 8, 8) -> (B, 3)``."""

    def __init__(self, neuron):
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.neuron, self.fc2 = nn.Linear(64, 8), neuron, nn.Linear(8, 3)

    def forward(self, x):
        return torch.stack([self.fc2(self.neuron(self.fc1(frame.flatten(1)))) for frame in x]).mean(0)


class Frames(nn.Module):
    """All steps of a neuron inside that knows one: ``(T, B, ...)``, as SpikingJelly's ``step_mode="m"``."""

    def __init__(self, neuron):
        super().__init__()
        self.neuron = neuron

    def forward(self, x):
        return torch.stack([self.neuron(frame) for frame in x])


class Pooled(nn.Module):
    def forward(self, x):
        return x.mean((0, -1, -2))


class Multiplies(nn.Module):
    """An attention that multiplies real values."""

    def forward(self, q, k, v, *_):
        return torch.softmax(q.flatten(3) @ k.flatten(3).transpose(-1, -2), -1).mean(-1)[..., None, None] * v

    def operations(self, q, *_):
        return torch.zeros(q.shape[:2]), 1


FC1, FC2 = "block.0.mlp.fc1_lif", "block.0.mlp.fc2_lif"
FAULTS = {  # the check that must fail, the module it must name, where to plant what
    "a neuron over T x B": ("batch", f"{FC1}.lif", FC1, AcrossBatch),
    "the same in training": ("batch_training", f"{FC1}.lif", FC1, AcrossBatch),
    "batch norm in training": ("batch", "block.0.mlp.fc1_bn", "block.0.mlp.fc1_bn", AlwaysTraining),
    "looks ahead": ("causality", FC1, FC1, lambda m: Around(m, lambda s: s.maximum(s.flip(0)))),
    "a spike of a third": ("spikes", "block.0.mlp.fc2_conv", FC2, lambda m: Around(m, lambda s: 0.3 * s)),
    "a real value": ("additions", "block.0.mlp.fc2_conv", FC2, lambda m: Around(m, lambda s: 0.3 * s)),
    "a product": ("additions", "block.0.attn.op", "block.0.attn.op", lambda m: Multiplies()),
    "an unheard-of product": ("blind_spots", FC1, FC1, lambda m: Around(m, lambda s: s * s.roll(1, -1))),
    "dropout left on": ("determinism", f"{FC1}.inner", FC1, lambda m: Around(AlwaysDrops(), m)),
    "a state": ("state", f"{FC1}.inner", FC1, Remembers),
    "a dead layer": ("silent", "block.1.mlp.fc1_lif", "block.1.mlp.fc1_lif", lambda m: LIF(threshold=1e6)),
    "a saturated layer": ("saturated", f"{FC2}.lif", FC2, lambda m: Always()),
    "a size that is written in": ("resolution", "", FC1, lambda m: Around(m, lambda s: s + torch.zeros(4, 4))),
    "a number of steps": ("timesteps", "", FC1, lambda m: Around(m, lambda s: s + torch.zeros(3, 1, 1, 1, 1))),
    "a fold that is none": ("folded", "", "block.0.mlp", wrong_fold),
}


@pytest.mark.parametrize("fault", few(FAULTS, 6))
def test_each_fault_is_found_where_it_is(plant, fault):
    check, where, place, made = FAULTS[fault]
    before = verdict(plant(), check)
    assert before.verdict == "holds" and not before.places, before
    found = verdict(plant(place, made), check)
    assert found.verdict == "fails" and found.why and found.tried, found
    assert where in found.places if where else True, found


def test_a_sound_network_fails_nothing_and_is_left_alone():
    model = network(timesteps=3).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = spikefront.audit(model, IMAGES)
    made = [name for name in AUDITS if name not in LONG]
    assert not found.failed and [f.check for f in found.findings] == [*made, *LONG]
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    plain = found.to_dict()
    assert plain["spike_driven"] and not plain["fails"] and json.loads(json.dumps(plain, allow_nan=False)) == plain
    table = found.to_markdown().splitlines()
    assert table[0].startswith("| check | verdict |") and all(line.count("|") >= 4 for line in table if line)
    assert {f.check for f in found.findings if f.verdict == "not tried"} == {"unrolled", "memory", "compiled", "onnx"}


def test_qkformers_published_neuron_is_found_by_its_place():
    """Last stage's shortcut in the code of arXiv 2403.16552: by facts, in a module of its own."""

    class Stage(nn.Module):
        timesteps = 2

        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
            self.lif, self.branch, self.head = LIF(), nn.Conv2d(4, 4, 1), nn.Linear(4, 3)
            self.residual = AcrossBatchResidual(LIF)

        def forward(self, images):
            x = self.norm(self.conv(images)).expand(2, *([-1] * 4))
            s = self.lif(x)
            s = self.residual(s, self.branch(s.flatten(0, 1)).unflatten(0, s.shape[:2]) * 4)
            return self.head(s.mean((-1, -2))).mean(0)

    torch.manual_seed(0)
    for check in ("batch", "batch_training"):
        found = verdict(Stage(), check)
        assert found.verdict == "fails" and found.places == ("residual.lif",) and "alone" in found.why


def test_events_without_memory_are_named():
    events = torch.rand(3, 4, 1, 8, 8)
    remembers = network(timesteps=4)
    assert verdict(remembers, "memory", events).verdict == "holds"
    assert "LIF" in verdict(remembers, "memory", events).why
    forgets = verdict(network(timesteps=4, neuron=Integer), "memory", events)
    assert forgets.verdict == "fails" and "no memory" in forgets.why
    assert verdict(remembers, "memory", IMAGES).verdict == "not tried"


def test_integers_unroll_and_what_is_no_number_of_spikes_does_not():
    model = network(timesteps=1, neuron=Integer, attention=NoAttention)
    found = verdict(model, "unrolled")
    assert found.verdict == "holds" and "4 virtual steps" in found.why
    largest = verdict(model, "spikes")
    assert largest.verdict == "holds" and "integers up to 4" in largest.why
    assert set(largest.figures.values()) <= {0, 1, 2, 3, 4} and max(largest.figures.values()) == 4


def test_a_wrong_unrolling_is_found(plant):
    class Squares(nn.Conv2d):
        def forward(self, x):
            return super().forward(x * x)

    def made(conv):
        other = Squares(conv.in_channels, conv.out_channels, 1)
        other.load_state_dict(conv.state_dict())
        return other

    model = network(timesteps=1, neuron=Integer, attention=NoAttention)
    model.block[0].mlp.fc2_conv = made(model.block[0].mlp.fc2_conv)
    assert verdict(model, "unrolled").verdict == "fails"


def test_energy_left_out_is_in_joules(sound):
    figures = verdict(sound, "blind_spots").figures
    energy = spikefront.measure_energy(sound, IMAGES)
    assert figures["charged"] == pytest.approx(energy.total_joules, rel=1e-6)
    updates = sum(layer.additions.sum() for layer in energy.layers if layer.kind == "neuron")
    assert figures["neurons' updates"] == pytest.approx(4.6e-12 * updates)
    assert figures["sums of spikes taken as one spike"] == 0 == figures["products and functions"]
    assert figures["shortcuts and averages"] > 0 and figures["biases"] > 0


def test_plain_modules_fail_additions_alone():
    timm = pytest.importorskip("timm")
    plain = timm.create_model("resnet10t", num_classes=3, in_chans=1)
    checks = [name for name in AUDITS if name not in ("compiled", "onnx", "resolution")]
    found = spikefront.audit(plain, IMAGES.repeat(1, 1, 4, 4), checks)
    assert [finding.check for finding in found.failed] == ["additions"]
    small = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))
    assert [f.check for f in spikefront.audit(small, IMAGES, [c for c in checks if c != "resolution"]).failed] == [
        "additions"
    ]


@pytest.mark.parametrize("library", ["spikingjelly", "snntorch"])
def test_neurons_of_other_libraries_keep_a_state(library):
    pytest.importorskip(library)
    if library == "spikingjelly":
        from spikingjelly.activation_based import layer, neuron

        model = nn.Sequential(layer.Conv2d(1, 4, 3, step_mode="m"), neuron.LIFNode(step_mode="m"), Pooled())
    else:
        import snntorch

        model = Stepped(snntorch.Leaky(0.5, init_hidden=True))
    events = torch.rand(3, 2, 1, 8, 8).transpose(0, 1) * 4
    assert verdict(model, "state", events, time_first=True).verdict == "fails"
    assert verdict(model, "batch", events, time_first=True).verdict == "holds"  # each run begins anew
    assert verdict(model, "compiled", events, time_first=True).verdict == "holds"
    if library == "spikingjelly":
        assert verdict(model, "causality", events, time_first=True).why == "time is mixed by LIFNode (1)"
    found = verdict(model, "blind_spots", events, time_first=True)
    assert found.figures["charged"] > 0 if library == "spikingjelly" else "fc1 is called once a timestep" in found.why


def test_a_hidden_state_as_other_libraries_keep_it():
    """The same as SpikingJelly's and snnTorch's neurons do it, for where they are not installed."""
    found = verdict(Stepped(Leaky()), "state", torch.rand(2, 3, 1, 8, 8) * 4, time_first=True)
    assert found.verdict == "fails" and "reset" in found.why
    for check in ("batch", "causality", "memory", "spikes"):
        assert verdict(Stepped(Leaky()), check, torch.rand(2, 3, 1, 8, 8) * 4, time_first=True).verdict != "fails", (
            check
        )
    several = nn.Sequential(Frames(Leaky()), Pooled())
    found = verdict(several, "causality", torch.rand(2, 3, 1, 8, 8) * 4, time_first=True)
    assert found.why == "time is mixed by Frames (1)"  # and nothing looks ahead, though a second run finds a state


def test_compiled_networks_answer_the_same():
    small = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    assert verdict(small, "compiled").verdict == "holds"
    assert verdict(nn.Sequential(small, nn.Dropout(0.5)), "compiled").verdict == "holds"


def test_what_a_user_can_mend_is_a_line(sound):
    with pytest.raises(UserError, match=r"no check 'bach'; did you mean 'batch'"):
        spikefront.audit(sound, IMAGES, ["bach"])
    with pytest.raises(UserError, match="empty"):
        spikefront.audit(sound, IMAGES[:0])
    with pytest.raises(UserError, match=r"doesn't take a batch of shape \(4, 3, 8, 8\)"):
        spikefront.audit(sound, IMAGES.repeat(1, 3, 1, 1))


def test_exported_to_onnx_it_answers_the_same(sound, plant):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="needs the extra 'onnx'")
    found = verdict(sound, "onnx")
    assert (found.verdict, found.why) == ("holds", "equal up to rounding")
    wrong = plant("block.0.mlp", lambda m: Around(m, lambda x: x * (2 if torch.compiler.is_exporting() else 1)))
    assert verdict(wrong, "onnx").verdict == "fails"


def test_kernels_that_answer_otherwise_are_found(sound, monkeypatch):
    assert verdict(sound, "sparse").verdict == "holds"
    right = SparseConv2d.forward
    monkeypatch.setattr(SparseConv2d, "forward", lambda self, x: 1.5 * right(self, x))
    found = verdict(sound, "sparse")
    assert found.verdict == "fails" and "logits differ by" in found.why
