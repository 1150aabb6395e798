"""What a worker takes from a study's storage, looked at before any of it is composed or built."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf
from optuna.study import Study

from spikefront import trust
from spikefront.cluster.stores import is_address
from spikefront.console import shown
from spikefront.errors import UserError
from spikefront.sweeping.search.space import Space
from spikefront.sweeping.study import attributes
from spikefront.sweeping.study.refusals import check_place
from spikefront.sweeping.study.storage import place_of
from spikefront.sweeping.study.study import record

FLAG = "search.trust"


def check_address(study: Study, cfg: DictConfig) -> None:
    """Refuse a study that would have this machine send trials to an address that it was not given.

    Raises:
        UserError: the study's address is not that of the worker's own ``search.dir``, or it can't keep trials there.
    """
    place = record(study)["path"]
    if is_address(place) and place != place_of(cfg.search):
        mean = f"give search.dir={shown(place.removesuffix(f'/{cfg.search.study}'))} if you mean it"
        raise UserError(f"the study '{study.study_name}' keeps its trials at {shown(place)}: {mean}")
    check_place(cfg, cfg.search)


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
        trust.check_parameter(p.key, [p.text, *(p.spelled or ())], where, flag, own)
        if "_target_" in p.text:
            raise UserError(f"{where} searches classes by name, {p.key}={p.text}: {trust.CURE.format(flag=flag)}")
    for override in made["overrides"]:
        if override not in given:
            trust.check_override(override, where, flag, own)
    if (elastic := attributes.ELASTIC.get(study)) is not None:
        for override in {*elastic["largest"], *elastic["smallest"], *(o for one in elastic["pool"] for o in one)}:
            trust.check_override(override, where, flag, own)
