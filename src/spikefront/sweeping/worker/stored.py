"""What a worker takes from a study's storage, looked at before any of it is composed or built."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from optuna.study import Study

from spikefront import trust
from spikefront.config import SEARCHPATH, is_group
from spikefront.errors import UserError
from spikefront.sweeping.search.grammar import key_of, parse
from spikefront.sweeping.search.space import Space
from spikefront.sweeping.study import attributes
from spikefront.sweeping.study.study import record

FLAG = "search.trust"
LOOKED_UP = ("path", "_args_")  # what Hydra's own look-ups call the name of a class
DOTTED = re.compile(r"\w+(\.\w+)+")
OUTSIDE = re.compile(r"^/|\.\.|://")  # of a config group


def check_study(study: Study, cfg: DictConfig, given: Sequence[str], flag: str = FLAG) -> None:
    """Refuse a study that would run what it has no business with: who may write to a storage shall run no code here.

    Args:
        cfg: this worker's own configuration, whose classes are the user's choice.
        given: its command line's overrides that are a trial's; of the study's these are not looked at.
        flag: what allows it where one is asked.

    Raises:
        UserError: a search setting, an override or a parameter of the study that names another class than a stored
            configuration may, other configuration files, or a resolver.
    """
    where = f"the study '{study.study_name}'"
    own = OmegaConf.to_container(cfg, resolve=False)
    made = record(study)
    trust.check(attributes.settings(study), where, flag, own)
    for p in Space.stored(made["space"]):
        _parameter(p.key, [p.text, *(p.spelled or ())], where, flag, own)
        if "_target_" in p.text:
            raise UserError(f"{where} searches classes by name, {p.key}={p.text}: {trust.CURE.format(flag=flag)}")
    for override in made["overrides"]:
        if override not in given:
            _override(override, where, flag, own)


def _override(text: str, where: str, flag: str, own: Any) -> None:
    try:
        parsed = parse(text)
        key, value = key_of(parsed), None if parsed.is_delete() else parsed.value()
    except HydraException as error:
        raise UserError(f"{where} holds {text}, which can't be read as an override") from error
    if key.startswith(SEARCHPATH):
        raise UserError(f"{where} takes configuration from {value}: give {text} yourself, or {flag}=true")
    _parameter(key, value, where, flag, own)


def _parameter(key: str, value: Any, where: str, flag: str, own: Any) -> None:
    """A key, and the value or the values that it is to have."""
    leaf, values = key.rpartition(".")[2], value if isinstance(value, list) else [value]
    for v in values:
        if leaf == "_target_" or (leaf in LOOKED_UP and DOTTED.fullmatch(str(v))):
            trust.check({"_target_": str(v)}, where, flag, own)
        if is_group(key) and OUTSIDE.search(str(v)):
            raise UserError(f"{where} takes {key} from {v}: only options of your own configuration, or {flag}=true")
    trust.check(values, where, flag, own)
