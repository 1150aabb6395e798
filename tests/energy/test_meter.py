"""What the meter counts equals what brute force counts, whatever runs the network."""

from __future__ import annotations

import pytest
import torch
from networks import network
from torch import nn

import spikefront
from spikefront.energy import Chip, EnergyMeter, Paper, measure_energy
from spikefront.errors import UserError
from spikefront.nn.neurons import SpikingNeuron


def brute_force(model, batches):
    """Nonzero inputs of every convolution and linear layer at each timestep, counted one by one with integers."""
    counts, shapes = {}, {}

    def hook(name):
        def keep(module, args, out):
            x = args[0]
            frames = x.flatten(0, 1) if isinstance(module, nn.Linear) and x.dim() == 3 else x
            nonzero = frames.flatten(1).long().sum(1)
            if len(nonzero) == model.timesteps * keep.batch:
                per_step = nonzero.view(model.timesteps, keep.batch).sum(1)
                counts[name] = counts.get(name, 0) + per_step
            shapes[name] = out.numel() // len(frames) * module.weight[0].numel()

        return keep

    keeps = {n: hook(n) for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    handles = [model.get_submodule(n).register_forward_hook(k) for n, k in keeps.items()]
    with torch.no_grad():
        for batch in batches:
            for keep in keeps.values():
                keep.batch = len(batch)
            model(batch)
    for handle in handles:
        handle.remove()
    return counts, shapes


def assert_exact(report, counts, shapes, samples):
    spiking = {x.name: x for x in report.layers if x.kind == "spikes"}
    assert set(spiking) == set(counts) and len(counts) == 17
    for name, layer in spiking.items():
        assert (layer.spikes * samples).round().tolist() == counts[name].tolist(), name
        assert layer.spikes.tolist() == pytest.approx((counts[name].double() / samples).tolist(), rel=1e-12)
        assert layer.potential == shapes[name]
    joules = sum(0.9e-12 * layer.additions.sum() for layer in report.layers if layer.kind in ("spikes", "pool"))
    assert joules < report.total_joules


@pytest.mark.parametrize("seed", range(3))
def test_counts_equal_brute_force_over_uneven_batches(seed):
    model = network(seed)
    batches = [torch.rand(n, 1, 8, 8) for n in (8, 8, 3, 1)]
    counts, shapes = brute_force(model, batches)
    meter = EnergyMeter(model)
    with torch.inference_mode(), meter.recording():
        for batch in batches:
            model(batch)
    assert meter.samples == 20
    assert_exact(meter.report(), counts, shapes, 20)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_counts_equal_brute_force_under_autocast(dtype):
    model, batch = network(), torch.rand(6, 1, 8, 8)
    with torch.autocast("cpu", dtype):
        counts, shapes = brute_force(model, [batch])
        meter = EnergyMeter(model)
        with torch.inference_mode(), meter.recording():
            model(batch)
    assert_exact(meter.report(), counts, shapes, 6)


def test_what_a_backward_pass_recomputes_is_not_counted_again():
    model, batch = network().train(), torch.rand(4, 1, 8, 8)
    meter = EnergyMeter(model)
    meter.survey(batch)
    assert model.training and model.block[0].training
    with meter.recording():
        model(batch)
        once = meter.counts()
        model.block[0](torch.randn(4, 4, 32, 4, 4))  # as activation checkpointing does
    for a, b in zip(once, meter.counts(), strict=True):
        assert a.spikes.tolist() == b.spikes.tolist(), a.name


class Net(nn.Module):
    """Two timesteps, one convolution, one neuron of your own, one linear layer."""

    timesteps = 2

    def __init__(self, fire):
        super().__init__()
        self.conv, self.fire, self.head = nn.Conv2d(1, 4, 1), fire, nn.Linear(4, 5)
        self.conv.weight.data.fill_(1.0)
        self.conv.bias.data.fill_(1.0)

    def forward(self, x):
        s = self.fire(self.conv(x.expand(2, *x.shape).flatten(0, 1)).view(2, len(x), 4, -1))
        return self.head(s.amax(-1)).mean(0)


class Step(nn.Module):
    def __init__(self, value=1.0):
        super().__init__()
        self.value = value

    def forward(self, x):
        return (x > 1.2).float() * self.value


def test_compiled_network_counts_what_ran():
    model, batch = Net(Step()), torch.rand(4, 1, 8, 8)
    expected = measure_energy(model, batch)
    compiled = torch.compile(model, backend="eager")
    with torch.inference_mode():
        compiled(batch)
    meter = EnergyMeter(model)
    with torch.inference_mode(), meter.recording():
        compiled(batch)
    assert meter.report().total_joules == expected.total_joules
    assert expected.firing_rate > 0
    assert meter.samples == 4


def test_integer_spikes_count_as_many_additions():
    report = measure_energy(Net(Step(3.0)), torch.ones(3, 1, 1, 1))
    head = report.layers[-1]
    assert [x.kind for x in report.layers] == ["analog", "neuron", "spikes"]
    assert head.rates.tolist() == [3.0, 3.0]
    assert head.additions.tolist() == [60.0, 60.0]


class Ternary(nn.Module):
    """As many 1 as -1 in every channel, their sizes ``value``."""

    def __init__(self, value=1.0):
        super().__init__()
        self.value = value

    def forward(self, x):
        signs = torch.tensor([1.0, -1.0]).repeat(x[0].numel() // 2).view(x[0].shape)
        return signs * self.value + 0 * x


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("fire", "kind", "additions"), [(Ternary(), "spikes", 64), (Ternary(2.0), "spikes", 128)])
def test_spikes_of_both_signs_are_counted_not_summed(fire, kind, additions, memory_format):
    class Conv(Net):
        def forward(self, x):
            s = self.fire(self.conv(x.expand(2, *x.shape).flatten(0, 1)).view(2, len(x), 4, 4, 4))
            return self.mix(s.flatten(0, 1).contiguous(memory_format=memory_format)).mean((2, 3)).view(2, -1, 5).mean(0)

    model = Conv(fire)
    model.mix = nn.Conv2d(4, 5, 1)
    mix = next(x for x in measure_energy(model, torch.ones(3, 1, 4, 4)).layers if x.name == "mix")
    assert mix.kind == kind and mix.spikes.tolist() == [additions, additions]
    assert mix.dead == 0


@pytest.mark.parametrize("timid", [0.5, [0.5] * 8 + [2.0]])
def test_halves_that_add_up_to_whole_numbers_are_no_spikes(timid):
    class Halves(nn.Module):
        def forward(self, x):
            values = torch.as_tensor(timid).flatten()
            return values.repeat(x.numel())[: x.numel()].view(x.shape) + 0 * x

    class Plain(nn.Module):
        timesteps = 1

        def __init__(self):
            super().__init__()
            self.first, self.fire, self.second = nn.Conv2d(1, 9, 1), Halves(), nn.Conv2d(9, 2, 1)

        def forward(self, x):
            return self.second(self.fire(self.first(x))).mean((2, 3))

    assert measure_energy(Plain(), torch.rand(2, 1, 6, 6)).layers[-1].kind == "analog"


@pytest.mark.parametrize("inference", [True, False])
def test_what_is_changed_in_place_between_two_layers_is_counted_again(inference):
    class Changing(nn.Module):
        timesteps = 1

        def __init__(self, changes):
            super().__init__()
            self.first, self.a, self.b = (nn.Conv2d(1, 1, 1) for _ in range(3))
            self.changes = changes

        def forward(self, x):
            s = torch.ones_like(self.first(x))
            a = self.a(s)
            return a + self.b(s.mul_(self.changes))

    counts = {}
    for changes in (1.0, 0.0):
        meter = EnergyMeter(Changing(changes))
        with torch.inference_mode(inference), torch.no_grad(), meter.recording():
            meter.model(torch.rand(3, 1, 2, 2))
        counts[changes] = [layer.spikes.tolist() for layer in meter.counts()[1:]]
    assert counts == {1.0: [[4.0], [4.0]], 0.0: [[4.0], [0.0]]}


def test_counts_above_float32s_whole_numbers_are_exact():
    class Wide(nn.Module):
        timesteps = 1

        def __init__(self):
            super().__init__()
            self.first, self.conv = nn.Conv2d(1, 64, 1), nn.Conv2d(64, 1, 1)

        def forward(self, x):
            return self.conv((self.first(x) > -9).float()).mean((2, 3))

    model = Wide()
    report = measure_energy(model, torch.ones(1, 1, 512, 513))
    assert 64 * 512 * 513 > 2**24
    assert report.layers[1].spikes.tolist() == [64 * 512 * 513]


def test_a_layer_that_reads_potentials_is_analog():
    class Leaky(nn.Module):
        timesteps = 1

        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.b(self.a(x.flatten(1)))

    report = measure_energy(Leaky(), torch.randn(5, 1, 2, 2))
    assert [x.kind for x in report.layers] == ["analog", "analog"]
    assert report.total_joules == pytest.approx(4.6e-12 * (16 + 8))


def test_dead_and_saturated_channels():
    model = network()
    first = model.patch_embed
    first.proj_bn.weight.data.zero_()
    first.proj_bn.bias.data[:] = torch.tensor([-9.0, -9.0, 9.0, 0.0])[: len(first.proj_bn.bias)]
    layer = next(x for x in measure_energy(model, torch.rand(4, 1, 8, 8)).layers if x.name == "patch_embed.proj_conv1")
    assert (layer.dead, layer.saturated) == (0.75, 0.25)


class Elsewhere(nn.Module):
    """A module whose products no layer accounts for."""

    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(dim, dim))

    def forward(self, x):
        return torch.einsum("tbdhw,de->tbehw", x, self.weight)


def test_unknown_products_are_charged_and_reported():
    model = network()
    before = measure_energy(model, torch.rand(2, 1, 8, 8))
    assert before.notes == []
    model.block[0].drop_path = Elsewhere(32)
    report = measure_energy(model, torch.rand(2, 1, 8, 8))
    unknown = [x for x in report.layers if x.kind == "unclassified"]
    assert [x.name for x in unknown] == ["block.0.drop_path"]
    # attention and MLP branch both pass through it
    assert unknown[0].potential == 2 * 32 * 32 * 16
    assert any("block.0.drop_path (Elsewhere)" in note for note in report.notes)
    row = next(r for r in report.rows() if r["kind"] == "unclassified")
    assert row["joules"] == pytest.approx(4.6e-12 * 4 * unknown[0].potential)


def test_unknown_arithmetic_is_reported():
    class Scale(nn.Module):
        def forward(self, x):
            return torch.exp(x) * 0.5

    model = network()
    model.block[1].drop_path = Scale()
    (note,) = measure_energy(model, torch.rand(2, 1, 8, 8)).notes
    assert "block.1.drop_path (Scale) does exp, mul" in note
    model.block[0].drop_path = Scale()
    (note,) = measure_energy(model, torch.rand(2, 1, 8, 8)).notes
    assert "block.0.drop_path (Scale) and 1 more like it does exp, mul" in note


def test_a_users_neuron_is_one_also_where_it_is_silent():
    class Own(nn.Module):
        """Divides and multiplies as the built-in LIF does, of which nothing is said either."""

        def forward(self, x):
            return (x / 2 * 0.9 >= 1).to(x.dtype)

    model, known = network(), network()
    for name, module in list(model.named_modules()):
        if isinstance(module, SpikingNeuron):
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, Own())
    report, expected = (measure_energy(m, torch.rand(2, 1, 8, 8)) for m in (model, known))
    neurons = [[x.name for x in r.layers if x.kind == "neuron"] for r in (report, expected)]
    assert neurons[0] == neurons[1] and len(neurons[0]) > 10
    assert [n for n in report.notes if "lower bound" in n] == []


def test_bad_input():
    model = network()
    with pytest.raises(UserError, match="no samples"):
        measure_energy(model, torch.rand(0, 1, 8, 8))
    with pytest.raises(UserError, match="no samples"):
        EnergyMeter(model).report()
    with pytest.raises(UserError, match="NaN"):
        measure_energy(model, torch.full((1, 1, 8, 8), float("nan")))
    model.block[1].mlp.fc1_conv.weight.data[0] = float("nan")
    with pytest.raises(UserError, match=r"block\.1\.mlp\.fc1_conv\.weight"):
        measure_energy(model, torch.rand(1, 1, 8, 8))
    meter = EnergyMeter(network(1))
    with meter.recording(), torch.no_grad():
        meter.model(torch.rand(1, 1, 8, 8))
        with pytest.raises(UserError, match="resolution"):
            meter.model(torch.rand(1, 1, 16, 16))


def test_a_silent_network_is_said_to_be_silent():
    report = measure_energy(spikefront.create_model("sdt_2_32", data="digits"), torch.zeros(2, 1, 8, 8))
    assert "every neuron is silent" in report.notes[0]
    assert report.firing_rate == 0


def test_no_hook_and_no_mode_is_left_behind():
    model = network().train()
    model.patch_embed.proj_bn.eval()
    measure_energy(model, torch.rand(2, 1, 8, 8))
    assert model.training and not model.patch_embed.proj_bn.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_every_convention_charges_a_neuron_as_it_says():
    model, batch = network(), torch.rand(4, 1, 8, 8)
    chip = Chip("test", {32: 1e-12}, {32: 2e-12}, 4e-12)
    paper, ours = measure_energy(model, batch, Paper()), measure_energy(model, batch, chip)
    rows = {r["name"]: r for r in ours.rows()}
    neuron = next(x for x in ours.layers if x.kind == "neuron")
    assert neuron.name not in {r["name"] for r in paper.rows()}
    assert rows[neuron.name]["joules"] == pytest.approx(4 * neuron.outputs * (2 + 1 + 8) * 1e-12)
    layer = next(x for x in ours.layers if x.name == "block.0.mlp.fc1_conv")
    expected = layer.additions.sum() * (1 + 4 + 8) + layer.spikes.sum() * 4 / 32
    assert rows[layer.name]["joules"] == pytest.approx(expected * 1e-12)


def test_an_operator_that_multiplies_costs_multiplications():
    class Softmax(nn.Module):
        analog = True

        def forward(self, q, k, v, *_):
            q, k, v = (x.flatten(3).transpose(2, 3) for x in (q, k, v))
            return torch.softmax(q @ k.mT, -1) @ v

        def operations(self, q, *_):
            tokens = q.shape[3] * q.shape[4]
            done = 2 * tokens**2 * q.shape[2]
            return torch.full(q.shape[:2], float(done)), done

    model = network()
    op = Softmax()
    op.forward, inner = lambda *a: inner(*a).transpose(2, 3).reshape(a[0].shape), op.forward
    model.block[0].attn.op = op
    report = measure_energy(model, torch.rand(2, 1, 8, 8))
    row = next(r for r in report.rows() if r["name"] == "block.0.attn.op")
    assert row["kind"] == "analog" and report.notes == []
    assert row["joules"] == pytest.approx(4.6e-12 * 4 * 2 * 16**2 * 32)
