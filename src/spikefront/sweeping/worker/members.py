"""Which networks of a search space are slices of its largest one, and which of them an elastic training trains."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from optuna import create_study
from optuna.distributions import CategoricalDistribution
from optuna.samplers import RandomSampler

from spikefront.errors import UserError
from spikefront.planning.slices import elements, no_slice, weights
from spikefront.sweeping.search import expressions, finite
from spikefront.sweeping.search.space import Parameter, Space
from spikefront.sweeping.study.attributes import Elastic
from spikefront.sweeping.study.request import comparable

NETWORK = ("model", "neuron", "surrogate", "attention", "embedding", "residual", "mlp", "stage")  # what makes it
TIMESTEPS = "model.timesteps"
CURE = "search it with search/engine=trials"
Compose = Callable[[Iterable[str]], DictConfig]


def plan(space: Space, compose: Compose, default: Mapping[str, Any], pool: int, seed: int) -> tuple[Space, Elastic]:
    """The part of a space that one elastic training covers, and what that trains.

    A parameter that changes nothing of the network stays at its default and leaves the space: one training is shared.

    Args:
        compose: a trial's configuration from its overrides.
        default: what the configuration says where the space has a choice.
        pool: how many networks are drawn from the space, for the training to draw from.

    Raises:
        UserError: a parameter whose networks are no slices of one, or that changes more than the network.
    """
    idle = [p.key for p in space if _leaves_the_network(space, p, compose)]
    for p in space:
        if p.key not in idle and p.when is not None and (read := set(expressions.names(p.when)) & set(idle)):
            raise UserError(f"search.space.{p.key}: 'when: {p.when}' reads {read.pop()}, which stays as it is; {CURE}")
    kept = Space(p for p in space if p.key not in idle)
    if not len(kept):
        raise UserError(f"search/engine=elastic: nothing in the space ({', '.join(idle)}) changes the network; {CURE}")
    nearest = kept.nearest(default)
    largest = _extreme(kept, compose, nearest, max)
    cfg = compose(kept.overrides(largest))
    whole = weights(cfg)
    for p in kept:
        for value in _corners(p):
            if (why := no_slice(compose(kept.overrides(_with(kept, p.key, value, largest))), cfg, whole)) is not None:
                raise UserError(f"search.space.{p.key}={value} is no slice of the largest network: {why}; {CURE}")
    draws = create_study(sampler=RandomSampler(seed=seed))
    members = [kept.overrides(kept.suggest(draws.ask())) for _ in range(pool)]
    for own in members:
        if (why := no_slice(compose(own), cfg, whole)) is not None:
            raise UserError(f"search/engine=elastic: {' '.join(own)} is no slice of the largest network: {why}; {CURE}")
    smallest = _extreme(kept, compose, nearest, min)
    scalars = {p.key: float(largest[p.key]) for p in kept if p.key in largest and _is_scalar(kept, p, compose)}
    return kept, {
        "params": largest,
        "largest": kept.overrides(largest),
        "smallest": kept.overrides(smallest),
        "pool": members,
        "scalars": scalars,
        "ranges": {key: [min(found), max(found)] for key in scalars if (found := _corners(kept.parameters[key]))},
        "idle": {key: default.get(key) for key in idle},
        "first": None,
        "first_origin": "",
    }


def _corners(p: Parameter) -> list[Any]:
    """The values that a parameter's networks are judged by: all choices, or the least and the most; every T."""
    d = p.distribution
    if isinstance(d, CategoricalDistribution) or (p.key == TIMESTEPS and p.size < 1000):
        return finite.values(d)
    return list(finite.corners(d))


def _extreme(space: Space, compose: Compose, nearest: Mapping[str, Any], most: Callable[..., Any]) -> dict[str, Any]:
    """The point with the largest network, or with ``min`` the smallest; where weights don't differ, with the most
    timesteps, and else at the default."""
    point: dict[str, Any] = {}
    for p in space:
        if p.when is not None and not expressions.holds(p.when, point):
            continue
        corners = _corners(p)
        usual = nearest.get(p.key, corners[0])

        def size(value: Any, p: Parameter = p, usual: Any = usual) -> tuple[int, int, bool]:
            cfg = compose(space.overrides(_with(space, p.key, value, {**nearest, **point})))
            return elements(cfg), int(cfg.model.timesteps), (value == usual) is (most is max)

        candidates = corners if usual in corners else [*corners, usual]
        point[p.key] = most(candidates, key=size)
    return point


def _is_scalar(space: Space, p: Parameter, compose: Compose) -> bool:
    """Whether a parameter is a number that changes what the weights should be, but nothing of their shapes."""
    corners = _corners(p)
    if p.key == TIMESTEPS or not all(type(v) in (int, float) and v > 0 for v in corners):
        return False
    point = space.example(p.key) or {}
    return len({elements(compose(space.overrides(_with(space, p.key, value, point)))) for value in corners}) == 1


def _with(space: Space, key: str, value: Any, point: Mapping[str, Any]) -> dict[str, Any]:
    """The point with one more value; if that isn't read there, an example of where it is."""
    given = {**point, key: value}
    if key not in space.active(given):
        given = {**(space.example(key) or {}), key: value}
    active = space.active(given)  # of what this value makes a parameter of, any value does
    return {k: given[k] if k in given else _corners(space.parameters[k])[0] for k in active}


def _leaves_the_network(space: Space, p: Parameter, compose: Compose) -> bool:
    """Whether a parameter's values all make one network.

    Raises:
        UserError: they make several, and change something else too.
    """
    point = space.example(p.key) or {}
    made = [_parts(compose(space.overrides(_with(space, p.key, value, point)))) for value in _corners(p)]
    networks, others = zip(*made, strict=True)
    if all(n == networks[0] for n in networks):
        return True
    if any(o != others[0] for o in others):
        raise UserError(f"search.space.{p.key}: it changes the network and more, and so can't be elastic: {CURE}")
    return False


def _parts(cfg: DictConfig) -> tuple[Any, Any]:
    """The network's configuration, and the rest of the run's."""
    cfg.output_dir = "."
    whole: Any = OmegaConf.to_container(cfg, resolve=True)
    return whole["model"], {k: v for k, v in comparable(whole).items() if k.partition(".")[0] not in NETWORK}
