"""The meter over all published families: one count, learned or deployed, of whole spikes and of what isn't."""

from __future__ import annotations

import exact
import pytest
import torch
from examples import few
from torch import nn

import spikefront
from spikefront.config import compose
from spikefront.energy import EnergyMeter
from spikefront.energy.values import is_whole
from spikefront.errors import UserError
from spikefront.nn.integers import Integer, at_most, most_spikes
from spikefront.training import evaluate, train
from spikefront.training.result import summary

HEADS = ("spikformer", "spikingformer", "qkformer", "spikingresformer", "sdt_v3_large")  # read analog means


def network(case: str) -> tuple[nn.Module, torch.Tensor]:
    model = exact.build(case)
    exact.load(case, model)
    return model.float().eval(), exact.inputs(case).float()


ONE_EACH = ("qkformer_event", "spikingresformer_event", "statten_event", "sdt_v2_tiny", "sdt_v3_large_tiny_kd")


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[] if c in ONE_EACH else pytest.mark.slow) for c in exact.CASES]
)
def test_learned_and_deployed_cost_the_same(case):
    model, x = network(case)
    learned, deployed = (spikefront.measure_energy(m, x) for m in (model, model.for_inference()))
    assert learned.total_joules == pytest.approx(deployed.total_joules, rel=1e-5)
    assert not learned.notes and not deployed.notes
    analog = {layer.name for layer in learned.layers if layer.kind == "analog"}
    first = learned.layers[0].name
    expected = {first, *(["head"] if case.startswith(HEADS) else [])}
    if case.startswith("sdt_v2"):  # the last of each separable convolution reads what the one before it gives
        expected |= {n for n, _ in model.named_modules() if n.endswith("attn.pwconv2")}
    assert analog == expected
    assert {layer.kind for layer in learned.layers} <= {"analog", "spikes", "neuron", "attention", "pool"}


@pytest.mark.parametrize("case", few(["sdt_v3_event", "sdt_v3_tiny", "sdt_v3_large_tiny"]))
def test_integers_count_as_so_many_additions(case):
    model, x = network(case)
    counts: dict[str, float] = {}
    fired: dict[int, torch.Tensor] = {}
    for module in model.modules():
        if isinstance(module, Integer):
            module.register_forward_hook(lambda m, a, out: fired.__setitem__(out.data_ptr(), (out * m.norm).sum()))
    name = "stages.0.block.0.mlp.fc2_conv"
    model.get_submodule(name).register_forward_pre_hook(
        lambda m, a: counts.__setitem__(name, fired[a[0].data_ptr()].item() / len(x))
    )
    report = spikefront.measure_energy(model, x)
    layer = next(layer for layer in report.layers if layer.name == name)
    assert layer.spikes.sum() == pytest.approx(counts[name], rel=1e-6) and counts[name] > 0
    assert layer.rate > 0 and layer.additions.sum() == pytest.approx(layer.rate * layer.potential * layer.timesteps)


class Unrolled(nn.Module):
    """A convolution of integers as ``levels`` convolutions of binary spikes, one a virtual step, added up."""

    def __init__(self, conv: nn.Module, levels: int, norm: float) -> None:
        super().__init__()
        self.conv, self.levels, self.norm = conv, levels, norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        counts = (x * self.norm).round()
        steps = [(counts > d).to(x.dtype) for d in range(self.levels)]
        assert torch.equal(sum(steps), x * self.norm)
        assert all(is_whole(s) and s.max() <= 1 for s in steps)
        bias = self.conv.bias
        shift = 0 if bias is None else bias.view(-1, *[1] * (x.dim() - 2)) if x.dim() == 4 else bias
        return sum(self.conv(s) - shift for s in steps) / self.norm + shift


@pytest.mark.parametrize("case", few(["sdt_v3_tiny", "sdt_v3_event", "sdt_v3_large_tiny_kd"]))
@pytest.mark.parametrize("levels", few([1, 3, None], 2))
def test_integer_evaluation_equals_binary_virtual_steps(case, levels):
    """Of all of them, and of the first ones alone."""
    model, _ = network(case)
    model, x = model.double(), exact.inputs(case)
    every = most_spikes(model)
    levels, norms = levels or every, {}
    with at_most(model, levels):
        _unroll_and_compare(model, x, levels, every, norms)


def _unroll_and_compare(model, x, levels, every, norms):
    def norm_of(name):
        def hook(module, args):
            unit = next((n for n in (1.0, every) if is_whole(args[0] * n)), None)
            norms[name] = unit

        return hook

    layers = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    handles = [m.register_forward_pre_hook(norm_of(n)) for n, m in layers.items()]
    with torch.inference_mode():
        expected = model(x)
        for handle in handles:
            handle.remove()
        first = next(iter(layers))  # reads the input, of events whole numbers too
        reading = {n: norm for n, norm in norms.items() if norm is not None and n != first}
        for name, norm in reading.items():
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, Unrolled(layers[name], levels, norm))
        torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-12)
    assert len(reading) > len(layers) / 2


def test_fewer_levels_are_the_first_of_the_virtual_steps():
    neuron, x = Integer(levels=4), torch.linspace(-1, 6, 141)
    counts = neuron(x) * 4
    for d in (1, 2, 3, 4, 7):
        with at_most(neuron, d):
            assert torch.equal(neuron(x) * 4, counts.clamp(max=d))
    assert neuron.levels == 4 and torch.equal(neuron(x) * 4, counts)


V3 = ["model=e_spikeformer", "model.dim=32", "model.stages.s4.depth=1", "model.stages.s5.depth=1", "neuron.levels=3"]
ONCE = ["logger=none", "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=2", "neuron.threshold=0.2"]
ONCE += ["trainer.limit_val_batches=1", "trainer.limit_test_batches=1", "data.batch_size=16"]


def test_evaluate_tells_the_curve_over_virtual_steps(tmp_path):
    trained = train(compose([*V3, *ONCE, f"output_dir={tmp_path}"]))
    short = ["+overrides.trainer.limit_val_batches=1", "+overrides.trainer.limit_test_batches=1"]
    asked = [f"checkpoint='{trained.checkpoint}'", "levels=true", *short, f"output_dir={tmp_path}"]
    found = evaluate(compose(asked, root="evaluate"))
    assert [p["levels"] for p in found.levels] == [1, 2, 3]
    assert found.levels[-1]["accuracy"] == found.accuracy
    energies = [p["energy_joules"] for p in found.levels]
    assert energies == sorted(set(energies)) and energies[-1] == found.energy_joules
    assert found.anytime[-1]["energy_joules"] == pytest.approx(found.energy_joules)
    assert f"d=2 {found.levels[1]['accuracy']:.4f}" in summary(found, str(tmp_path))
    # each point is what the network with that neuron would be measured as
    limited = ["+overrides.model.neuron.levels=2", "+overrides.model.neuron.norm=3"]
    alone = evaluate(compose([asked[0], *limited, *short, asked[-1]], root="evaluate"))
    assert (alone.accuracy, alone.energy_joules) == (found.levels[1]["accuracy"], found.levels[1]["energy_joules"])


def test_networks_of_binary_spikes_have_no_virtual_steps(tmp_path):
    trained = train(compose(["model=sdt_1_16", *ONCE, f"output_dir={tmp_path}"]))
    asked = [f"checkpoint='{trained.checkpoint}'", "levels=true", f"output_dir={tmp_path}"]
    with pytest.raises(UserError, match="levels=true: no neuron"):
        evaluate(compose(asked, root="evaluate"))


def test_a_neuron_of_integers_is_audited_as_such():
    model, x = network("sdt_v3_tiny")
    report = spikefront.audit(model, x, "additions")
    assert {"input", "integer"} <= set(report.inputs.values()) <= {"input", "integer", "binary"}


@pytest.mark.parametrize(
    "case", few(["maxformer_cifar", "ms_qkformer_imagenet", "spikingresformer_imagenet", "statten"])
)
def test_membrane_families_are_spike_driven_but_for_an_analog_head(case):
    model, x = network(case)
    report = spikefront.audit(model.for_inference(), x, "additions")
    analog = {name for name, kind in report.inputs.items() if kind == "real"}
    assert analog <= {"head"} and not report.multiplications
    assert {kind for name, kind in report.inputs.items() if name not in analog} == {"input", "binary"}


def test_integers_are_compared_with_activations_of_as_many_values():
    model, x = network("sdt_v3_tiny")
    report = spikefront.measure_energy(model, x)
    assert report.to_dict()["baseline"]["quantised"]["bits"] == 3  # T = 1, four levels
    assert "embedding" in report.groups and "mlp" in report.groups and "stages" not in report.groups


@pytest.mark.parametrize("case", few(["sdt_v3_tiny", "sdt_v3_large_tiny"], 2))
def test_what_a_spike_is_worth_is_known_of_silent_layers(case):
    model, x = network(case)
    meter = EnergyMeter(model)
    quiet = {n: m.bias.clone() for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.bias -= 100  # nothing fires while it looks
        meter.survey(x)
        for name, bias in quiet.items():
            model.get_submodule(name).bias.copy_(bias)
    with torch.inference_mode(), meter.recording():
        model(x)
    seen, expected = meter.report(), spikefront.measure_energy(model, x)
    assert seen.total_joules == pytest.approx(expected.total_joules)
    assert [layer.kind for layer in seen.layers] == [layer.kind for layer in expected.layers]


def test_a_step_that_has_seen_the_next_costs_that_one_too():
    model, x = network("statten")
    first, second, third, fourth = spikefront.measure_energy(model, x).anytime_joules
    assert first == second < third == fourth
