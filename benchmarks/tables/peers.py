"""Searches of other packages for benchmarks/search.py, each in an environment that has its package; run by it alone.

    python -m venv /tmp/stock && /tmp/stock/bin/pip install hydra-optuna-sweeper==1.3.0 'hydra-core<1.4' 'sqlalchemy<2'
    python -m venv /tmp/peers && /tmp/peers/bin/pip install syne-tune==0.16.0 ax-platform==1.3.1 wandb==0.31.0 optuna
    python -m venv /tmp/neps && /tmp/neps/bin/pip install neural-pipeline-search==0.17.0
    python benchmarks/search.py --python /tmp/peers/bin/python 'Syne Tune MOASHA' 'Ax qNEHVI' 'W&B Optuna' 'W&B Ax'

Reads questions as lines of JSON, answers with lines of JSON, `{"value", "seconds"}`: the seconds of this process. All
are told what their interface can take: final accuracy and energy, or after each epoch where they judge by epochs; a
parameter that hangs on another is always there for those that know no conditions. No priors, as nobody else has some.
"""

from __future__ import annotations

import datetime
import json
import os
import queue
import random
import sys
import threading
import time
import traceback
from types import SimpleNamespace
from typing import Any

Space = list[dict[str, Any]]  # {"key", "kind": int | float | choice, "low", "high", "log", "choices"}
Values = list[float]  # accuracy, joules


class HydraOptuna:
    """The sweeper of Hydra's own repository: a batch of as many trials as workers, and nothing new until all ended.

    The launcher is the simulation: it hands a batch out and waits.
    """

    def __init__(self, space: Space, epochs: int, workers: int, seed: int) -> None:
        import optuna
        from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler = optuna.samplers.TPESampler(seed=seed)
        self._sweeper = OptunaSweeperImpl(
            sampler,
            ["maximize", "minimize"],
            storage=None,
            study_name=None,
            n_trials=10**6,
            n_jobs=workers,
            max_failure_rate=0.0,
            search_space=None,
            custom_search_space=None,
            params=None,
        )
        self._sweeper.config = self._sweeper.hydra_context = SimpleNamespace()
        self._sweeper.launcher, self._sweeper.job_idx = self, 0
        self._space, self._epochs = {p["key"]: p for p in space}, epochs
        self._batches: queue.Queue[list[dict[str, Any]]] = queue.Queue()
        self._returns: queue.Queue[list[Any]] = queue.Queue()
        self._left: list[tuple[int, dict[str, Any]]] = []
        self._results: dict[int, Values | None] = {}
        arguments = [f"{p['key']}={_hydra(p)}" for p in space]
        threading.Thread(target=self._sweep, args=(arguments,), daemon=True).start()

    def _sweep(self, arguments: list[str]) -> None:
        try:
            self._sweeper.sweep(arguments)
        except BaseException:
            traceback.print_exc()
            os._exit(1)  # nobody would answer any more

    def launch(self, overrides: list[tuple[str, ...]], initial_job_idx: int) -> list[Any]:
        self._batches.put([{k: self._read(k, v) for k, _, v in (o.partition("=") for o in job)} for job in overrides])
        return [SimpleNamespace(return_value=values) for values in self._returns.get()]

    def _read(self, key: str, text: str) -> Any:
        p = self._space[key]
        if p["kind"] == "choice":
            return next(c for c in p["choices"] if str(c) == text)
        return int(text) if p["kind"] == "int" else float(text)

    def ask(self) -> dict[str, Any] | None:
        if not self._left:
            if any(values is None for values in self._results.values()):
                return None
            if self._results:
                self._returns.put(list(self._results.values()))
            first = max(self._results, default=-1) + 1
            self._left = list(enumerate(self._batches.get(), first))
            self._results = {key: None for key, _ in self._left}
        key, params = self._left.pop(0)
        return {"key": key, "params": params, "begin": 0, "until": self._epochs}

    def report(self, key: int, epoch: int, values: Values) -> bool:
        return False

    def tell(self, key: int, epoch: int, values: Values) -> None:
        self._results[key] = values


def _hydra(p: dict[str, Any]) -> str:
    if p["kind"] == "choice":
        return f"choice({','.join(map(str, p['choices']))})"
    interval = f"interval({p['low']},{p['high']})"
    if p["kind"] == "int":
        interval = f"int({interval})"
    return f"tag(log,{interval})" if p["log"] else interval


class Moasha:
    """Syne Tune's multi-objective asynchronous halving (arXiv 2106.12639), random configurations."""

    def __init__(self, space: Space, epochs: int, workers: int, seed: int) -> None:
        import numpy as np
        from syne_tune import config_space as c
        from syne_tune.backend.trial_status import Trial
        from syne_tune.optimizer.scheduler import SchedulerDecision
        from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

        np.random.seed(seed)  # its space draws from here
        random.seed(seed)
        kinds = {
            "choice": lambda p: c.choice(p["choices"]),
            "int": lambda p: c.lograndint(p["low"], p["high"]) if p["log"] else c.randint(p["low"], p["high"]),
            "float": lambda p: c.loguniform(p["low"], p["high"]) if p["log"] else c.uniform(p["low"], p["high"]),
        }
        self._scheduler = MOASHA(
            {p["key"]: kinds[p["kind"]](p) for p in space},
            metrics=["error", "energy"],
            time_attr="epoch",
            max_t=epochs,
            random_seed=seed,
        )
        self._new, self._stop, self._epochs = Trial, SchedulerDecision.STOP, epochs
        self._trials: dict[int, Any] = {}

    def ask(self) -> dict[str, Any]:
        key, config = len(self._trials), self._scheduler.suggest().config
        self._trials[key] = self._new(key, config, datetime.datetime.now())
        self._scheduler.on_trial_add(self._trials[key])
        plain = {k: v.item() if hasattr(v, "item") else v for k, v in config.items()}
        return {"key": key, "params": plain, "begin": 0, "until": self._epochs}

    def report(self, key: int, epoch: int, values: Values) -> bool:
        result = {"error": 1 - values[0], "energy": values[1], "epoch": epoch}
        return self._scheduler.on_trial_result(self._trials[key], result) == self._stop

    def tell(self, key: int, epoch: int, values: Values) -> None:
        if epoch == self._epochs:
            self._scheduler.on_trial_complete(
                self._trials[key], {"error": 1 - values[0], "energy": values[1], "epoch": epoch}
            )


class Neps:
    """NePS under ask and tell; the energy in joules by the first one seen, so that its scalarisation weighs the two.

    ``primo``: PriMO (multi-objective halving, then Bayesian optimisation of a random scalarisation) without its priors.
    ``bayes``: Bayesian optimisation with several objectives (qLogNEHVI).
    """

    def __init__(self, space: Space, epochs: int, workers: int, seed: int, algorithm: str) -> None:
        import neps
        import numpy as np
        import torch
        from neps.space.neps_spaces.neps_space import convert_neps_to_classic_search_space

        np.random.seed(seed)
        random.seed(seed)
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        kinds = {
            "choice": lambda p: neps.Categorical(choices=tuple(p["choices"])),
            "int": lambda p: neps.Integer(lower=p["low"], upper=p["high"], log=p["log"]),
            "float": lambda p: neps.Float(lower=p["low"], upper=p["high"], log=p["log"]),
        }
        self._keys = {f"p{i}": p["key"] for i, p in enumerate(space)}
        parameters = {f"p{i}": kinds[p["kind"]](p) for i, p in enumerate(space)}
        if algorithm == "primo":
            parameters["epoch"] = neps.Fidelity(neps.Integer(lower=1, upper=epochs))
        classic = convert_neps_to_classic_search_space(type("Searched", (neps.PipelineSpace,), parameters)())
        if algorithm == "primo":
            made = neps.algorithms.primo(classic, prior_centers={})
        else:
            made = neps.algorithms.bayesian_optimization(classic)
        self._search, self._epochs, self._scale = neps.AskAndTell(made), epochs, None
        self._trials: dict[int, tuple[str, int]] = {}  # a job's newest trial, and where it ends
        self._numbers: dict[str, int] = {}

    def ask(self) -> dict[str, Any] | None:
        try:
            trial = self._search.ask()
        except ValueError:  # 0.17's halving fails while all that it could promote is running: a worker waits
            return None
        until = int(trial.config.get("epoch", self._epochs))
        key = self._numbers.get(trial.metadata.previous_trial_id or "", len(self._trials))
        begin = self._trials[key][1] if key in self._trials else 0
        self._trials[key], self._numbers[trial.id] = (trial.id, until), key
        params = {self._keys[k]: v for k, v in trial.config.items() if k in self._keys}
        params = {k: v.item() if hasattr(v, "item") else v for k, v in params.items()}
        return {"key": key, "params": params, "begin": begin, "until": until}

    def report(self, key: int, epoch: int, values: Values) -> bool:
        return False

    def tell(self, key: int, epoch: int, values: Values) -> None:
        self._scale = self._scale or values[1]
        self._search.tell(self._trials[key][0], {"objective_to_minimize": [1 - values[0], values[1] / self._scale]})


class Ax:
    """Ax's own choice for two objectives: a Sobol start, then qLogNEHVI over a Gaussian process each."""

    def __init__(self, space: Space, epochs: int, workers: int, seed: int) -> None:
        import logging

        import torch
        from ax.api.client import Client
        from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

        logging.disable(logging.CRITICAL)
        torch.set_num_threads(1)
        kinds = {int: "int", float: "float", str: "str"}
        self._client = Client(random_seed=seed)
        self._client.configure_experiment(
            [
                ChoiceParameterConfig(p["key"], p["choices"], kinds[type(p["choices"][0])])
                if p["kind"] == "choice"
                else RangeParameterConfig(
                    p["key"], (p["low"], p["high"]), p["kind"], scaling="log" if p["log"] else "linear"
                )
                for p in space
            ]
        )
        self._client.configure_optimization("accuracy, -energy")
        self._epochs = epochs

    def ask(self) -> dict[str, Any] | None:
        from ax.exceptions.core import DataRequiredError
        from ax.exceptions.generation_strategy import MaxParallelismReachedException

        try:
            found = self._client.get_next_trials(1)
        except (DataRequiredError, MaxParallelismReachedException):  # its start must have ended first
            return None
        if not found:
            return None
        ((key, params),) = found.items()
        return {"key": key, "params": params, "begin": 0, "until": self._epochs}

    def report(self, key: int, epoch: int, values: Values) -> bool:
        return False

    def tell(self, key: int, epoch: int, values: Values) -> None:
        self._client.complete_trial(key, raw_data={"accuracy": values[0], "energy": values[1]})


class Wandb:
    """W&B's sweep scheduler without its server: the optimizer that its controller has, asked and told as its loop does.

    Of several objectives its Optuna engine is told no epochs and stops nothing; its Ax engine stops only by a strategy
    that a user's own client has. Neither takes a seed: its sampler is given one here, its client none.

    ``engine``: `optuna` or `ax`.
    """

    def __init__(self, space: Space, epochs: int, workers: int, seed: int, engine: str) -> None:
        import logging

        import torch
        from wandb.sdk.sweeps.run_state import RunState
        from wandb.sdk.sweeps.scheduler import optimizer
        from wandb.sdk.sweeps.sweep_info import SweepInfo

        logging.disable(logging.CRITICAL)
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        goals = [{"name": "accuracy", "goal": "maximize"}, {"name": "energy", "goal": "minimize"}]
        parameters = {p["key"]: _wandb(p) for p in space}
        config = {"scheduler": {"engine": engine}, "metrics": goals, "parameters": parameters}
        self._optimizer = optimizer.make_optimizer(SweepInfo("s", "s", "e", "p", config, "c"))
        if engine == "optuna":
            self._optimizer.study.sampler = type(self._optimizer.study.sampler)(seed=seed)
        self._run, self._state, self._epochs = optimizer.RunWithMetrics, RunState.FINISHED, epochs
        self._proposed: dict[int, Any] = {}

    def ask(self) -> dict[str, Any] | None:
        found = self._optimizer.ask_n_runs(1)
        if not found:
            return None
        key = int(found[0].run_id)
        self._proposed[key] = found[0]
        return {"key": key, "params": found[0].config.flat_dict(), "begin": 0, "until": self._epochs}

    def report(self, key: int, epoch: int, values: Values) -> bool:
        return False

    def tell(self, key: int, epoch: int, values: Values) -> None:
        proposed, summary = self._proposed[key], dict(zip(("accuracy", "energy"), values, strict=True))
        self._optimizer.tell_run(proposed.run_id, self._run(proposed.config, self._state, f"r{key}", summary, []))


def _wandb(p: dict[str, Any]) -> dict[str, Any]:
    if p["kind"] == "choice":
        return {"values": p["choices"]}
    bounds = {"min": p["low"], "max": p["high"]}
    if p["log"]:
        return {**bounds, "distribution": "log_uniform_values" if p["kind"] == "float" else "q_log_uniform_values"}
    return {**bounds, "distribution": "uniform" if p["kind"] == "float" else "int_uniform"}


def _made(peer: str, **given: Any) -> Any:
    if peer.startswith("W&B"):
        return Wandb(**given, engine=peer.removeprefix("W&B ").lower())
    if peer.startswith("NePS"):
        return Neps(**given, algorithm="primo" if peer.endswith("PriMO") else "bayes")
    return {"hydra-optuna-sweeper": HydraOptuna, "Syne Tune MOASHA": Moasha, "Ax qNEHVI": Ax}[peer](**given)


def main() -> None:
    answers, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr  # whatever a package prints is no answer
    search: Any = None
    for line in sys.stdin:
        question = json.loads(line)
        began, do = time.process_time(), question.pop("do")
        if do == "begin":
            search, value = _made(**question), None
        else:
            value = getattr(search, do)(**question)
        seconds = 0.0 if do == "begin" else time.process_time() - began
        print(json.dumps({"value": value, "seconds": seconds}), file=answers, flush=True)


if __name__ == "__main__":
    main()
