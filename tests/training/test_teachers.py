"""Teachers of every kind, with images of another size and normalisation; what they cost; several processes."""

from __future__ import annotations

import sys

import pytest
import timm
import torch

import spikefront
from spikefront.config import compose
from spikefront.errors import UserError, in_a_line
from spikefront.nn.checkpoints import read_checkpoint
from spikefront.planning import outline
from spikefront.training import train
from spikefront.training.distillation import Teacher
from spikefront.training.setup import build_teacher

RUN = ["data=digits", "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=2", "logger=none"]
RUN += ["trainer.limit_val_batches=1", "trainer.limit_test_batches=1", "neuron.threshold=0.2", "data.batch_size=16"]
RUN += ["model=sdt_1_16", "model.timesteps=1", "~callbacks.progress"]


def taught(*chosen: str) -> Teacher:
    with in_a_line():  # as a command has it
        teacher = build_teacher(compose([*RUN, "output_dir=x", *chosen]))
    assert teacher is not None
    return teacher


def test_the_loss_called_distillation_is_cross_entropy_beside_a_teacher():
    short, long = (compose([*o, "output_dir=x"]) for o in (["loss=distillation"], ["teacher=checkpoint"]))
    assert short == long
    assert compose(["loss=distillation", "teacher=timm"]).teacher == compose(["teacher=timm"]).teacher
    with pytest.raises(UserError, match=r"teacher\.checkpoint is not given"):
        taught("loss=distillation")
    with pytest.raises(UserError, match="choose teacher=checkpoint"):
        taught("teacher=default")


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    """A small vision transformer of timm's that takes 160² pixels alone, with its own random weights."""
    path = tmp_path_factory.mktemp("timm") / "vit.safetensors"
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(timm.create_model("test_vit", num_classes=10, in_chans=1).state_dict(), path)
    return ["loss=distillation", "teacher=timm", "teacher.model=test_vit", f"teacher.weights='{path}'"]


def test_its_images_are_resized_and_normalised_for_it(vit):
    with pytest.raises(UserError, match=r"can't take samples of shape \(1, 8, 8\).*teacher\.size=… resizes"):
        taught(*vit)
    teacher = taught(
        *vit, "teacher.size=160", "teacher.mean=[0.5]", "teacher.std=[0.25]", "+data.mean=[0.2]", "+data.std=[2]"
    )
    assert "shown 160x160 pixels" in repr(teacher)
    images = torch.rand(3, 1, 8, 8)
    raw = images * 2 + 0.2  # as they were before data.mean and data.std
    seen = torch.nn.functional.interpolate(raw, (160, 160), mode="bilinear", antialias=True)
    expected = teacher.network((seen - 0.5) / 0.25)
    torch.testing.assert_close(teacher.ask(images), expected)
    with pytest.raises(UserError, match=r"teacher\.mean has 3 numbers and the images have 1 channels"):
        taught(*vit, "teacher.size=160", "teacher.mean=[1,1,1]", "teacher.std=[1,1,1]")


@pytest.mark.slow  # at 160: above
def test_it_teaches_at_224_pixels_and_says_what_that_costs(vit, tmp_path, capsys):
    chosen = [
        *RUN,
        *vit[:2],
        "teacher.model=test_resnet",
        "teacher.size=224",
        "teacher.hard=false",
        "model.timesteps=2",
    ]
    torch.save(timm.create_model("test_resnet", num_classes=10, in_chans=1).state_dict(), tmp_path / "r.pth")
    chosen += [f"teacher.weights='{tmp_path}/r.pth'", "teacher.per_timestep=true", "trainer.limit_train_batches=1"]
    told = outline(compose(chosen))["teacher"]
    assert "MiB of weights and" in told and "% of its time" in told
    train(compose([*chosen, f"output_dir={tmp_path}"]))
    out = capsys.readouterr().out
    assert "M multiply-accumulates a sample (" in out and "% of a step's), shown 224x224 pixels, soft" in out


def test_its_operations_are_counted(vit):
    teacher = Teacher(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)), "it")
    teacher.check(torch.zeros(1, 1, 8, 8), 10)
    student = spikefront.create_model("sdt_1_16", data="digits", timesteps=1)
    teacher.meet(student, torch.zeros(1, 1, 8, 8))
    assert teacher.macs == 640 and 0 < teacher.share < 0.01 and student.training


def test_a_training_draws_the_same_numbers_with_a_teacher(vit, tmp_path):
    run = [*RUN, "model.drop_path=0.5", "model.depth=2"]
    ends = []
    for name, more in (("without", []), ("with", [*vit, "teacher.size=160", "teacher.alpha=0"])):
        train(compose([*run, *more, f"output_dir={tmp_path}/{name}"]))
        ends.append(read_checkpoint(tmp_path / name / "checkpoints/last.ckpt")["state_dict"])
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


def test_a_published_file_by_its_networks_name(tmp_path):
    model = spikefront.create_model("sdt_2_32", data="digits", timesteps=2)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "it.pth.tar")
    chosen = ["teacher=checkpoint", f"teacher.checkpoint='{tmp_path}/it.pth.tar'", "model.timesteps=2"]
    teacher, images = taught(*chosen, "teacher.model=sdt_2_32"), torch.rand(2, 1, 8, 8)
    assert torch.equal(teacher.ask(images), model.eval()(images))
    with pytest.raises(UserError, match=r"name its network, teacher\.model=…"):
        taught(*chosen)


def test_of_events_a_teacher_of_images_is_refused(tmp_path):
    result = train(compose([*RUN, f"output_dir={tmp_path}"]))
    events = ["teacher=checkpoint", f"teacher.checkpoint='{result.checkpoint}'", "data=digits_dvs", "model.timesteps=3"]
    with pytest.raises(UserError, match=r"can't take samples of shape \(3, 2, 16, 16\)"):
        taught(*events)


def huggingface(directory, **settings):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(**small, image_size=32, patch_size=16, num_channels=1, **settings)
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(directory)
    return model


def test_a_classifier_of_hugging_faces(tmp_path, capsys):
    model = huggingface(tmp_path / "vit", num_labels=10)
    chosen = ["loss=distillation", "teacher=huggingface", f"teacher.model='{tmp_path}/vit'", "teacher.size=32"]
    images = torch.rand(3, 1, 8, 8)
    shown = torch.nn.functional.interpolate(images, (32, 32), mode="bilinear", antialias=True)
    with torch.no_grad():
        torch.testing.assert_close(taught(*chosen).ask(images), model(pixel_values=shown).logits)
    assert "% of its time" in outline(compose([*RUN, *chosen]))["teacher"]
    train(compose([*RUN, *chosen, "trainer.precision=bf16-mixed", f"output_dir={tmp_path}/run"]))
    assert "learning from teacher.model=" in capsys.readouterr().out
    huggingface(tmp_path / "few", num_labels=3)
    with pytest.raises(UserError, match="answers with 3 classes and the data has 10"):
        taught(*chosen, f"teacher.model='{tmp_path}/few'")


def test_a_classifier_that_is_not_here_is_one_line():
    pytest.importorskip("transformers")
    with pytest.raises(UserError, match="nothing is downloaded") as told:
        taught("teacher=huggingface", "teacher.model=somebody/no-such-model")
    assert "\n" not in str(told.value)


def test_without_transformers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"pip install 'spikefront\[huggingface\]'"):
        taught("teacher=huggingface", "teacher.model=x")


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0, 1])  # its answers are kept, or not
def test_two_processes_learn_what_one_does(tmp_path, shift):
    quiet = [
        "trainer.precision=64-true",
        "optimizer._target_=torch.optim.SGD",
        "optimizer.lr=0.05",
        "schedule=constant",
    ]
    teacher = train(compose([*RUN, "model.dim=32", f"output_dir={tmp_path}/teacher"]))
    run = [*RUN, *quiet, "loss=distillation", f"teacher.checkpoint='{teacher.checkpoint}'", f"data.shift={shift}"]
    run += ["teacher.hard=false", "trainer.max_epochs=2", "trainer.limit_train_batches=null", "trainer.devices={}"]
    run += ["data.batch_size=64", "teacher.rate_weight=" + "01"[shift]]
    ends = []
    for devices in (1, 2):
        chosen = [o.format(devices) if "{}" in o else o for o in run]
        train(compose([*chosen, f"output_dir={tmp_path}/{devices}"]))
        ends.append(read_checkpoint(tmp_path / str(devices) / "checkpoints/last.ckpt")["state_dict"])
    for key, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][key], rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_a_member_of_an_elastic_training_and_a_search_for_the_share(make_sweep, tmp_path):
    from spikefront.training import train as trains

    tiny = [*RUN, "search.workers=1", "search.n_trials=2", "search.seeds=2"]
    teacher = trains(compose([*RUN, f"output_dir={tmp_path}/teacher"]))
    chosen = [o for o in tiny if not o.startswith("~")]
    chosen += ["loss=distillation", f"teacher.checkpoint='{teacher.checkpoint}'"]
    search = make_sweep(*chosen, space=["teacher.alpha=choice(0.2,0.8)"], train=trains)
    search.run_here()
    assert sorted(t.params["teacher.alpha"] for t in search.study().trials) == [0.2, 0.8]
