"""Whatever fails, is refused, dies or is known: a search ends, and has exactly what was asked for."""

from __future__ import annotations

import dataclasses
from collections import Counter

import optuna
import pytest
from examples import examples
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from optuna.trial import TrialState
from pretended import OPTIONS

from spikefront.commands import sweep as command
from spikefront.config import compose
from spikefront.errors import UserError
from spikefront.sweeping.study import accounts, attributes, ledger, presence, request, warm
from spikefront.sweeping.study import study as studies
from spikefront.sweeping.study.attributes import ADMITTED, INFEASIBLE
from spikefront.sweeping.worker import attempt, telling
from spikefront.sweeping.worker import worker as workers
from spikefront.sweeping.worker.proposal import Repeated, admit
from spikefront.training import Diverged, Evaluation, Result

DEPTHS, WIDTHS = (1, 2, 3, 4), (16, 32)
SPACE = {
    "model.timesteps": "choice(1,2,3,4)",
    "model.dim": {"values": "choice(16,32)", "when": "model.timesteps > 1"},
}
POINTS = [(1, None), *((t, d) for t in DEPTHS[1:] for d in WIDTHS)]
SAMPLERS = {
    "grid": "spikefront.sweeping.search.samplers.Exhaustive",
    "random": "optuna.samplers.RandomSampler",
    "tpe": "optuna.samplers.TPESampler",
    "nsga2": "optuna.samplers.NSGAIISampler",
}
MOST = 200  # trainings and deaths of an example: far more than any needs


class Killed(BaseException):
    """What a SIGKILL is to this process: nothing is written after it."""


@pytest.fixture(scope="module")
def asked():
    """What a command asks for, to be varied; composing it takes longest of all."""
    overrides = ["search.study=s", "logger=none", "model=sdt_2_32", "search/sampler=random"]
    cfg = compose(overrides, root="sweep", with_hydra=True)
    cfg.search.space = SPACE
    return request.read(cfg, overrides, lambda group: OPTIONS.get(group, []), False, lambda *_, **__: None)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Workers on a study in memory, whose process is gone as soon as another looks; no waiting."""
    patch = pytest.MonkeyPatch()
    gone = {"host": presence.host(), "pid": 2**22 + 1, "since_boot": 1.0}
    patch.setattr(presence, "identity", lambda pid: gone)
    patch.setattr(ledger, "SETTLE", 0)
    patch.setattr(workers, "IDLE", 0)
    patch.setattr(workers, "Composer", lambda overrides: composed)
    patch.setattr(workers, "check_data", lambda cfg: None)
    patch.setattr(workers, "count_devices", lambda trainer: 1)
    for module in (workers, attempt, telling):
        patch.setattr(module, "say", lambda *_: None)
    yield
    patch.undo()


def composed(overrides):
    cfg = OmegaConf.create({"model": {"timesteps": 4, "dim": None}, "trainer": {"max_epochs": 1}})
    cfg.update(seed=0, logger=None, resume=None, output_dir=None)
    for key, _, value in (o.partition("=") for o in overrides):
        OmegaConf.update(cfg, key, int(value))
    return cfg


class Cluster:
    """A study in memory, the training of its trials, and who is killed by which."""

    def __init__(self, asked, tmp, patch, failing, killing, diverging, known, constraint, sampler):
        self.asked, self.path = asked, tmp
        self.failing, self.killing, self.diverging, self.known = set(failing), dict(killing), set(diverging), set(known)
        self.search = {
            **asked.search,
            "sampler": {"_target_": SAMPLERS[sampler], "seed": 0},
            "constraints": {"model.timesteps": "< 4"} if constraint else {},
            "dir": str(tmp),
            "max_failures": 100,
        }
        self.feasible = [p for p in POINTS if not constraint or p[0] < 4]
        self.exhaustive = sampler == "grid"
        self.calls, self.done = Counter(), Counter()
        storage = optuna.storages.InMemoryStorage()
        patch.setattr(studies, "open_storage", lambda address: storage)
        patch.setattr(studies, "file_of", lambda address: None)

    def train(self, cfg, callbacks=()):
        point = (cfg.model.timesteps, cfg.model.dim)
        self.calls[point] += 1
        assert sum(self.calls.values()) < MOST, "it does not end"
        if self.killing.get(point, 0) > 0:
            self.killing[point] -= 1
            raise Killed
        if point in self.failing:
            raise RuntimeError("no such luck")
        if point in self.diverging:
            raise Diverged("the loss is not finite")
        self.done[point] += 1
        t = cfg.model.timesteps
        accuracy, energy = 1 - 0.3 / t, 1e-6 * t * (cfg.model.dim or 8)
        validation = Evaluation(accuracy, energy, 0.1, 360, [])
        return Result(accuracy, energy, 0.1, 1000, 0.0, [], "none", "test", 10, validation, 1)

    def command(self, wanted, retry=False):
        """What one call of sweep.py does, as many workers as it takes, one after the other; its exit code."""
        exhaustive = self.exhaustive
        size = len(POINTS)
        budget = size if wanted is None else min(wanted, size) if exhaustive else wanted
        asked = dataclasses.replace(self.asked, search=self.search, budget=budget, exhaustive=exhaustive)
        if retry:
            study = studies.load(self.search)[0]
            for t in accounts.account(study).failed:
                attributes.enqueue(study, t.params, attributes.retry_of(t))
        study, _ = studies.create(asked)
        if self.known:
            source = self.path / "known.csv"
            rows = [f"{t},{'' if d is None else d},0.5,1e-6" for t, d in sorted(self.known, key=str)]
            source.write_text("\n".join(["model.timesteps,model.dim,accuracy,energy", *rows]))
            warm.start(study, [str(source)], asked.space, lambda *_: None, lambda *_: True, str(self.path))
        cfg = OmegaConf.create({"search": self.search, "trainer": {}})
        for _ in range(MOST):
            try:
                workers.Worker(cfg, [], self.train).run()
                break
            except Killed:
                continue
        else:
            raise AssertionError("it does not end")
        try:
            command._conclude(study)
        except UserError:
            return study, 1
        return study, 0


def point_of(trial):
    return (trial.params["model.timesteps"], trial.params.get("model.dim"))


some = st.sets(st.sampled_from(POINTS), max_size=3)


@settings(
    max_examples=examples(30),
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],  # to shrink a failing example takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    sampler=st.sampled_from(sorted(SAMPLERS)),
    constraint=st.booleans(),
    failing=some,
    killing=st.dictionaries(st.sampled_from(POINTS), st.integers(1, 5), max_size=2),
    diverging=st.sets(st.sampled_from(POINTS), max_size=1),
    known=st.sets(st.sampled_from(POINTS), max_size=2),
    first=st.integers(1, 9),
    more=st.integers(1, 9),
    mended=st.booleans(),
)
def test_a_search_ends_with_exactly_what_was_asked_for(
    asked, tmp_path_factory, sampler, constraint, failing, killing, diverging, known, first, more, mended
):
    lives = asked.search["max_lives"]
    with pytest.MonkeyPatch.context() as patch:
        tmp = tmp_path_factory.mktemp("study")
        cluster = Cluster(asked, tmp, patch, failing, killing, diverging, known, constraint, sampler)
        deadly = {p for p, deaths in killing.items() if deaths >= lives}
        trainable = [p for p in cluster.feasible if p not in known and p not in deadly and p not in failing]

        study, code = cluster.command(first)
        check(cluster, study, min(first, len(trainable)), code)
        assert all(cluster.calls[p] == 1 for p in failing if cluster.calls[p] and p not in killing)
        assert all(cluster.calls[p] <= lives for p in deadly)

        before = dict(cluster.calls)
        study, code = cluster.command(first)  # the same command again does nothing
        assert dict(cluster.calls) == before

        now = accounts.account(study)
        met = {point_of(t) for t in now.failed}
        retried = len(met) if mended else 0  # which are run in any case
        if mended:
            cluster.failing.clear()
            cluster.killing.clear()
            trainable = [p for p in cluster.feasible if p not in known]
        else:
            trainable = [p for p in trainable if p not in met]
        study, code = cluster.command(max(first, more), retry=mended)
        check(cluster, study, min(max(first, more, len(now.finished) + retried), len(trainable)), code)
        assert not mended or not accounts.account(study).failed


def check(cluster, study, expected, code):
    now = accounts.account(study)
    points = [point_of(t) for t in now.finished]
    assert len(points) == len(set(points)) == expected, (points, [(point_of(t), t.state) for t in study.trials])
    assert set(points) <= set(cluster.feasible) and not set(points) & cluster.known
    assert all(count == 1 for count in cluster.done.values())
    assert not [t for t in study.trials if t.state == TrialState.RUNNING]
    assert now.whole and now.budget == len(points)
    again = [t for t in study.trials if "the same as" in (INFEASIBLE.get(t) or "") and not attributes.queued(t)]
    assert not again, "\n".join(
        f"{t.number} {point_of(t)} {t.state.name} {attributes.REASON.get(t)}" for t in study.trials
    )
    results = [t for t in now.finished if t.state == TrialState.COMPLETE]
    tried = now.finished or now.failed or now.infeasible
    assert code == (0 if results or (now.known and not tried) else 1)


def test_a_trial_that_kills_its_workers_has_failed_and_says_why(asked, tmp_path, monkeypatch):
    cluster = Cluster(asked, tmp_path, monkeypatch, [], {(2, 16): 99}, [], [], False, "grid")
    kills = iter(range(100))
    monkeypatch.setattr(workers, "oom_kills", lambda: next(kills))
    monkeypatch.setattr(workers, "starved", lambda holder: holder["oom_kills"] < 50)
    study, code = cluster.command(None)
    assert code == 0 and len(accounts.account(study).finished) == 6
    (failed,) = accounts.account(study).failed
    assert point_of(failed) == (2, 16) and cluster.calls[2, 16] == 3
    assert "out-of-memory killer ended 3 workers" in attributes.REASON.get(failed)
    assert "in its first epoch" in attributes.REASON.get(failed)


def test_a_trial_that_gets_further_with_each_worker_is_trained_to_its_end(asked, tmp_path, monkeypatch):
    """As where a cluster takes a node every few hours."""
    cluster = Cluster(asked, tmp_path, monkeypatch, [], {(2, 16): 7}, [], [], False, "grid")
    train = cluster.train

    def slowly(cfg, callbacks=()):
        point = {"accuracy": 0.1, "energy_joules": 1e-6, "firing_rate": 0.1, "anytime": []}
        for callback in callbacks:
            if hasattr(callback, "_report"):
                callback._report(callback, 8 - cluster.killing.get((2, 16), 0), point)
        return train(cfg, callbacks)

    cluster.train = slowly
    study, _ = cluster.command(None)
    assert not accounts.account(study).failed and cluster.calls[2, 16] == 8


def test_failed_and_diverged_trials_are_shown_to_the_sampler_as_the_worst(asked, tmp_path, monkeypatch):
    cluster = Cluster(asked, tmp_path, monkeypatch, [(2, 16)], {}, [(3, 16)], [], False, "grid")
    study, code = cluster.command(None)
    assert code == 0 and len(accounts.account(study).finished) == 6  # one of them came to no numbers
    cfg = OmegaConf.create(
        {"search": {**cluster.search, "sampler": {"_target_": SAMPLERS["tpe"], "seed": 0}}, "trainer": {}}
    )
    worker = workers.Worker(cfg, [], cluster.train)
    shown = worker.study.sampler.sampler
    shown.before_trial(study, study.trials[0])
    seen = {point_of(t): t for t in shown._view(study).get_trials(states=(TrialState.COMPLETE,))}
    assert set(seen) == set(POINTS)
    complete = [t.values for t in study.trials if t.state == TrialState.COMPLETE]
    worst = [min(v[0] for v in complete), max(v[1] for v in complete)]
    assert seen[2, 16].values == seen[3, 16].values == worst


def test_failures_are_counted_since_the_command_began(asked, tmp_path, monkeypatch):
    cluster = Cluster(asked, tmp_path, monkeypatch, POINTS, {}, [], [], False, "random")
    cluster.search["max_failures"] = 2
    with pytest.raises(UserError, match=r"3 trials failed.*no such luck"):
        cluster.command(5)
    cluster.failing.clear()
    study, code = cluster.command(5)
    now = accounts.account(study)
    assert code == 0 and len(now.failed) == 3 and len(now.finished) == 4 and now.exhausted


def test_a_study_that_was_killed_as_it_was_made_is_made_by_the_next(asked, tmp_path, monkeypatch):
    cluster = Cluster(asked, tmp_path, monkeypatch, [], {}, [], [], False, "grid")
    monkeypatch.setattr(studies, "SETTLE", 0)
    storage = studies.open_storage("")
    optuna.create_study(study_name="s", storage=storage, directions=["maximize", "minimize"])
    study, code = cluster.command(3)
    assert code == 0 and len(accounts.account(study).finished) == 3
    assert attributes.TOKEN.get(study) and study.metric_names == ["accuracy", "energy"]


def test_another_programs_study_is_left_alone(asked, tmp_path, monkeypatch):
    cluster = Cluster(asked, tmp_path, monkeypatch, [], {}, [], [], False, "grid")
    study = optuna.create_study(study_name="s", storage=studies.open_storage(""), directions=["maximize", "minimize"])
    study.set_user_attr("mine", 1)
    with pytest.raises(UserError, match="was not made by a sweep of spikefront"):
        cluster.command(3)
    assert study.user_attrs == {"mine": 1}


def test_two_workers_that_propose_one_point_at_one_moment_train_it_once(asked, tmp_path, monkeypatch):
    """Each has written its point before it looks; the lower number has it, unless the other has been admitted."""
    cluster = Cluster(asked, tmp_path, monkeypatch, [], {}, [], [], False, "grid")
    study, _ = cluster.command(1)
    taken = point_of(study.trials[0])

    def ask(point):
        values = {"model.timesteps": point[0], "model.dim": point[1]}
        study.sampler = optuna.samplers.PartialFixedSampler(values, optuna.samplers.RandomSampler())
        trial = study.ask()
        asked.space.suggest(trial)
        return trial

    free = next(p for p in POINTS[1:] if p != taken)
    lower, higher = ask(free), ask(free)
    with pytest.raises(Repeated, match=f"trial {lower.number}"):
        admit(higher, study, asked.space)
    INFEASIBLE.set(higher, "the same")
    admit(lower, study, asked.space)
    assert ADMITTED.get(lower)
    other = next(p for p in POINTS[1:] if p not in (taken, free))
    lower, higher = ask(other), ask(other)
    ADMITTED.set(higher, True)
    with pytest.raises(Repeated, match=f"trial {higher.number}"):
        admit(lower, study, asked.space)
