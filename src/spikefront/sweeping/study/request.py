"""What one sweep command asks for: read from configuration and command line, checked, and nothing made of it yet."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf, open_dict

from spikefront.config import LOCAL, SEARCHPATH, compose, flat, is_group, merge, override
from spikefront.errors import UserError, near_matches
from spikefront.start import typed
from spikefront.sweeping.search import engines, priors
from spikefront.sweeping.search import objectives as objectives_
from spikefront.sweeping.search.grammar import key_of, parse
from spikefront.sweeping.search.space import Parameter, Space
from spikefront.sweeping.study.attributes import Elastic
from spikefront.sweeping.study.refusals import Predict, check, check_place, check_validated, choice
from spikefront.sweeping.study.storage import directory, journal_url, url
from spikefront.units import short_names

EXHAUSTIVE = ("optuna.samplers.BruteForceSampler", "spikefront.sweeping.search.samplers.Exhaustive")
FREE_GROUPS = ("logger", "callbacks", "dry_run", "output_dir", "resume", "search")
Options = Callable[[str], list[str]]  # of a config group
Slices = Callable[..., tuple[Space, Elastic]]  # (space, shared overrides, default, pool, seed) to what is elastic of it


@dataclass(frozen=True)
class Request:
    """A search as it was asked for.

    Attributes:
        search: ``cfg.search`` as plain data, the study named.
        budget: how many finished trials the study shall have.
        exhaustive: the sampler visits every point once.
        fixed: the command line's overrides that nothing sweeps.
        base: the configuration without the searched parameters, resolved: a study's trials must agree in it.
        default: the searched parameters' default values, or what is offered nearest to them, which become trial 0.
        default_whole: all of them are offered as they are.
        notes: lines about what was asked for and is not quite what will happen.
        command: what all trials share, as train.py takes it.
        arguments: the command line's overrides, as they were given.
        elastic: what one training for all trials trains; None where every trial trains its own network.
    """

    search: dict[str, Any]
    space: Space
    objectives: dict[str, str]
    budget: int
    exhaustive: bool
    fixed: list[str]
    base: dict[str, Any]
    default: dict[str, Any]
    default_whole: bool
    command: list[str]
    notes: list[str]
    arguments: Sequence[str] = ()
    elastic: Elastic | None = None

    def beside(self, place: str) -> str:
        """The same command for a study of another name, which begins with what the one in ``place`` knows."""
        given = [a for a in self.arguments if not a.startswith(("search.study=", "search.warm_start="))]
        own = [override("search.study", self.search["study"] + "-2"), override("search.warm_start", place)]
        return typed("sweep", "-m", *given, *own)

    @property
    def default_origin(self) -> str:
        """Who proposes the default values, in words."""
        return "default configuration" if self.default_whole else "nearest to the default configuration"

    @property
    def worker(self) -> list[str]:
        """A worker's overrides."""
        return [*self.fixed, override("search.study", self.search["study"]), "search.worker=true"]

    @property
    def shared(self) -> list[str]:
        """Overrides that every trial has."""
        return shared(self.fixed)

    @property
    def sources(self) -> list[str]:
        """Where a warm start comes from."""
        given = self.search.get("warm_start") or []
        return [given] if isinstance(given, str) else list(map(str, given))


def read(
    cfg: DictConfig,
    arguments: Sequence[str],
    options: Options,
    elsewhere: bool,
    predict: Predict,
    slices: Slices | None = None,
) -> Request:
    """The request in ``cfg``, ``conf/sweep.yaml`` composed without the sweeping ``arguments``, and in these.

    Names the study in ``cfg``, and its storage where workers run ``elsewhere``.

    Raises:
        UserError: a contradictory search.
    """
    fixed, space = _space(cfg, arguments, options)
    check_validated(cfg)
    search = _plain(cfg.search)
    objectives = objectives_.parse(search["objectives"])
    default = {p.key: choice(cfg, p.key) if is_group(p.key) else OmegaConf.select(cfg, p.key) for p in space}
    elastic, notes = None, []
    if engines.of(search) == engines.ELASTIC and slices is not None:
        engines.check_elastic(search, objectives)
        space, elastic = slices(space, shared(fixed), default, search["engine"]["pool"], cfg.seed)
        default = {key: value for key, value in default.items() if key in space.parameters}
        notes = [f"{key} stays at {value}: one training is shared" for key, value in elastic["idle"].items()]
    budget = _budget(search, space)
    with open_dict(cfg.search):
        cfg.search.study = search["study"] = search["study"] or _name(cfg, space)
        _check_name(str(search["study"]))
        check_place(cfg, search)
        new = not (directory(search) / "study.db").exists()
        if elsewhere and new and not search["storage"] and url(search).startswith("sqlite:"):
            cfg.search.storage = search["storage"] = journal_url(search)
    own, given = {p.key: p.prior for p in space if p.prior is not None}, search["priors"] or {}
    search["priors"] = {**own, **given} if isinstance(given, Mapping) else given
    priors.parse(search["priors"], space)
    base = {k: v for k, v in _base(cfg).items() if not any(k == p.key or k.startswith(f"{p.key}.") for p in space)}
    notes += check(cfg, search, objectives, predict, space)
    nearest = space.nearest(default)
    return Request(
        search,
        space,
        objectives,
        budget,
        _exhaustive(search),
        fixed,
        base,
        nearest,
        all(nearest.get(key) == default[key] for key in space.active(nearest)),
        _train_arguments(cfg, shared(fixed)),
        notes,
        list(arguments),
        elastic,
    )


def shared(fixed: Sequence[str]) -> list[str]:
    """Those of a command's overrides that are a trial's, not the search's; where configuration is looked for too."""
    others = ("search.", "search/", "hydra.")
    return [o for o in fixed if not o.startswith(others) or o.startswith(SEARCHPATH)]


def _space(cfg: DictConfig, arguments: Sequence[str], options: Callable[[str], list[str]]) -> tuple[list[str], Space]:
    """The command line's fixed overrides, and the space of YAML and command line together.

    What the command line sweeps goes before the YAML's values for the same key; what it fixes leaves the space.
    """
    entries: dict[str, Any] = dict(OmegaConf.to_container(cfg.search.space, resolve=True) or {})  # type: ignore[arg-type]
    fixed = []
    for argument in arguments:
        given = parse(argument)
        key = key_of(given)
        entries = {k: v for k, v in entries.items() if k.lstrip("+") != key}
        if given.is_sweep_override():
            entries[given.get_key_element()] = given.get_value_string()
        else:
            fixed.append(argument)
    if not entries:
        raise UserError(
            "the search space is empty: choose hparams_search=…, or sweep on the command line, such as"
            " model.timesteps=choice(1,2,4)"
        )
    space = Space.parse(entries, options)
    space.check()
    for p in space:  # what can't be composed Hydra's own message names
        _exists(cfg, p)
        beside = space.overrides(space.example(p.key) or {}) if p.when is not None else []
        values = p.spelled if is_group(p.key) else ()
        for chosen in [[p.override(value)] for value in values] or ([[]] if beside else []):
            compose(merge([*fixed, *beside], chosen), root="sweep")
    return fixed, space


def _exists(cfg: DictConfig, p: Parameter) -> None:
    key = p.key
    if is_group(key) or p.when is not None or p.prefix == "++":
        return
    if p.prefix:
        if OmegaConf.select(cfg, key, default=cfg) is not cfg:
            raise UserError(f"search.space.+{key}: the configuration has that key: write it without the +")
        return
    node: Any = cfg
    parts = key.split(".")
    for depth, part in enumerate(parts, 1):
        if not OmegaConf.is_dict(node) or part not in node:
            options = list(node) if OmegaConf.is_dict(node) else []
            raise UserError(
                f"search.space.{key}: no such configuration key; {near_matches(part, map(str, options))}"
                f" (one that shall be added: '+{key}=…')"
            )
        if depth < len(parts):
            node = None if OmegaConf.is_missing(node, part) else node[part]


def _budget(search: Mapping[str, Any], space: Space) -> int:
    exhaustive = _exhaustive(search)
    size = space.size() if exhaustive else math.inf
    if exhaustive and size == math.inf:
        endless = " and ".join(p.key for p in space if p.size == math.inf)
        raise UserError(
            f"search/sampler=grid tries every point, and {endless} has no end of them: give it steps, such as"
            " range(0.5,1.5,0.25), or take search/sampler=tpe"
        )
    wanted = search["n_trials"]
    if wanted is None:
        if not exhaustive:
            raise UserError("search.n_trials is null: only an exhaustive search (search/sampler=grid) ends by itself")
        return int(size)
    if not isinstance(wanted, int) or wanted < 1:
        raise UserError(f"search.n_trials is {wanted}: it must be a whole number of at least 1")
    return int(min(wanted, size))


def _exhaustive(search: Mapping[str, Any]) -> bool:
    return search["sampler"]["_target_"] in EXHAUSTIVE


def _name(cfg: DictConfig, space: Space) -> str:
    """A study's name from what it searches and on what: ``timesteps-digits-sdt_tiny``."""
    parts = [choice(cfg, "hparams_search") or "-".join(short_names(p.key for p in space).values())]
    parts += [str(choice(cfg, group)) for group in ("data", "model") if group not in space.parameters]
    return "-".join(parts).replace("/", "_")


def _check_name(name: str) -> None:
    path = Path(name)
    if path.is_absolute() or not path.parts or ".." in path.parts:
        raise UserError(f"search.study={name!r} is no name: the study would lie outside of search.dir")


def _base(cfg: DictConfig) -> dict[str, Any]:
    plain = {k: v for k, v in cfg.items_ex(resolve=False) if k != "hydra"}
    masked = OmegaConf.create(plain, flags={"allow_objects": True})
    masked.output_dir = "."
    return comparable(_plain(masked))


def comparable(base: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved configuration as flat keys, without what may differ between workers and between sessions."""
    chosen = {group: node for group, node in base.items() if group not in FREE_GROUPS}
    return {key: value for key, value in flat(chosen).items() if key not in LOCAL} if chosen else {}


def _plain(cfg: DictConfig, resolve: bool = True) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=resolve))


def _train_arguments(cfg: DictConfig, shared: Sequence[str]) -> list[str]:
    """Arguments of train.py that give what all trials share, the search file's own settings spelled out."""
    own = [o for o in shared if not o.startswith("hparams_search=")]
    plain = compose(own)
    with_search = OmegaConf.create({k: v for k, v in cfg.items_ex(resolve=False) if k != "hydra"})
    now, then = (comparable(_plain(c, resolve=False)) for c in (with_search, plain))
    return own + [override(k, v) for k, v in now.items() if k in then and then[k] != v]
