"""What recipes choose between: smoothing after mixup, the last batch, halves, the rest of the events, one of six."""

from __future__ import annotations

import math

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from examples import few
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from timm.data import Mixup
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from spikefront.config import compose
from spikefront.data import EventAugmentation, build_data
from spikefront.data.binning import to_frames
from spikefront.errors import UserError
from spikefront.training import train

SMOOTH = "{_target_: timm.data.Mixup, mixup_alpha: 0.5, label_smoothing: 0.1, num_classes: 10}"


class Seen(pl.Callback):
    """Every batch: its split, its epoch, its samples, their dtype, their targets."""

    def __init__(self) -> None:
        self.batches: list[tuple] = []

    def note(self, split, trainer, batch):
        self.batches.append((split, trainer.current_epoch, len(batch[0]), batch[0].dtype, batch[1]))

    def on_train_batch_start(self, trainer, module, batch, index):
        self.note("train", trainer, batch)

    def on_validation_batch_start(self, trainer, module, batch, index, dataloader_idx=0):
        self.note("val", trainer, batch)


def trained(tmp_path, *overrides) -> list[tuple]:
    fixed = ["model=sdt_1_16", "model.timesteps=2", "trainer=cpu", "trainer.max_epochs=1", "logger=none"]
    fixed += ["trainer.limit_val_batches=1", "trainer.limit_test_batches=1", "~callbacks.progress"]
    seen = Seen()
    train(compose([*fixed, f"output_dir={tmp_path}/run", *overrides]), [seen])
    return seen.batches


@pytest.mark.parametrize("stays", [True, False])
def test_smoothing_survives_mixups_end_or_not(tmp_path, stays):
    settings = [f"+data.mixup={SMOOTH}", "+data.mixup_off_epoch=1", f"+data.smooth_after_mixup={stays}"]
    batches = trained(tmp_path, *settings, "trainer.max_epochs=2", "trainer.limit_train_batches=2")
    before, after = (next(b[-1] for b in batches if b[:2] == ("train", epoch)) for epoch in (0, 1))
    assert before.shape == (64, 10) and len(before.unique()) > 3
    if stays:
        assert sorted(after.unique().tolist()) == pytest.approx([0.01, 0.91])
    else:
        assert after.shape == (64,)


@pytest.mark.parametrize("dropped", few([True, False]))
def test_the_last_batch_is_dropped_or_kept(tmp_path, dropped):
    sizes = [b[2] for b in trained(tmp_path, f"data.drop_last={dropped}", "data.val_fraction=0") if b[0] == "train"]
    assert sizes == [64] * (1437 // 64) + ([] if dropped else [1437 % 64])


@pytest.mark.parametrize(("precision", "dtype"), few([("32-true", torch.float32), ("bf16-mixed", torch.float16)]))
def test_inputs_are_halves_under_mixed_precision(tmp_path, precision, dtype):
    settings = ["data=digits_dvs", f"data.cache={tmp_path}", "+data.half_inputs=true", "trainer.limit_train_batches=1"]
    batches = trained(tmp_path, *settings, f"trainer.precision={precision}")
    assert {b[0] for b in batches} == {"train", "val"}
    assert {b[3] for b in batches} == {dtype}


def test_the_last_frame_takes_the_rest():
    """As SpikingJelly splits by number: so many events each, and what doesn't divide at the end."""
    events = np.zeros(17, np.dtype([("x", "u2"), ("y", "u2"), ("t", "u4"), ("p", "?")]))
    events["t"] = np.arange(17)
    assert to_frames(events, (4, 4), n_event_bins=5).sum((1, 2, 3)).tolist() == [3] * 5
    assert to_frames(events, (4, 4), n_event_bins=5, rest=True).sum((1, 2, 3)).tolist() == [3, 3, 3, 3, 5]
    for rest, total in ((False, 15), (True, 17)):
        binning = instantiate(compose(["experiment=dvs128_gesture", f"data.binning.rest={rest}"]).data.binning)
        assert binning(timesteps=5, sensor=(4, 4), size=4)(events).sum() == total


def test_one_of_six_is_drawn_for_all_frames_alike():
    """Spikformer's: nothing, shear, a shift along either axis, rotation, erasing; each about a sixth of the time."""
    torch.manual_seed(0)
    augment = EventAugmentation(wide=True)
    one = torch.randint(1, 4, (2, 40, 40)).float()
    shifted = {
        tuple(shift): TF.affine(one, 0.0, list(shift), 1.0, [0.0, 0.0], InterpolationMode.NEAREST)
        for axis in (0, 1)
        for shift in ([s * (axis == 0), s * (axis == 1)] for s in range(-5, 6))
    }
    kinds = {"same": 0, "along x": 0, "along y": 0, "erased": 0, "else": 0}
    for _ in range(1200):
        frames = augment.frames(one.expand(3, 2, 40, 40).clone())
        assert torch.equal(frames[0], frames[1]) and torch.equal(frames[0], frames[2])
        assert set(frames.unique().tolist()) <= {0, 1, 2, 3}  # nearest
        found = next((shift for shift, moved in shifted.items() if torch.equal(moved, frames[0])), None)
        lost = (frames[0] != one).any(0)
        if found == (0, 0):
            kinds["same"] += 1
        elif found is not None:
            kinds["along x" if found[0] else "along y"] += 1
        elif not frames[0][:, lost].any() and 0 < lost.sum() <= 0.115 * 1600:
            kinds["erased"] += 1
        else:
            kinds["else"] += 1  # sheared or rotated
    assert kinds["else"] == pytest.approx(400, abs=80)
    for kind in ("along x", "along y", "erased"):  # a shift by 0 is none
        assert kinds[kind] == pytest.approx(190, abs=60), kinds
    assert kinds["same"] == pytest.approx(200 + 2 * 200 / 11, abs=60)


def test_one_of_three_is_drawn_for_all_frames_alike():
    """SpikingResformer's: roll, rotation, or a square of a third of the side cut out; each a third of the time."""
    torch.manual_seed(0)
    augment = EventAugmentation(thirds=True)
    one = torch.randint(1, 4, (2, 36, 36)).float()
    kinds = {"rolled": 0, "cut": 0, "rotated": 0}
    for _ in range(600):
        frames = augment.frames(one.expand(3, 2, 36, 36))
        assert torch.equal(frames[0], frames[1]) and torch.equal(frames[0], frames[2])
        lost = (frames[0] != one).any(0)
        if torch.equal(frames[0].sum((1, 2)), one.sum((1, 2))):
            kinds["rolled"] += 1
        elif not frames[0][:, lost].any() and 36 <= lost.sum() <= 144:
            kinds["cut"] += 1
        else:
            kinds["rotated"] += 1
    assert all(count == pytest.approx(200, abs=50) for count in kinds.values()), kinds


def test_cutmix_cuts_rows_and_columns_or_polarities_and_rows(tmp_path):
    """As timm's does that is given frames of events as they are: whole columns are mixed, or nothing."""
    mixup = "{_target_: timm.data.Mixup, mixup_alpha: 0.0, cutmix_alpha: 1, num_classes: 10}"
    settings = ["data=digits_dvs", f"data.cache={tmp_path}", f"+data.mixup={mixup}", "data.image_size=32"]
    images = torch.stack([torch.zeros(3, 2, 32, 32), torch.ones(3, 2, 32, 32)])
    for polarities in (False, True):
        data = build_data(compose([*settings, f"+data.cut_polarities={polarities}"]).data, 3)
        np.random.seed(0)
        narrow, empty = 0, 0
        for _ in range(40):
            mixed, target = data._mixed(data.mixup, images.clone(), torch.tensor([0, 1]), 0)
            places = mixed[0, 0, 0].bool()
            narrow += bool(places.any() and not (places.all(1) | ~places.any(1)).all())
            empty += not mixed[0].any() and float(target[0, 1]) > 0
        assert (narrow > 20, empty > 20) == (not polarities, polarities)


def test_a_channel_more_is_the_sum_and_sides_shrink_as_torchvision_shrinks_them():
    settings = ["data=cifar10_dvs", "data.channels=3", "data.binning.total=true", "data.binning.antialias=true"]
    events = np.zeros(3000, np.dtype([("x", "u2"), ("y", "u2"), ("t", "u4"), ("p", "?")]))
    draw = np.random.default_rng(0)
    events["x"], events["y"], events["p"] = (
        draw.integers(0, 128, 3000),
        draw.integers(0, 128, 3000),
        draw.random(3000) < 0.3,
    )
    frames = build_data(compose(settings).data, 2).binning(events)
    assert frames.shape == (2, 3, 64, 64)
    torch.testing.assert_close(frames[:, 2], frames[:, 0] + frames[:, 1])
    whole = torch.from_numpy(to_frames(events, (128, 128), n_event_bins=2)).float()
    torch.testing.assert_close(frames[:, :2], TF.resize(whole, [64, 64], antialias=True))
    with pytest.raises(InstantiationException, match=r"total=true gives 3"):
        build_data(compose(["data=cifar10_dvs", "data.binning.total=true"]).data, 2)


def test_two_ways_to_draw_are_one_too_many():
    with pytest.raises(InstantiationException, match=r"nda, wide and thirds"):
        build_data(compose(["data=cifar10_dvs", "data.augmentation.nda=true", "data.augmentation.wide=true"]).data, 2)


def test_events_train_as_spikformers_line_does(tmp_path):
    """Flip, one of six and mixup until an epoch, smoothing throughout."""
    mixup = "{_target_: timm.data.Mixup, mixup_alpha: 0.5, prob: 0.5, label_smoothing: 0.1, num_classes: 10}"
    settings = ["data=digits_dvs", f"data.cache={tmp_path}", "+data.augmentation={flip: 0.5, roll: 0, wide: true}"]
    settings += [
        f"+data.mixup={mixup}",
        "+data.mixup_off_epoch=1",
        "trainer.max_epochs=2",
        "trainer.limit_train_batches=8",
    ]
    targets = {epoch: [] for epoch in (0, 1)}
    for split, epoch, *_, target in trained(tmp_path, *settings):
        if split == "train":
            targets[epoch].append(len(target.unique()))
    assert {*targets[1]} == {2}  # smoothed classes
    assert 2 in targets[0] and max(targets[0]) > 2  # half of the batches are mixed


@pytest.mark.parametrize("probability", [0.0, 0.6, 1.0])
def test_mixups_probability_is_of_a_batch(probability):
    mixup = build_data(compose(["experiment=imagenet_8_384", f"data.mixup.prob={probability}"]).data, 4).mixup
    assert isinstance(mixup, Mixup)
    np.random.seed(0)
    images, classes = torch.rand(4, 3, 8, 8), torch.tensor([1, 2, 3, 4])
    kept = sum(torch.equal(mixup(images.clone(), classes)[0], images) for _ in range(300))
    assert kept / 300 == pytest.approx(1 - probability, abs=4 * math.sqrt(probability * (1 - probability) / 300) + 0.05)


@pytest.mark.parametrize(("switch", "cut"), [(0.0, 0), (1.0, 1)])
def test_mixup_or_cutmix_by_the_switchs_probability(switch, cut):
    settings = ["experiment=imagenet_8_384", f"data.mixup.switch_prob={switch}", "data.mixup.prob=1"]
    mixup = build_data(compose(settings).data, 4).mixup
    np.random.seed(0)
    images = torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)])
    values = [mixup(images.clone(), torch.tensor([0, 1]))[0].unique() for _ in range(20)]
    whole = all(set(v.tolist()) <= {0.0, 1.0} for v in values)
    assert whole == bool(cut)


def test_randaugment_draws_only_what_it_may():
    """Spikformer's five on CIFAR."""
    five = ["Equalize", "Rotate", "ShearX", "TranslateXRel", "TranslateYRel"]
    cfg = compose(["experiment=cifar10_2_512", f"data.augmentation.operations=[{','.join(five)}]"])
    drawn = build_data(cfg.data, 4).transforms()[0].transforms[2]
    assert sorted(op.name for op in drawn.ops) == five and drawn.num_layers == 1
    assert len(build_data(compose(["experiment=cifar10_2_512"]).data, 4).transforms()[0].transforms[2].ops) == 15


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["data.augmentation.operations=[Rotat]"], "did you mean 'Rotate'"),
        (["data.augmentation.operations=[]"], "some of AutoContrast"),
        (["data.augmentation.operations=[Rotate]", "data.augmentation.auto_augment=null"], "auto_augment=rand"),
    ],
)
def test_operations_that_are_not_there_are_one_line(settings, says):
    with pytest.raises(UserError, match=says):
        build_data(compose(["data=cifar10", *settings]).data, 4).transforms()
