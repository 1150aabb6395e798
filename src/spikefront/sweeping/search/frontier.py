"""A sampler for fronts of accuracy and energy: by what a training, anytime points too, should add a second of it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from scipy.special import expit
from scipy.stats import norm, qmc

from spikefront.analysis.pareto import non_dominated
from spikefront.errors import UserError
from spikefront.sweeping.search import finite
from spikefront.sweeping.search.forecast import encode, scale
from spikefront.sweeping.search.openings import Look, awake, opening
from spikefront.sweeping.search.pruning import Seen
from spikefront.sweeping.search.space import Space
from spikefront.sweeping.search.surrogate import Array, Process
from spikefront.sweeping.search.worth import Gains

Params = Mapping[str, Any]
Read = Callable[[FrozenTrial], Seen | None]
"""What is to be learnt from a trial that has ended, from where the study keeps it."""
ROWS, CHOSEN = 360, 160  # points that a process looks at, and of those by which its weights are chosen
DRAWS = 32  # of what a candidate may come to
FASTEST = 0.02  # of the mean training's seconds: no training counts as shorter
DEAREST = 0.95  # of configurations from anywhere, as many of which are expected to be within what a front is judged in
TIMESTEPS = "model.timesteps"


class FrontSampler(BaseSampler):
    """Proposes what is expected to add most to the front for each second of its training.

    Gaussian processes learn, from what ended trials came to after t = 1 … T timesteps, accuracy (log-odds) and energy
    (logarithm), and how long trainings take. Of many candidates, half drawn from all of the space and half near
    the front, that one is proposed whose T points together are expected to add the most to the front's volume
    (``worth``), by draws from what the processes hold possible (as Monte Carlo expected hypervolume improvement,
    Daulton et al., NeurIPS 2020), by its seconds and by how probably it keeps the constraints. Trials that still train
    count as if they had come to what is expected of them. The first are spread along the front by what networks do
    untrained, and later ones that hardly fire untrained are passed over (``opening``).

    Args:
        startup_trials: so many first.
        untrained: networks that are made and looked at for a proposal, at most; 0: none, and the first are random.
        candidates: looked at for each proposal.
        hurry: the power of the seconds that a gain is divided by; 0: a trial is a trial, and a search can be repeated,
            which is the default with a seed, else it is 1.
        seed: of what is drawn.

    Raises:
        UserError: settings that are none.
    """

    def __init__(
        self,
        startup_trials: int = 5,
        untrained: int = 8,
        candidates: int = 1000,
        hurry: float | None = None,
        seed: int | None = None,
    ) -> None:
        whole = (("startup_trials", startup_trials, 0), ("untrained", untrained, 0), ("candidates", candidates, 1))
        for name, value, least in whole:
            if type(value) is not int or value < least:
                raise UserError(f"search.sampler.{name} is {value}: use a whole number of at least {least}")
        hurry = (1.0 if seed is None else 0.0) if hurry is None else hurry
        if type(hurry) not in (int, float) or not 0 <= hurry < math.inf:
            raise UserError(f"search.sampler.hurry is {hurry}: use a number of at least 0, such as 1")
        self.startup, self.untrained = startup_trials, untrained
        self.candidates, self.hurry = candidates, hurry
        self._random = np.random.RandomState(seed)
        self._space = Space([])
        self._seen: Read = lambda trial: None
        self._look: Look = lambda params: None
        self._first = 0
        self._chosen: Params | None = {}

    def learns(self, space: Space, seen: Read, anytime: bool = True, look: Look | None = None) -> None:
        """Say what is searched, how to read what is to be learnt from a trial that has ended, whether networks may be
        stopped before their last timestep, and how to look at an untrained one."""
        self._space, self._seen = space, seen
        if look is not None and self.untrained:
            self._look = look
        self._first = 0 if anytime else -1

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._chosen = None  # until it is asked for: a queued trial has its parameters

    def _choose(self, study: Study, trial: FrozenTrial) -> Params:
        others = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number and t.params]
        ended = [s for t in others if t.state in (TrialState.COMPLETE, TrialState.PRUNED) and (s := self._seen(t))]
        pending = [t.params for t in others if t.state == TrialState.RUNNING]
        judged = [(t.params, t.constraints) for t in others if t.constraints]
        if sum(not s.stopped for s in ended) < max(2, self.startup):
            return self._first_of(trial.number)
        return self._best(ended, pending, judged)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if self._chosen is None:
            self._chosen = self._choose(study, trial)
        if param_name in self._chosen:
            return self._chosen[param_name]
        return finite.at(param_distribution, self._random.random_sample())

    def _first_of(self, number: int) -> Params:
        """Of some drawn at random that which has this trial's place along the front; nothing where there are few."""
        if self._space.size() <= self.untrained:
            return {}
        draw = self._draw()
        return opening([self._anywhere(draw) for _ in range(self.untrained)], self._look, number)

    def _best(
        self, ended: Sequence[Seen], pending: Sequence[Params], judged: Sequence[tuple[Params, Mapping[str, float]]]
    ) -> Params:
        reached, owners = _reached(ended, self._first)
        if not reached:
            return {}
        draw = self._draw()
        front = [ended[i] for i in sorted({o for o, kept in zip(owners, _kept(reached), strict=True) if kept})]
        known = _looked_at(ended, front, draw)
        candidates = self._candidates(front, draw)
        own, waiting, asked = np.split(
            encode([*(s.params for s in known), *pending, *candidates]), np.cumsum([len(known), len(pending)])
        )
        outlook = Outlook(known, own, draw)
        if pending:
            means, _ = outlook(waiting, [outlook.timesteps(p) for p in pending])
            reached += [(float(expit(a)), float(np.exp(e))) for a, e in means[:, self._first :].reshape(-1, 2)]
        means, errors = outlook(asked, [outlook.timesteps(p) for p in candidates])
        dearest = np.exp(np.quantile(means[::2, -1, 1], DEAREST))  # of those from anywhere
        gains = Gains(reached, max(float(dearest), *(e for s in ended for _, e in s.final)))
        normal = norm.ppf(qmc.Sobol(2, seed=draw.randrange(2**31)).random(DRAWS))
        accuracy, energy = np.moveaxis((means + errors * normal[:, None, None])[..., self._first :, :], -1, 0)
        worth = gains.of(expit(accuracy), np.exp(energy)).mean(0) * _allowed(judged[-ROWS:], candidates)
        order = np.argsort(-worth / self._seconds(known, own, asked), kind="stable")
        best = [candidates[i] for i in order[: max(1, self.untrained)].tolist()]
        return awake(best, self._look)

    def _draw(self) -> random.Random:
        return random.Random(int(self._random.randint(2**31)))

    def _candidates(self, front: Sequence[Seen], draw: random.Random) -> list[Params]:
        """Half from anywhere, half near the front."""
        return [
            self._near(draw.choice(front).params, draw) if i % 2 else self._anywhere(draw)
            for i in range(self.candidates)
        ]

    def _anywhere(self, draw: random.Random) -> Params:
        return self._active({p.key: finite.at(p.distribution, draw.random()) for p in self._space})

    def _near(self, params: Params, draw: random.Random) -> Params:
        """One parameter differs at least, two in the mean; those that it lacks are from anywhere."""
        keys, values = list(self._space.parameters), dict[str, Any]()
        changed = draw.choice(keys)
        for p in self._space:
            if p.key not in params:
                values[p.key] = finite.at(p.distribution, draw.random())
            elif p.key == changed or draw.random() < 1 / len(keys):
                values[p.key] = finite.beside(p.distribution, params[p.key], draw)
            else:
                values[p.key] = params[p.key]
        return self._active(values)

    def _active(self, values: Params) -> Params:
        return {key: values[key] for key in self._space.active(values)}

    def _seconds(self, known: Sequence[Seen], own: Array, asked: Array) -> Array:
        """What trainings take, as shares of the mean one, to the power that counts."""
        timed = [i for i, s in enumerate(known) if s.seconds]
        if len(timed) < max(2, self.startup) or not self.hurry:
            return np.ones(len(asked))
        seconds = np.array([known[i].seconds for i in timed], dtype=float)
        expected = np.exp(Process(own[timed], np.log(seconds))(asked)[0])
        return np.asarray(np.maximum(expected / seconds.mean(), FASTEST) ** self.hurry)


class Outlook:
    """What configurations may come to after t = 1 … T timesteps, by what others came to.

    Args:
        known: trials that have ended.
        encoded: their parameters, ``(trials, columns)``.
    """

    def __init__(self, known: Sequence[Seen], encoded: Array, draw: random.Random) -> None:
        self._lengths: dict[Any, int] = {}
        for s in known:
            value = s.params.get(TIMESTEPS)
            self._lengths[value] = max(len(s.final), self._lengths.get(value, 0))
        self._usual = max(self._lengths.values())
        # Of a point that a warm start brought only the last timestep is known
        timesteps = np.array([self.timesteps(s.params) for s in known])
        rows = _rows(encoded, timesteps, np.array([len(s.final) for s in known]))
        chosen = np.array(sorted(draw.sample(range(len(rows)), min(CHOSEN, len(rows)))))
        self._processes = [Process(rows, v, chosen) for v in np.vstack([scale(s.final) for s in known]).T]

    def __call__(self, encoded: Array, timesteps: Sequence[int]) -> tuple[Array, Array]:
        """Mean and standard deviation ``(configurations, most timesteps, 2)`` as ``scale`` measures, a configuration's
        last point again in the place of those that it lacks."""
        rows = _rows(encoded, np.array(timesteps), np.array(timesteps))
        found = [process(rows) for process in self._processes]
        first, most = np.cumsum(timesteps) - timesteps, np.arange(max(timesteps))
        places = first[:, None] + np.minimum(most, np.array(timesteps)[:, None] - 1)
        mean, error = (np.stack(part, axis=1)[places] for part in zip(*found, strict=True))
        return mean, error

    def timesteps(self, params: Params) -> int:
        """How many points a configuration will have."""
        value = params.get(TIMESTEPS)
        return max(self._lengths.get(value, 0), value) if isinstance(value, int) else self._usual


def _rows(encoded: Array, timesteps: NDArray[np.int_], points: NDArray[np.int_]) -> Array:
    """A row for each of a configuration's last ``points`` t: its logarithm, its share of all, and the parameters."""
    ends, whole = np.repeat(points.cumsum(), points), np.repeat(timesteps, points)
    t = whole + 1 + np.arange(len(whole)) - ends
    return np.hstack([np.stack([np.log(t), t / whole], axis=1), np.repeat(encoded, points, axis=0)])


def _allowed(judged: Sequence[tuple[Params, Mapping[str, float]]], candidates: Sequence[Params]) -> Array:
    """How probably candidates keep all constraints, by how far others were beyond each."""
    probable = np.ones(len(candidates))
    for text in dict.fromkeys(t for _, excesses in judged for t in excesses):
        known = [(params, excesses[text]) for params, excesses in judged if text in excesses]
        if all(excess <= 0 for _, excess in known):
            continue
        encoded = encode([*(params for params, _ in known), *candidates])
        beyond = np.clip([excess for _, excess in known], -1.0, 1.0)
        mean, error = Process(encoded[: len(known)], beyond, np.arange(len(known))[-CHOSEN:])(encoded[len(known) :])
        probable *= norm.cdf(-mean / error)
    return probable


def _reached(ended: Sequence[Seen], first: int) -> tuple[list[tuple[float, float]], list[int]]:
    """The points, or the last ones, that trainings have come to, and whose they are."""
    found = [
        (s.final[t], i)
        for i, s in enumerate(ended)
        if not s.stopped
        for t in range(len(s.final))[first:]
        if t not in s.infeasible
    ]
    return [point for point, _ in found], [i for _, i in found]


def _kept(points: Sequence[tuple[float, float]]) -> NDArray[np.bool_]:
    return non_dominated([(-a, e) for a, e in points])


def _looked_at(ended: Sequence[Seen], front: Sequence[Seen], draw: random.Random) -> list[Seen]:
    """As many trials as a process looks at points: the front's, then any."""
    if sum(len(s.final) for s in ended) <= ROWS:
        return list(ended)
    there = {id(s) for s in front}
    rest = [s for s in ended if id(s) not in there]
    kept, left = list[Seen](), ROWS
    for s in [*front, *draw.sample(rest, len(rest))]:
        if len(s.final) <= left:
            kept.append(s)
            left -= len(s.final)
    return kept
