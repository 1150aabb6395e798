"""Settings that do nothing beside others: one table, read at the start of a training and in a dry run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

Get = Callable[[str], Any]  # a dotted key's value, None where there is none


@dataclass(frozen=True)
class Rule:
    """A setting that does nothing where ``idle`` holds.

    Attributes:
        because: what makes it so, in words.
        unset: the value that asks for nothing, of which nothing is said; null never asks for anything.
    """

    key: str
    because: str
    idle: Callable[[Get], bool]
    unset: Any = None


def _no_mixup(get: Get) -> bool:
    return get("data.mixup") is None


def _never_off(get: Get) -> bool:
    return _no_mixup(get) or get("data.mixup_off_epoch") is None or not get("data.mixup.label_smoothing")


def _ends_before(get: Get) -> bool:
    last, off = get("trainer.max_epochs"), get("data.mixup_off_epoch")
    return not _no_mixup(get) and last not in (None, -1) and off is not None and off >= last


def _one_kind(get: Get) -> bool:
    return not _no_mixup(get) and not (get("data.mixup.mixup_alpha") and get("data.mixup.cutmix_alpha"))


def _draws_one(get: Get) -> bool:
    return any(get(f"data.augmentation.{one}") for one in ("nda", "wide", "thirds"))


def _randomly_augmented(get: Get) -> bool:
    policy = get("data.augmentation.auto_augment")
    return bool(policy) and "3a" not in policy and not _plain(get)


def _plain(get: Get) -> bool:
    return bool(get("data.augmentation.no_aug"))


def _constant(get: Get) -> bool:
    return get("schedule.name") == "constant"


def _no_warmup(get: Get) -> bool:
    return not _constant(get) and not get("schedule.warmup_epochs")


def _takes_nothing(get: Get) -> bool:
    places = {"data": ("repeats", "mixup_off_epoch"), "data.augmentation": ("flip", "roll")}
    return all(get(f"{where}.{key}") != get(f"recipe.{key}") for where, keys in places.items() for key in keys)


def _staged(get: Get) -> bool:
    return get("model.stages") is not None


def _pools_elsewhere(get: Get) -> bool:
    stages = get("model.stages") or {}
    mixers = [get(f"model.stages.{name}.mixer._target_") for name in stages] or [get("attention._target_")]
    return not any(str(mixer).endswith((".SDSA1", ".STAtten")) for mixer in mixers)


AUGMENTATION = {
    "scale": None,
    "ratio": None,
    "hflip": 0,
    "vflip": 0,
    "color_jitter": 0,
    "auto_augment": None,
    "re_prob": 0,
}
CHOSEN_A_STAGE = {  # by group: the key of a stage, and what stands in the configuration unasked
    "attention": ("mixer", "spikefront.nn.SDSA1"),
    "embedding": ("embedding", "spikefront.nn.SPS"),
    "mlp": ("mlp", "spikefront.nn.MLP"),
}
COSINE: dict[str, Any] = {
    "warmup_epochs": 0,
    "warmup_lr": None,
    "min_lr": None,
    "cooldown_epochs": 0,
    "interval": "step",
    "warmup_prefix": False,
}
RULES = (
    Rule("data.mixup_off_epoch", "nothing is mixed without data.mixup", _no_mixup),
    Rule("data.mixup_off_epoch", "the training ends before", _ends_before),
    Rule("data.smooth_after_mixup", "no smoothed targets outlive mixup",
         lambda get: _never_off(get) or _ends_before(get), unset=True),
    Rule("data.mixup.switch_prob", "one of mixup_alpha and cutmix_alpha is 0", _one_kind),
    Rule("data.cut_polarities", "cutmix is off, or what is mixed are images",
         lambda get: not get("data.mixup.cutmix_alpha") or get("data.binning") is None, unset=False),
    Rule("data.augmentation.color_jitter", "auto_augment takes its place", _randomly_augmented, unset=0),
    *(Rule(f"data.augmentation.{key}", "no_aug=true", _plain, unset) for key, unset in AUGMENTATION.items()),
    Rule(
        "data.augmentation.re_mode",
        "re_prob is 0",
        lambda get: not get("data.augmentation.re_prob") or _plain(get),
        unset="const",
    ),
    Rule("data.augmentation.roll", "nda, wide and thirds draw one of several in its place", _draws_one, unset=0),
    Rule("data.augmentation.cutout", "nda, wide and thirds draw one of several in its place", _draws_one, unset=0),
    Rule("data.half_inputs", "trainer.precision is not mixed",
         lambda get: not str(get("trainer.precision")).endswith("-mixed"), unset=False),
    Rule("data.binning.rest", "only data.binning.mode=count leaves events over",
         lambda get: get("data.binning.mode") != "count", unset=False),
    Rule("data.binning.window", "only data.binning.mode=window has one",
         lambda get: get("data.binning.mode") != "window"),
    Rule("data.binning.tau", "only data.binning.representation=time_surface decays",
         lambda get: get("data.binning.representation") != "time_surface"),
    Rule("data.seed", "it draws the validation part, and data.val_fraction is 0",
         lambda get: not get("data.val_fraction"), unset=0),
    *(Rule(f"schedule.{key}", "schedule=constant", _constant, unset) for key, unset in COSINE.items()),
    Rule("schedule.warmup_lr", "schedule.warmup_epochs is 0", _no_warmup),
    Rule("schedule.warmup_prefix", "schedule.warmup_epochs is 0", _no_warmup, unset=False),
    Rule("schedule.lr_batch", "schedule.lr_rule is none", lambda get: get("schedule.lr_rule") in (None, "none")),
    Rule("loss.mean", "loss.lambda_mse is 0", lambda get: get("loss.lambda_mse") == 0),
    Rule("teacher.tau", "teacher.hard=true learns the class alone", lambda get: bool(get("teacher.hard")), unset=1.0),
    Rule("teacher.per_timestep", "model.timesteps is 1", lambda get: get("model.timesteps") == 1, unset=False),
    Rule("teacher.rate_layers", "teacher.rate_weight is 0", lambda get: not get("teacher.rate_weight")),
    Rule("trainer.accumulate_grad_batches", "trainer.effective_batch is a number and decides",
         lambda get: get("trainer.effective_batch") not in (None, "auto"), unset=1),
    Rule("model.compile", "loss.energy_weight and energy_budget look at every layer in training",
         lambda get: bool(get("loss.energy_weight")) or get("loss.energy_budget") is not None, unset=False),
    Rule("model.compile", "teacher.rate_weight looks at neurons in training",
         lambda get: bool(get("teacher.rate_weight")), unset=False),
    Rule("model.drop_path", "it grows from 0 at the first block, and there is one",
         lambda get: get("model.depth") == 1, unset=0),
    Rule("model.event_mode", "its pools are attention=sdsa1's and statten's", _pools_elsewhere, unset=False),
    *(
        Rule(f"{group}._target_", f"stages have their own: {group}@model.stages.s1.{place}=…", _staged, ours)
        for group, (place, ours) in CHOSEN_A_STAGE.items()
    ),
    Rule("mlp.kernel", "stages have their own: mlp@model.stages.s1.mlp=…", _staged),
    Rule("surrogate._target_", "the neuron has none", lambda get: get("neuron.surrogate") is None,
         unset="spikefront.nn.Sigmoid"),
    Rule("recipe.name", "no experiment=… is chosen that takes anything from it", _takes_nothing, unset="in_force"),
    Rule("energy.first_layer", "frames of events differ in time and count each",
         lambda get: get("data.binning") is not None, unset="per_timestep"),
)  # fmt: skip


def without_effect(cfg: DictConfig) -> str | None:
    """The settings of ``cfg`` that do nothing, with their reasons, in a line; None where there is none."""
    get: Get = lambda key: OmegaConf.select(cfg, key)
    found: dict[str, list[str]] = {}
    for rule in RULES:
        value = get(rule.key)
        if value is not None and value != rule.unset and rule.idle(get):
            found.setdefault(rule.because, []).append(f"{rule.key}={value}")
    return "; ".join(f"{', '.join(keys)} ({because})" for because, keys in found.items()) or None
