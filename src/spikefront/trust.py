"""What a stored configuration may build: one that came with a checkpoint or lies in a study's storage, not the user's.

A ``_target_`` there must be a class, of a kind that only computes, where the class is defined in a package below. Names
alone say little: ``spikefront.files.os.system`` begins well, and ``torch.nn`` has functions too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

from spikefront.config import SEARCHPATH, is_group, override_parser
from spikefront.errors import UserError

# Where allowed classes are defined, and what they descend from; None: any class there
KINDS: dict[str, tuple[str, ...] | None] = {
    "spikefront.nn": ("torch.nn.Module",),
    "spikefront.nn.surrogates": None,
    "spikefront.energy": ("spikefront.energy.Paper", "spikefront.energy.Chip"),
    "spikefront.data": (
        *("pytorch_lightning.LightningDataModule", "spikefront.data.Binning", "spikefront.data.EventAugmentation"),
    ),
    "spikefront.training": ("pytorch_lightning.Callback", "torch.nn.Module", "spikefront.training.Teacher"),
    "spikefront.sweeping.search": (
        *("optuna.samplers.BaseSampler", "optuna.pruners.BasePruner"),
        *("spikefront.sweeping.search.pruning.FrontPruner", "spikefront.sweeping.search.automatic.Auto"),
    ),
    "torch.nn": ("torch.nn.Module",),
    "torch.optim": ("torch.optim.Optimizer",),
    "timm": ("torch.nn.Module", "torch.optim.Optimizer", "timm.data.Mixup"),
    "tonic.transforms": None,
    "torchmetrics.classification": ("torchmetrics.Metric",),
    "torchvision.datasets": ("torch.utils.data.Dataset",),
    "pytorch_lightning": (
        *("pytorch_lightning.Trainer", "pytorch_lightning.Callback", "pytorch_lightning.loggers.Logger"),
        *("pytorch_lightning.profilers.Profiler", "pytorch_lightning.plugins.Precision"),
        *("pytorch_lightning.strategies.Strategy",),
    ),
    "optuna": ("optuna.samplers.BaseSampler", "optuna.pruners.BasePruner"),
}
FUNCTIONS = ("spikefront.tracking.wandb.logger.wandb_logger",)
LOOKUPS = ("hydra.utils.get_class", "hydra.utils.get_object")  # give what their path names
LOOKED_UP = ("path", "_args_")  # what these call the name of a class
DOTTED = re.compile(r"\w+(\.\w+)+")
OUTSIDE = re.compile(r"^/|\.\.|://")  # of a config group
CURE = "allow it with {flag}=true if you would run code of whoever wrote it"


def check(node: Any, where: str, flag: str | None = None, own: Any = None) -> None:
    """Refuse a stored configuration, plain mappings and lists, that would run or read what it has no business with.

    Args:
        where: what holds it, for the message.
        flag: the setting that allows it, None if there is none.
        own: the user's own configuration; what that builds may be built.

    Raises:
        UserError: a target that isn't allowed, or an interpolation that calls a resolver, as ``${oc.env:…}`` does.
    """
    mine, cure = set(targets(own)), CURE.format(flag=flag) if flag else "no setting allows that here"
    for target in targets(node):
        if target not in mine and not allowed(target):
            raise UserError(f"{where} would run {target}: {cure}")
    for text in _strings(node):
        if calls(text):
            raise UserError(f"{where} holds {text}, which reads what is here: {cure}")


def check_override(text: str, where: str, flag: str, own: Any = None) -> None:
    """Refuse an override that came with a checkpoint or a study, like ``check``, and one that looks elsewhere for
    configuration.

    Raises:
        UserError: such an override, or a text that is none.
    """
    from hydra.errors import HydraException

    try:
        parsed = override_parser().parse_override(text)
        key, value = parsed.key_or_group, None if parsed.is_delete() else parsed.value()
    except HydraException as error:
        raise UserError(f"{where} holds {text}, which can't be read as an override") from error
    if key.startswith(SEARCHPATH):
        raise UserError(f"{where} takes configuration from {value}: give {text} yourself, or {flag}=true")
    check_parameter(key, value, where, flag, own)


def check_parameter(key: str, value: Any, where: str, flag: str, own: Any = None) -> None:
    """A key, and the value or the values that it is to have."""
    leaf, values = key.rpartition(".")[2], value if isinstance(value, list) else [value]
    for v in values:
        if leaf == "_target_" or (leaf in LOOKED_UP and DOTTED.fullmatch(str(v))):
            check({"_target_": str(v)}, where, flag, own)
        if is_group(key) and OUTSIDE.search(str(v)):
            raise UserError(f"{where} takes {key} from {v}: only options of your own configuration, or {flag}=true")
    check(values, where, flag, own)


def calls(text: str) -> bool:
    """Whether a string, once interpolated, is the answer of a resolver."""
    return "${" in text and ":" in text


def targets(node: Any) -> Iterator[str]:
    """Everything that a configuration has built, by name; also what Hydra's own look-ups are to find."""
    if isinstance(node, Mapping):
        target = node.get("_target_")
        if target in LOOKUPS:
            yield from map(str, [node["path"]] if "path" in node else node.get("_args_") or [target])
        elif target is not None:
            yield str(target)
        for value in node.values():
            yield from targets(value)
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for value in node:
            yield from targets(value)


def allowed(target: str) -> bool:
    """Whether a stored configuration may name this. Imports it, if it lies in a package that is listed."""
    if target in FUNCTIONS:
        return True
    listed = any(target.startswith(f"{package}.") for package in KINDS)
    if not listed or not all(part.isidentifier() for part in target.split(".")):
        return False
    found = _found(target)
    if not isinstance(found, type):
        return False
    defined = f"{found.__module__}."
    kinds = [bases for package, bases in KINDS.items() if defined.startswith(f"{package}.")]
    return any(bases is None or issubclass(found, tuple(map(_base, bases))) for bases in kinds)


def _base(name: str) -> type:
    found = _found(name)
    assert isinstance(found, type), name
    return found


def _found(name: str) -> Any:
    """What Hydra finds under a name, in the order in which it looks; None if there is no such thing."""
    with suppress(Exception):
        path, *parts = name.split(".")
        found: Any = import_module(path)
        for part in parts:
            path = f"{path}.{part}"
            found = getattr(found, part) if hasattr(found, part) else import_module(path)
        return found
    return None


def _strings(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _strings(key)
            yield from _strings(value)
    elif isinstance(node, Sequence):
        for value in node:
            yield from _strings(value)
