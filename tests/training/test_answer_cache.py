"""A teacher's answers are kept where images come again as they were, and never taken for another image's."""

from __future__ import annotations

import pytest
import torch
from examples import few
from stopped import assert_goes_on_alike
from torch import nn

from spikefront.config import compose
from spikefront.nn.checkpoints import read_checkpoint
from spikefront.training import train
from spikefront.training.answer_cache import AnswerCache, augmented, fingerprints
from spikefront.training.distillation import Teacher

RUN = ["data=digits", "trainer=cpu", "trainer.max_epochs=2", "callbacks=default", "logger=none", "data.batch_size=512"]
RUN += ["neuron.threshold=0.2", "model=sdt_1_16", "model.timesteps=1", "loss=distillation", "data.drop_last=false"]
RUN += ["trainer.limit_val_batches=1", "trainer.limit_test_batches=1"]
MIXUP = ["+data.mixup={_target_: timm.data.Mixup, mixup_alpha: 0.5, num_classes: 10}"]


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    directory = tmp_path_factory.mktemp("teacher")
    short = [*(o for o in RUN if o != "loss=distillation"), "trainer.max_epochs=1"]
    result = train(compose([*short, "model.dim=32", f"output_dir={directory}"]))
    return f"teacher.checkpoint='{result.checkpoint}'"


@pytest.fixture
def asked(monkeypatch):
    """How many images were shown to the teacher, one number a batch."""
    sizes: list[int] = []
    ask = Teacher.ask

    def counted(self, images):
        sizes.append(len(images))
        return ask(self, images)

    monkeypatch.setattr(Teacher, "ask", counted)
    return sizes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_an_image_is_known_by_every_bit(dtype):
    torch.manual_seed(0)
    images = torch.randn(64, 3, 5, 5).to(dtype)
    keys = fingerprints(images)
    assert len(set(keys)) == 64 and fingerprints(images.flip(0)) == keys[::-1]
    other = images.clone()
    other[:, 2, 4, 4] = torch.nextafter(other[:, 2, 4, 4], torch.full((), torch.inf, dtype=dtype))
    assert not set(fingerprints(other)) & set(keys)
    assert not set(fingerprints(-images)) & set(keys)  # the sign alone: the highest bit


def test_a_batch_is_found_if_all_of_it_is():
    images, cache = torch.rand(6, 1, 4, 4), AnswerCache()
    cache.add(fingerprints(images), torch.arange(12.0).view(6, 2))
    assert torch.equal(cache.find(images[[4, 1]]), torch.tensor([[8.0, 9.0], [2.0, 3.0]]))
    assert cache.find(torch.cat([images[:2], torch.rand(1, 1, 4, 4)])) is None


def test_of_images_as_they_are_the_teacher_is_asked_once(taught, asked, tmp_path, capsys):
    train(compose([*RUN, taught, "data.shift=0", f"output_dir={tmp_path}"]))
    assert "the teacher was asked once: 1,29" in capsys.readouterr().out
    assert sum(asked) == 1 + 1293  # one that it was tried on, and each of the training part


@pytest.mark.parametrize(
    ("chosen", "says"),
    few(
        [
            ([], "the images are augmented"),
            (["data.shift=0", *MIXUP, "+data.mixup_off_epoch=null"], "data.mixup mixes the images"),
            (["data.shift=0", "teacher.rate_weight=1"], "firing rates are matched"),
            (["data.shift=0", "trainer.max_epochs=1"], "no image comes twice"),
        ],
        2,
    ),
)
def test_else_at_each_step_and_it_is_said_why(taught, asked, tmp_path, capsys, chosen, says):
    epochs = [] if "trainer.max_epochs=1" in chosen else ["trainer.max_epochs=2"]
    even = ["data.batch_size=128", "data.drop_last=true", "trainer.limit_train_batches=2"]
    even = [] if says == "no image comes twice" else even
    train(compose([*RUN, taught, *even, *epochs, *chosen, "~callbacks.progress", f"output_dir={tmp_path}"]))
    out = capsys.readouterr().out
    if says in ("the images are augmented", "data.mixup mixes the images", "firing rates are matched"):
        assert sum(asked) == 1 + 4 * 128
    assert f"the teacher is asked at each step: {says}" in out


@pytest.mark.slow
def test_kept_answers_are_what_it_would_say(taught, tmp_path):
    ends = {}
    for cache in ("true", "false"):
        run = [
            *RUN,
            taught,
            "data.shift=0",
            "teacher.hard=false",
            f"teacher.cache={cache}",
            "trainer.precision=64-true",
        ]
        train(compose([*run, "optimizer._target_=torch.optim.SGD", f"output_dir={tmp_path}/{cache}"]))
        ends[cache] = read_checkpoint(tmp_path / cache / "checkpoints/last.ckpt")["state_dict"]
    for key, value in ends["true"].items():
        torch.testing.assert_close(value, ends["false"][key], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_training_that_goes_on_gets_the_same_answers(taught, tmp_path):
    common = [*RUN, taught, "data.shift=0", "trainer.precision=bf16-mixed", "model.drop_path=0.2"]
    common += ["model.depth=2", "+data.half_inputs=true"]
    assert_goes_on_alike(common, tmp_path)


class Part:
    """A training part, some of whose samples are as they are."""

    def __init__(self, noisy: set[int]) -> None:
        self.noisy = noisy

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int):
        return torch.zeros(3) + (torch.rand(()) if index in self.noisy else 0), 0


def test_augmentation_is_seen_and_draws_nothing_of_the_trainings():
    data = nn.Module()
    before = torch.get_rng_state()
    for noisy, told in ((set(range(100)), True), ({30, 33}, True), (set(), False)):
        data.train_set = Part(noisy)
        assert augmented(data) is told
    assert torch.equal(before, torch.get_rng_state())
