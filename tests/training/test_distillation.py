"""A teacher's answers are learned beside the targets, whatever else a training does."""

from __future__ import annotations

import importlib

import pytest
import torch
import torch.nn.functional as F
from examples import few
from stopped import assert_goes_on_alike
from torch import nn

import spikefront
from spikefront.config import ROOT, compose
from spikefront.errors import UserError
from spikefront.nn.checkpoints import read_checkpoint
from spikefront.planning import outline
from spikefront.training import TET, CrossEntropy, Teacher, evaluate, train
from spikefront.training.setup import build_teacher

SHORT = ["data=digits", "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=2", "logger=none"]
SHORT += ["trainer.limit_val_batches=1", "trainer.limit_test_batches=1", "neuron.threshold=0.2", "data.batch_size=16"]
TINY = ["model=maxformer_cifar", "model.dim=32", "model.timesteps=2", "model.second_head=spikes"]
TINY += ["model.stages.s3=null"]


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """The checkpoint of a small network, as an override."""
    directory = tmp_path_factory.mktemp("teacher")
    result = train(compose([*SHORT, "model=sdt_1_16", f"output_dir={directory}"]))
    return [f"teacher.checkpoint='{result.checkpoint}'", "teacher=checkpoint"]


class Reads(nn.Module):
    """Answers with the images' first values."""

    def __init__(self, classes=3):
        super().__init__()
        self.weight, self.classes = nn.Parameter(torch.ones(1)), classes

    def forward(self, images):
        return images.flatten(1)[:, : self.classes] * self.weight


@pytest.mark.parametrize("loss", [CrossEntropy(), TET()])
@pytest.mark.parametrize("classifiers", [1, 2])
def test_the_loss_by_hand(loss, classifiers):
    torch.manual_seed(0)
    heads = torch.randn(classifiers, 4, 5, 3, dtype=torch.float64, requires_grad=True)
    images, target = torch.randn(5, 1, 8, 8, dtype=torch.float64), torch.randint(3, (5,))
    answers, learning = images.flatten(1)[:, :3], heads[-1].mean(0)
    hard = F.cross_entropy(learning, answers.argmax(1))
    p, log_q = (answers / 4).softmax(1), (learning / 4).log_softmax(1)
    soft = 16 * (p * (p.log() - log_q)).sum(1).mean()
    each = torch.stack([F.cross_entropy(step, answers.argmax(1)) for step in heads[-1]]).mean()
    ways = (({}, hard), ({"hard": False, "alpha": 0.3, "tau": 4.0}, soft), ({"per_timestep": True}, each))
    for settings, distance in ways:
        teacher = Teacher(Reads().double(), "it", **settings)
        total, found = teacher.beside(loss, heads, images, target)
        torch.testing.assert_close(found, {"distillation": distance})
        torch.testing.assert_close(total, (1 - teacher.alpha) * loss(heads[0], target) + teacher.alpha * distance)
        assert torch.autograd.grad(total, heads, retain_graph=True)[0].abs().sum() > 0
    assert teacher.network.weight.grad is None and not teacher.network.training


@pytest.mark.parametrize("loss", [CrossEntropy(), TET()])
def test_a_teacher_alone_needs_no_labels(loss):
    """With ``alpha=1`` a label, which images must have, is any."""
    torch.manual_seed(0)
    heads, images = torch.randn(1, 4, 5, 3, requires_grad=True), torch.randn(5, 1, 8, 8)
    teacher, found = Teacher(Reads(), "it", hard=False, alpha=1), []
    for target in (torch.zeros(5, dtype=torch.long), torch.tensor([0, 2, 1, 1, 0])):
        total, parts = teacher.beside(loss, heads, images, target)
        torch.testing.assert_close(total, parts["distillation"], rtol=0, atol=0)
        found.append(torch.autograd.grad(total, heads)[0])
    assert torch.equal(*found) and found[0].abs().sum() > 0


@pytest.mark.slow
def test_a_student_gains_by_its_teachers_answers_to_images_without_labels(monkeypatch, tmp_path):
    """Of ten images one has a label, for teacher and student; each of three seeds gains, five in the benchmark."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    script = importlib.import_module("distillation")
    case = script.CASES["unlabelled"]
    _, teacher = script.taught(case, tmp_path / "teacher")
    own, soft = (script.accuracies(case, way, teacher, range(3), tmp_path) for way in ("own", "soft"))
    gains = [with_teacher - alone for with_teacher, alone in zip(soft, own, strict=True)]
    assert min(gains) > 0 and sum(gains) / 3 >= 0.02, (own, soft)


def test_each_classifier_learns_what_is_its_own():
    """The first follows the targets, the second the teacher, who says the opposite."""
    torch.manual_seed(0)
    model = spikefront.create_model("maxformer_cifar", data="digits", num_classes=2, overrides=TINY[1:])
    images, target = torch.rand(32, 1, 8, 8), torch.arange(32) % 2
    images[:, 0, 0, 0], images[:, 0, 0, 1] = 2.0 * target, 2.0 - 2.0 * target
    teacher, optimizer = Teacher(Reads(2), "it"), torch.optim.Adam(model.parameters(), lr=1e-2)
    assert torch.equal(teacher.answers(images).argmax(-1), 1 - target)
    for _ in range(30):
        heads = model(images, per_step=True, per_head=True)
        optimizer.zero_grad()
        teacher.beside(CrossEntropy(), heads, images, target)[0].backward()
        optimizer.step()
    assert heads.shape == (2, 2, 32, 2)
    first, second = heads.mean(1).argmax(-1)
    assert (first == target).float().mean() > 0.9 and (second == 1 - target).float().mean() > 0.9


@pytest.mark.parametrize(
    "beside",
    few(
        [
            ["loss=tet", "teacher.hard=false", "teacher.tau=2"],
            ["trainer.precision=64-true", "model.checkpoint_blocks=true"],
            ["trainer.precision=bf16-mixed", "loss.energy_weight=1", "callbacks=ema"],
            ["model=statten_2_256", "model.dim=16", "model.depth=1"],
            [
                "+data.mixup={_target_: timm.data.Mixup, mixup_alpha: 0.5, num_classes: 10}",
                "+data.mixup_off_epoch=null",
            ],
        ],
        5,
    ),
    ids=lambda beside: beside[0],
)
def test_it_stands_beside_everything_else(taught, beside, tmp_path, capsys):
    network = [] if beside[0].startswith("model=") else TINY
    result = train(compose([*SHORT, *taught, *network, *beside, f"output_dir={tmp_path}"]))
    assert "learning from teacher.checkpoint=" in capsys.readouterr().out
    content = read_checkpoint(result.checkpoint)
    assert not [key for key in content["state_dict"] if not key.startswith(("model.", "accuracy."))]


@pytest.mark.slow  # without a teacher: test_preemption.py
def test_a_training_that_goes_on_ends_as_one_that_was_never_stopped(taught, tmp_path):
    common = [*SHORT, *TINY, *taught, "trainer.max_epochs=2"]
    assert_goes_on_alike(common, tmp_path)


@pytest.mark.slow
def test_several_processes_learn_from_it(taught, tmp_path):
    result = train(compose([*SHORT, *TINY, *taught, "trainer=ddp_cpu", "trainer.devices=2", f"output_dir={tmp_path}"]))
    assert result.epochs == 1


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    import timm

    path = tmp_path_factory.mktemp("timm") / "resnet.pth"
    torch.manual_seed(0)
    torch.save(timm.create_model("test_resnet", num_classes=10, in_chans=1).state_dict(), path)
    return path


def test_a_teacher_of_timms_from_a_file(weights, tmp_path):
    chosen = [*SHORT, *TINY, "teacher=timm", "teacher.model=test_resnet", f"teacher.weights='{weights}'"]
    assert "test_resnet" in outline(compose(chosen))["teacher"]
    result = train(compose([*chosen, f"output_dir={tmp_path}"]))
    weights.rename(weights.with_suffix(".gone"))  # nobody needs it any more
    found = evaluate(compose([f"checkpoint='{result.checkpoint}'", f"output_dir={tmp_path}"], root="evaluate"))
    weights.with_suffix(".gone").rename(weights)
    assert found.samples == 360


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        (["teacher=timm"], r"teacher\.model is None: give a name"),
        (["teacher=timm", "teacher.model=hf_hub:somebody/it"], r"give a name that timm\.list_models"),
        (["teacher=timm", "teacher.model=test_resnet"], r"teacher\.weights is not given"),
        (["teacher=timm", "teacher.model=no_net", "teacher.weights=x.pth"], "teacher.model=no_net: Unknown model"),
        (["teacher=timm", "teacher.model=test_resnet", "teacher.weights=x.pth"], "checkpoint x.pth is not a file"),
        (["teacher=timm", "teacher.model=test_vit", "teacher.weights={}"], "is of another model"),
        (["teacher=checkpoint"], r"teacher\.checkpoint is not given"),
        (["teacher=checkpoint", "teacher.checkpoint=x.ckpt"], r"checkpoint x\.ckpt is not a file"),
        (["teacher=checkpoint", "teacher.checkpoint={}"], "was not written by train.py"),
        (["{}", "teacher.alpha=1.5"], r"teacher\.alpha is 1\.5"),
        (["{}", "teacher.tau=0"], r"teacher\.tau is 0"),
        (["{}", "model.num_classes=7"], "answers with 10 classes and the data has 7"),
        (["{}", "data=digits_dvs"], r"can't take samples of shape \(\d+, 2, 16, 16\)"),
    ],
)
def test_what_cannot_teach_is_one_line(chosen, says, weights, taught):
    filled = [o.replace("{}", str(weights)) if "=" in o else o for o in chosen]
    filled = [o for option in filled for o in (taught if option == "{}" else [option])]
    with pytest.raises(Exception, match=says) as told:
        build_teacher(compose([*SHORT, *TINY, *filled]))
    assert any(isinstance(e, UserError) for e in (told.value, told.value.__cause__))


def test_a_teacher_runs_no_code_of_others(taught, tmp_path):
    path = taught[0].partition("=")[2].strip("'")
    content = torch.load(path, weights_only=True)
    content["hyper_parameters"]["config"]["model"]["neuron"] = {"_target_": "os.system", "command": "true"}
    torch.save(content, tmp_path / "evil.ckpt")
    with pytest.raises(Exception, match=r"would run os\.system: no setting allows that here"):
        build_teacher(compose([*SHORT, *TINY, "teacher=checkpoint", f"teacher.checkpoint='{tmp_path}/evil.ckpt'"]))


def test_a_teacher_alone_leaves_a_first_classifier_nothing_and_is_refused_beside_a_second(taught):
    asked = [*SHORT, *TINY, "loss=distillation", "teacher.alpha=1", *taught]
    with pytest.raises(UserError, match=r"teacher\.alpha=1 leaves the first classifier nothing to learn"):
        build_teacher(compose(asked))
    assert build_teacher(compose([*asked, "model.second_head=null"])).alpha == 1


def test_a_second_classifier_begins_anew_where_the_first_weights_have_none(tmp_path):
    alone = spikefront.create_model("maxformer_cifar", data="digits", overrides=[*TINY[1:], "model.second_head=null"])
    torch.save(alone.state_dict(), tmp_path / "one.pth")
    chosen = [*SHORT, *TINY, f"init='{tmp_path}/one.pth'", f"output_dir={tmp_path}"]
    assert "new 2: head_kd.weight" in outline(compose(chosen))["init"]
    assert train(compose(chosen)).epochs == 1
    model = spikefront.create_model("maxformer_cifar", data="digits", overrides=TINY[1:])
    with pytest.raises(UserError, match=r"missing: head_kd\.weight"):
        spikefront.load_checkpoint(model, tmp_path / "one.pth")
