"""What a training of any configuration would come to, by a table of recorded ones; how wrong that is, measured.

python benchmarks/tables/table.py [digits …] [--raw DIR]    # held-out errors, seed noise
"""

from __future__ import annotations

import argparse
import functools
import sys
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit
from scipy.stats import kendalltau
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.model_selection import GroupKFold

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "src"), str(HERE)]

from record import DEFAULT_RAW, known, packed  # noqa: E402
from spaces import SETS, Set  # noqa: E402

from spikefront.energy import Paper  # noqa: E402
from spikefront.sweeping.search.forecast import scale, unscale  # noqa: E402

TREES, FOLDS = 60, 5
ENOUGH = 30  # runs, without which a table is no table yet


@dataclass(frozen=True)
class Answer:
    """One training's course.

    Attributes:
        points: by epoch and timestep its validation accuracy and joules a sample, ``(epochs, T, 2)``.
        means: the same without the luck of the seed.
        seconds: of the process, of each epoch with its evaluation.
        before, after: seconds from its beginning to the first epoch, and for the evaluations at its end.
    """

    points: np.ndarray
    means: np.ndarray
    seconds: np.ndarray
    before: float
    after: float


class Table:
    """Recorded runs of one set, and a forest over them (extremely randomised trees, Geurts et al. 2006).

    The forest predicts, from a configuration, an epoch and a timestep, the log-odds of the accuracy and the logarithm
    of the energy by the operations that there would be if every neuron fired, which are known exactly; and from a
    configuration the logarithm of an epoch's seconds. The luck of a seed is a recorded one's: how far, from epoch to
    epoch, a run of the nearest configuration that was trained from several seeds was from their mean.

    Args:
        runs: as ``record.py`` keeps them; those that failed are left out.
    """

    def __init__(self, of: Set, runs: Sequence[dict[str, Any]]) -> None:
        self.of, self.runs = of, [r for r in runs if not r["failed"]]
        if not self.runs:
            sys.exit(f"{of.name}: nothing is recorded: python benchmarks/tables/record.py {of.name}")
        self.space, self.epochs = of.space, of.epochs
        self.seeds = defaultdict(list)
        for run in self.runs:
            self.seeds[run["number"]].append(run)
        self._operations = _operations(self.runs)
        self._course, self._cost = _forest(), _forest()
        self._course.fit(*self._lines(self.runs))
        self._cost.fit(self._encoded([r["params"] for r in self.runs]), np.log([_costs(r) for r in self.runs]))
        self.repeated = [n for n, own in self.seeds.items() if len(own) > 1]
        self._repeated = self._encoded([self.seeds[n][0]["params"] for n in self.repeated])

    @classmethod
    def load(cls, name: str, raw: Path = DEFAULT_RAW) -> Table:
        """The packed table, and what of the raw records isn't packed yet."""
        every = known(SETS[name], raw)
        return cls(SETS[name], [every[job] for job in sorted(every)])

    @functools.cached_property
    def worst(self) -> float:
        """The dearest network's joules."""
        return max(r["epochs"][-1]["anytime"][-1][1] for r in self.runs)

    def operations(self, params: Mapping[str, Any]) -> np.ndarray:
        """Multiply-accumulates and additions a sample if every neuron fired."""
        return _monomials([params]) @ self._operations

    def answer(self, params: Mapping[str, Any], seed: int) -> Answer:
        """What training this configuration from this seed comes to; the same whenever it is asked."""
        timesteps = params["model.timesteps"]
        shape = (self.epochs, timesteps, 2)
        scaled = (_predicted(self._course, self._rows(params)) + np.array([0.0, self._log_full(params)])).reshape(shape)
        luck = self._luck(params, seed)
        seconds, before, after = np.exp(_predicted(self._cost, self._encoded([params]))[0])
        means, points = (np.array(unscale(s.reshape(-1, 2))).reshape(shape) for s in (scaled, scaled + luck))
        return Answer(points, means, np.full(self.epochs, seconds), float(before), float(after))

    def _log_full(self, params: Mapping[str, Any]) -> float:
        """The logarithm of the joules if every neuron fired."""
        cost = Paper()
        return float(np.log(self.operations(params) @ [cost.e_mac, cost.e_ac])[0])

    def _rows(self, params: Mapping[str, Any]) -> np.ndarray:
        own = self._encoded([params])[0]
        timesteps = params["model.timesteps"]
        epochs, steps = range(1, self.epochs + 1), range(1, timesteps + 1)
        return np.array([[e, t, t / timesteps, *own] for e in epochs for t in steps])

    def _lines(self, runs: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
        rows = np.vstack([self._rows(r["params"]) for r in runs])
        courses = [scale([p for e in r["epochs"] for p in e["anytime"]]) for r in runs]
        return rows, np.vstack([c - [0.0, self._log_full(r["params"])] for c, r in zip(courses, runs, strict=True)])

    def _encoded(self, params: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Numbers by their logarithm, choices of words one-hot, a parameter that isn't there as its range's middle."""
        columns = []
        for p in self.space:
            values = [own.get(p.key) for own in params]
            choices = getattr(p.distribution, "choices", None)
            if choices and isinstance(choices[0], str):
                columns += [[float(v == c) for v in values] for c in choices]
            else:
                low, high = (min(choices), max(choices)) if choices else (p.distribution.low, p.distribution.high)
                middle = float(np.sqrt(low * high))
                columns.append([np.log((middle if v is None else v) / low) / np.log(high / low) for v in values])
        return np.array(columns).T

    def _luck(self, params: Mapping[str, Any], seed: int) -> np.ndarray:
        """``(epochs, T, 2)``, as ``scale`` measures: nothing where no configuration has several seeds."""
        timesteps = params["model.timesteps"]
        if not self.repeated:
            return np.zeros((self.epochs, timesteps, 2))
        drawn = zlib.crc32(repr((sorted(params.items()), seed)).encode())
        own = self._encoded([params])[0]
        nearest = np.argsort(((self._repeated - own) ** 2).sum(1))[:5]
        number = self.repeated[nearest[drawn % len(nearest)]]
        deviations = luck(self.seeds[number])
        chosen = deviations[drawn // 7 % len(deviations)]
        places = np.ceil(np.arange(1, timesteps + 1) / timesteps * chosen.shape[1]).astype(int) - 1
        return chosen[:, places]

    def errors(self) -> dict[str, float]:
        """How wrong the forest is about configurations that it hasn't seen, in as many folds as ``FOLDS``.

        Of final values with all timesteps: mean absolute error of the accuracy, its standard deviation by the seed,
        Kendall's rank correlation, mean factors of energy and seconds; and the same of the accuracy after a third of
        the epochs, and after the first timestep.
        """
        numbers = np.array([r["number"] for r in self.runs])
        folds = min(FOLDS, len(set(numbers)))
        found: list[np.ndarray] = []
        for train, test in GroupKFold(folds).split(numbers, groups=numbers):
            course, cost = _forest(), _forest()
            seen = [self.runs[i] for i in train]
            course.fit(*self._lines(seen))
            cost.fit(self._encoded([r["params"] for r in seen]), np.log([_costs(r) for r in seen]))
            for run in (self.runs[i] for i in test):
                shape = (self.epochs, run["params"]["model.timesteps"], 2)
                rows, truth = self._lines([run])
                predicted, truth = course.predict(rows).reshape(shape), truth.reshape(shape)
                seconds = cost.predict(self._encoded([run["params"]]))[0, 0] - np.log(_costs(run)[0])
                third = self.epochs // 3 - 1
                pairs = [
                    (expit(predicted[e, t, 0]), expit(truth[e, t, 0])) for e, t in ((-1, -1), (third, -1), (-1, 0))
                ]
                found.append(np.array([*np.ravel(pairs), predicted[-1, -1, 1] - truth[-1, -1, 1], seconds]))
        p, a, p3, a3, p1, a1, energy, seconds = np.array(found).T
        spread = [luck_of_accuracy(self.seeds[n]) for n in self.repeated]
        return {
            "accuracy": float(np.abs(p - a).mean()),
            "seed's": float(np.sqrt(np.mean(np.square(spread)))) if spread else float("nan"),
            "tau": float(kendalltau(p, a).statistic),
            "accuracy after a third": float(np.abs(p3 - a3).mean()),
            "accuracy at t=1": float(np.abs(p1 - a1).mean()),
            "energy's factor": float(np.exp(np.abs(energy).mean())),
            "seconds' factor": float(np.exp(np.abs(seconds).mean())),
        }


def _forest() -> ExtraTreesRegressor:
    return ExtraTreesRegressor(TREES, min_samples_leaf=2, max_features=0.7, random_state=0)


def _predicted(forest: ExtraTreesRegressor, rows: np.ndarray) -> np.ndarray:
    """What ``predict`` says, without the threads that it sets up for it, which take ten times as long."""
    single = rows.astype(np.float32)
    return np.mean([tree.tree_.predict(single)[..., 0] for tree in forest.estimators_], axis=0)


def _costs(run: dict[str, Any]) -> list[float]:
    return [float(np.mean([e["cpu"] for e in run["epochs"]])), run["before"]["cpu"], run["after"]["cpu"]]


def luck(runs: Sequence[dict[str, Any]]) -> np.ndarray:
    """How far each of one configuration's runs is from their mean, ``(runs, epochs, T, 2)``, as ``scale`` measures."""
    curves = np.array([[scale(e["anytime"]) for e in r["epochs"]] for r in runs])
    return (curves - curves.mean(0)) * np.sqrt(len(runs) / (len(runs) - 1))


def luck_of_accuracy(runs: Sequence[dict[str, Any]]) -> float:
    """Standard deviation of one configuration's final accuracy over its seeds."""
    return float(np.std([r["epochs"][-1]["anytime"][-1][0] for r in runs], ddof=1))


def _monomials(params: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """What operations are linear in: timesteps, times width or its square, times depth and the MLP's ratio."""
    t, d, w, r = (np.array([float(p[k]) for p in params]) for k in SIZES)
    return np.stack([t, *(t * w**i * more for i in (1, 2) for more in (1, d, d * r))], axis=1)


SIZES = ("model.timesteps", "model.depth", "model.dim", "model.mlp_ratio")


def _operations(runs: Sequence[dict[str, Any]]) -> np.ndarray:
    """Coefficients of ``_monomials``, which give recorded operations."""
    counted = np.array([[r["operations"][k] for k in ("multiply_accumulates", "additions")] for r in runs])
    return np.linalg.lstsq(_monomials([r["params"] for r in runs]), counted, rcond=None)[0]


def begun() -> list[str]:
    """The tables of which enough is packed to be asked."""
    return [name for name in SETS if len(packed(name)) >= ENOUGH]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=begun())
    parser.add_argument("--raw", type=Path, default=DEFAULT_RAW, metavar="DIR")
    given = parser.parse_args()
    for name in given.names:
        table = Table.load(name, given.raw)
        several = f"{len(table.repeated)} from several seeds"
        print(f"{name}: {len(table.runs)} runs of {len(table.seeds)} configurations, {several}")
        counted = np.array([[r["operations"][k] for k in ("multiply_accumulates", "additions")] for r in table.runs])
        wrong = np.abs(np.vstack([table.operations(r["params"]) for r in table.runs]) / counted - 1).max()
        print(f"  operations off by at most {wrong:.1e}")
        for what, error in table.errors().items():
            print(f"  {what}: {error:.3g}")


if __name__ == "__main__":
    main()
