"""What is said to do nothing does nothing: a training ends with the same weights and energy whatever its value, and
with other ones where it acts."""

from __future__ import annotations

import hashlib

import pytest
import pytorch_lightning as pl
import timm
import torch
from examples import few
from layouts import cifar, shards
from own import given
from torchvision.datasets import CIFAR10

from spikefront.config import CONF, compose
from spikefront.data import build_data
from spikefront.training import train
from spikefront.training.inert import RULES, without_effect

MIXUP = (
    "+data.mixup={_target_: timm.data.Mixup, mixup_alpha: 1, cutmix_alpha: %s, label_smoothing: 0.1, num_classes: 10}"
)
MIXED, BOTH = MIXUP % 0, MIXUP % 1
CUT = BOTH.replace("mixup_alpha: 1", "mixup_alpha: 0")
PICTURES, EVENTS, TET = "data=cifar10", "data=digits_dvs", "loss=tet"
CONSTANT, COSINE = "schedule=constant", "schedule=cosine"
PLAIN, DRAWN = "+data.augmentation.no_aug=true", "+data.augmentation.no_aug=false"
STAGED = "model=spikformer_cifar"
TAUGHT, RATED = "teacher=timm", "teacher.rate_layers={head_lif: layer1}"
BARE = "data.augmentation.auto_augment=null"

# the key, two values, where it does nothing, where it acts
CASES: list[tuple[str, tuple, list[str], list[str] | None]] = [
    ("data.mixup_off_epoch", (0, 1), [], [MIXED]),
    ("data.mixup_off_epoch", (5, 2), [MIXED], [MIXED, "trainer.max_epochs=3"]),
    ("data.smooth_after_mixup", ("true", "false"), [], [MIXED, "+data.mixup_off_epoch=1"]),
    ("data.smooth_after_mixup", ("true", "false"), [MIXED, "+data.mixup_off_epoch=2"], None),
    ("data.mixup.switch_prob", (0.0, 1.0), [MIXED], [BOTH]),
    ("data.augmentation.color_jitter", (0.2, 0.9), [PICTURES], [PICTURES, BARE]),
    ("data.augmentation.color_jitter", (0.2, 0.9), [PICTURES, PLAIN, BARE], [PICTURES, DRAWN, BARE]),
    ("data.augmentation.scale", ("[0.1,0.2]", "[0.8,0.9]"), [PICTURES, PLAIN], [PICTURES, DRAWN]),
    ("data.augmentation.ratio", ("[1,1]", "[3,4]"), [PICTURES, PLAIN], [PICTURES, DRAWN]),
    ("data.augmentation.hflip", (0.0, 1.0), [PICTURES, PLAIN], [PICTURES, DRAWN]),
    ("data.augmentation.vflip", (0.0, 1.0), [PICTURES, PLAIN], [PICTURES, DRAWN]),
    ("data.augmentation.auto_augment", ("rand-m5", "rand-m9-n3"), [PICTURES, PLAIN], [PICTURES, DRAWN]),
    ("data.augmentation.re_prob", (0.0, 1.0), [PICTURES, PLAIN], [PICTURES, DRAWN]),
    ("data.augmentation.re_mode", ("const", "pixel"), [PICTURES], [PICTURES, "data.augmentation.re_prob=1"]),
    ("data.augmentation.roll", (0, 3), [EVENTS, "+data.augmentation.nda=true"], [EVENTS]),
    ("data.augmentation.roll", (0, 3), [EVENTS, "+data.augmentation.wide=true"], None),
    ("data.augmentation.cutout", (0, 8), [EVENTS, "+data.augmentation.nda=true"], [EVENTS]),
    ("data.augmentation.roll", (0, 3), [EVENTS, "+data.augmentation.thirds=true"], None),
    ("data.cut_polarities", ("false", "true"), [EVENTS, MIXED], [EVENTS, CUT]),
    ("data.cut_polarities", ("false", "true"), [CUT], None),
    ("data.half_inputs", ("false", "true"), [EVENTS], None),  # where it acts: test_switches.py
    ("data.binning.rest", ("false", "true"), [EVENTS], [EVENTS, "data.binning.mode=count"]),
    ("data.binning.window", (9000, 30000), [EVENTS], [EVENTS, "data.binning.mode=window"]),
    ("data.binning.tau", (900, 90000), [EVENTS], [EVENTS, "+data.binning.representation=time_surface"]),
    ("data.seed", (0, 3), ["data.val_fraction=0"], ["data.val_fraction=0.2"]),
    ("schedule.warmup_epochs", (0, 1), [CONSTANT], [COSINE]),
    ("schedule.warmup_lr", (1e-6, 1e-3), [CONSTANT], [COSINE]),
    ("schedule.warmup_lr", (1e-6, 1e-3), [COSINE, "schedule.warmup_epochs=0"], None),
    ("schedule.min_lr", (1e-6, 1e-3), [CONSTANT], [COSINE, "trainer.max_epochs=3"]),
    ("schedule.cooldown_epochs", (0, 1), [CONSTANT], [COSINE, "trainer.max_epochs=3"]),
    ("schedule.interval", ("step", "epoch"), [CONSTANT], [COSINE]),
    ("schedule.warmup_prefix", ("false", "true"), [CONSTANT], [COSINE, "trainer.max_epochs=3"]),
    ("schedule.warmup_prefix", ("false", "true"), [COSINE, "schedule.warmup_epochs=0"], None),
    ("schedule.lr_batch", (32, 64), [], ["schedule.lr_rule=linear"]),
    ("loss.mean", (1.0, 5.0), [TET, "loss.lambda_mse=0.0"], [TET, "loss.lambda_mse=0.5"]),
    ("teacher.tau", (1.0, 4.0), [TAUGHT], [TAUGHT, "teacher.hard=false"]),
    ("teacher.per_timestep", ("false", "true"), [TAUGHT, "model.timesteps=1"], [TAUGHT]),
    ("teacher.rate_layers", ("{head_lif: layer1}", "{head_lif: layer2}"), [TAUGHT], [TAUGHT, "teacher.rate_weight=1"]),
    ("trainer.accumulate_grad_batches", (1, 2), ["trainer.effective_batch=8"], ["trainer.effective_batch=null"]),
    ("model.compile", ("false", "true"), ["loss.energy_weight=1.0"], None),
    ("model.compile", ("false", "true"), [TAUGHT, "teacher.rate_weight=1", RATED], None),
    ("model.drop_path", (0.0, 0.5), [], ["model=sdt_2_16"]),
    ("model.event_mode", ("false", "true"), ["attention=ssa"], ["attention=sdsa1"]),
    ("model.event_mode", ("false", "true"), [STAGED], ["attention=statten"]),
    ("attention", ("sdsa1", "ssa"), [STAGED], []),
    ("embedding", ("sps", "conv_stem"), [STAGED], []),
    ("mlp", ("mlp", "group_wise"), [STAGED], []),
    ("mlp.kernel", (1, 3), [STAGED], []),
    ("surrogate", ("sigmoid", "atan"), ["neuron=relu"], ["neuron=lif"]),
    ("energy.first_layer", ("per_timestep", "once"), [EVENTS], []),
    ("recipe", ("in_force", "written"), [], None),  # where it acts: test_recipes.py
]

NAMES = {group: f"{group}._target_" for group in ("attention", "embedding", "mlp")} | {
    "surrogate": "surrogate._target_",
    "recipe": "recipe.name",
}  # of what is chosen by its group


class Weights(pl.Callback):
    digest = ""

    def on_train_end(self, trainer, module) -> None:
        digest = hashlib.sha256()
        for p in module.model.state_dict().values():
            digest.update(p.numpy().tobytes())
        self.digest = digest.hexdigest()


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """``go("data=digits", …)`` -> what a training ends with, its weights and its energy; where its data lie."""
    root, known = tmp_path_factory.mktemp("inert"), {}
    with pytest.MonkeyPatch.context() as patch:
        cifar(root, CIFAR10, patch)
        torch.save(timm.create_model("test_resnet", num_classes=10, in_chans=1).state_dict(), root / "teacher.pth")

        def go(*overrides: str) -> tuple[str, float]:
            if overrides not in known:
                weights = Weights()
                result = train(compose([*fixed(root), *overrides]), [weights])
                known[overrides] = weights.digest, result.energy_joules
            return known[overrides]

        yield go, root


def fixed(root) -> list[str]:
    return [
        *("model=sdt_1_16", "model.timesteps=2", "trainer=cpu", "trainer.max_epochs=2"),
        *("trainer.limit_train_batches=2", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1"),
        *("data.batch_size=8", "data.num_workers=0", "callbacks=quiet", "logger=none", f"output_dir={root}/run"),
    ]


def chosen(root, settings: list[str], key: str, value: object) -> list[str]:
    more = []
    if PICTURES in settings:
        more = [f"data.root={root}", "data.download=false", "data.val_fraction=0"]
    if EVENTS in settings:
        more = [f"data.cache={root}/cache"]
    if "neuron=relu" not in settings:
        more += ["neuron.threshold=0.1"]
    if TAUGHT in settings:
        more += ["teacher.model=test_resnet", f"teacher.weights={root}/teacher.pth"]
    if STAGED in settings:
        more += ["model.dim=32", "model.stages.s1.depth=1"]
    return [*settings, *more, f"{'' if key in NAMES else '++'}{key}={value}"]


NAMED = {"argnames": ("key", "values", "idle", "acts"), "ids": lambda v: v if isinstance(v, str) else ""}


@pytest.mark.parametrize(argvalues=few(CASES, 6), **NAMED)
def test_a_setting_is_named_where_it_does_nothing_alone(tmp_path, key, values, idle, acts):
    def said(settings: list[str]) -> bool:
        cfg = compose([*fixed(tmp_path), *chosen(tmp_path, settings, key, values[1])])
        return f"{NAMES.get(key, key)}=" in (without_effect(cfg) or "")

    assert said(idle)
    assert acts is None or not said(acts)


@pytest.mark.slow
@pytest.mark.parametrize(argvalues=CASES, **NAMED)
def test_it_does_nothing_there_and_something_elsewhere(outcome, key, values, idle, acts):
    go, root = outcome
    first, second = (go(*chosen(root, idle, key, value)) for value in values)
    assert first == second
    if acts is not None:
        first, second = (go(*chosen(root, acts, key, value)) for value in values)
        assert first != second


def test_every_rule_is_shown():
    shown = {NAMES.get(key, key) for key, *_ in CASES}
    assert {rule.key for rule in RULES} == shown


def test_repetition_is_of_shards_too(tmp_path):
    """So no rule says that it is not."""
    settings = ["data=imagenet", f"data.root={shards(tmp_path)}", f"data.cache={tmp_path}", "data.repeats=2"]
    settings += ["data.num_classes=2", "data.batch_size=4", "data.num_workers=0", "data.val_fraction=0"]
    data = build_data(compose([*settings, "data.image_size=32"]).data, 2)
    data.setup()
    images, labels = next(iter(data.train_dataloader()))
    assert labels[0] == labels[1] and labels[2] == labels[3] and not (images[0] == images[1]).all()


@pytest.mark.parametrize("path", few(sorted((CONF / "experiment").glob("*.yaml")), 9), ids=lambda p: p.stem)
def test_a_recipe_sets_nothing_in_vain(path):
    assert without_effect(compose([f"experiment={path.stem}", "output_dir=x"])) is None


@pytest.mark.parametrize("path", few(sorted((CONF / "data").glob("*.yaml"))), ids=lambda p: p.stem)
def test_a_data_set_sets_nothing_in_vain(path, tmp_path):
    assert without_effect(compose([f"data={path.stem}", "output_dir=x", *given(path.stem, tmp_path)])) is None


def test_a_training_says_it_at_its_start(script, quick):
    once = ("trainer.max_epochs=1", "trainer.limit_train_batches=1")
    code, out, err = script("train", *quick, *once, "schedule=constant", "schedule.lr_batch=64")
    assert code == 0, err
    line = "without effect: schedule.lr_batch=64 (schedule.lr_rule is none)"
    assert out.splitlines().count(line) == 1
    code, out, _ = script("train", *quick, *once)
    assert code == 0 and "without effect" not in out
