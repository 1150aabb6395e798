"""Firing rates come closer to a teacher's, by the distance that is documented."""

from __future__ import annotations

import pytest
import torch
from examples import few

import spikefront
from spikefront.errors import UserError
from spikefront.training import CrossEntropy
from spikefront.training.distillation import Teacher
from spikefront.training.rate_matching import RateMatching, neurons

FIRES = ["neuron.threshold=0.2"]


def network(name: str = "sdt_1_16", timesteps: int = 2, seed: int = 0, **settings: object):
    torch.manual_seed(seed)
    return spikefront.create_model(name, data="digits", timesteps=timesteps, overrides=FIRES, **settings)


def rates_of(model, images, names):
    """As a hook sees them: each layer's mean over time."""
    found = {}
    modules = dict(model.named_modules())
    handles = [
        modules[n].register_forward_hook(lambda m, a, out, n=n: found.__setitem__(n, out.detach().mean(0)))
        for n in names
    ]
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize(("dim", "timesteps"), few([(16, 2), (16, 4), (32, 1)]))
def test_the_distance_by_hand(dim, timesteps):
    """Of another number of timesteps too; where widths differ each pixel's mean over channels is compared."""
    student, taught = network().train(), network(f"sdt_1_{dim}", timesteps, seed=1)
    images, target = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 3])
    teacher = Teacher(taught, "it", rate_weight=0.5, alpha=0.0)
    teacher.meet(student, images[:1])
    assert student.training and not taught.training
    names = neurons(student, images)
    assert list(teacher.rates.layers) == names and len(names) > 5
    ours, theirs = rates_of(student.train(), images, names), rates_of(taught, images, names)
    pairs = [(ours[n], theirs[n]) for n in names]
    if dim != 16:
        pairs = [(a.mean(1), b.mean(1)) for a, b in pairs]
    expected = torch.stack([(a - b).square().mean() for a, b in pairs]).mean()
    assert 1e-4 < expected < 1
    with teacher.watching(student):
        heads = student(images, per_step=True, per_head=True)
    total, parts = teacher.beside(CrossEntropy(), heads, images, target)
    torch.testing.assert_close(parts["rate_distance"], expected)
    torch.testing.assert_close(total, CrossEntropy()(heads[0], target) + 0.5 * expected)
    parts["rate_distance"].backward()
    assert student.head.weight.grad is None and student.patch_embed.proj_conv.weight.grad.abs().sum() > 0
    assert not any(m._forward_hooks for net in (student, taught) for m in net.modules())


def test_rates_come_closer():
    student, taught = network().train(), network(seed=1)
    images, target = torch.rand(16, 1, 8, 8), torch.arange(16) % 10
    teacher = Teacher(taught, "it", rate_weight=1.0, alpha=0.0)
    teacher.meet(student, images[:1])
    optimizer, distances = torch.optim.Adam(student.parameters(), lr=1e-2), []
    for _ in range(20):
        with teacher.watching(student):
            heads = student(images, per_step=True, per_head=True)
        _, parts = teacher.beside(CrossEntropy(), heads, images, target)
        optimizer.zero_grad()
        parts["rate_distance"].backward()
        optimizer.step()
        distances.append(parts["rate_distance"].item())
    assert distances[-1] < 0.7 * distances[0]


def test_layers_by_name_of_a_teacher_without_spikes():
    import timm

    student, images = network(), torch.rand(2, 1, 8, 8)
    taught = timm.create_model("test_resnet", num_classes=10, in_chans=1).eval()
    rates = RateMatching(1.0, {neurons(student, images)[0]: "layer1"})
    rates.fit(student, taught, images[:1], images[:1])
    with rates.watching(student, ours=True):
        student(images)
    with rates.watching(taught, ours=False):
        taught(images)
    assert rates.distance() > 0


@pytest.mark.parametrize(
    ("weight", "layers", "says"),
    [
        (-1, None, r"teacher\.rate_weight is -1"),
        (1.0, {"head_liff": "head_lif"}, "no layer is called head_liff"),
        (1.0, {"head_lif": "nothing"}, "no layer of the teacher is called nothing"),
    ],
)
def test_what_cannot_be_matched_is_one_line(weight, layers, says):
    student, images = network(), torch.rand(1, 1, 8, 8)
    with pytest.raises(UserError, match=says):
        RateMatching(weight, layers).fit(student, network(seed=1), images, images)


def test_nothing_in_common_and_blocks_that_run_twice():
    import timm

    images = torch.rand(1, 1, 8, 8)
    taught = timm.create_model("test_resnet", num_classes=10, in_chans=1).eval()
    with pytest.raises(UserError, match=r"without spikes: name teacher\.rate_layers"):
        RateMatching(1.0).fit(network(), taught, images, images)
    with pytest.raises(UserError, match=r"model\.checkpoint_blocks"):
        RateMatching(1.0).fit(network(checkpoint_blocks=True), network(), images, images)
    other = spikefront.create_model("spikingresformer_cifar", data="digits", overrides=["model.dim=32"])
    with pytest.raises(UserError, match="no neuron has one name in both networks"):
        RateMatching(1.0).fit(network(), other, images, images)
