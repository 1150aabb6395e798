"""An elastic study: one training, evaluations of its slices, fine-tunings; begun, killed and gone on with."""

from __future__ import annotations

import pytest
import torch
from examples import few
from optuna.trial import TrialState
from pretended import Sweep

from spikefront.analysis.front import front_of
from spikefront.commands.sweep import _slices, sweep
from spikefront.config import compose, override
from spikefront.errors import UserError
from spikefront.nn.checkpoints import network_state, read_checkpoint
from spikefront.sweeping.study import accounts, attributes, brought, presence, request
from spikefront.sweeping.study import study as studies
from spikefront.sweeping.study.attributes import ELASTIC, INHERITED, STAGE, TRAINING, TUNING
from spikefront.sweeping.study.records import records
from spikefront.sweeping.study.sources import checkpoint_of
from spikefront.sweeping.study.study import elastic_checkpoint
from spikefront.sweeping.worker import telling
from spikefront.sweeping.worker.stages import promising
from spikefront.sweeping.worker.worker import Worker
from spikefront.training import Heirs, train

TINY = ("model=sdt_1_16", "trainer=cpu", "trainer.max_epochs=1", "callbacks=quiet", "threads=1")
TINY += (
    "neuron.threshold=0.5",
    "+trainer.limit_train_batches=2",
    "+trainer.limit_test_batches=1",
    "search/sampler=random",
)
SPACE = ("model.timesteps=choice(1,2)", "model.dim=choice(8,16)", "neuron.threshold=interval(0.3,0.6)")
ELASTIC_ENGINE = ("search/engine=elastic", "search.engine.pool=4", "search.engine.epochs=1", "search.finetune_epochs=1")


def elastic(tmp_path, *overrides, space=SPACE):
    options = ("search.n_trials=4", "search.engine.finetune=2", "search.workers=1", *ELASTIC_ENGINE)
    return Sweep(tmp_path, *TINY, *options, *overrides, space=space, train=train)


def by_stage(study):
    found = {}
    for t in study.get_trials(deepcopy=False):
        found.setdefault(STAGE.get(t), []).append(t)
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    search = elastic(tmp_path_factory.mktemp("elastic"))
    search.run_here()
    return search


def test_the_stages_follow_each_other(finished):
    study = finished.study()
    found = by_stage(study)
    assert [len(found[stage]) for stage in (TRAINING, None, TUNING)] == [1, 4, 2]
    (training,) = found[TRAINING]
    assert training.number == 0 and training.params["model.dim"] == 16 and training.params["model.timesteps"] == 2
    ended = [max(t.datetime_complete for t in found[stage]) for stage in (TRAINING, None, TUNING)]
    assert ended == sorted(ended) and all(t.state == TrialState.COMPLETE for t in study.trials)
    place = studies.record(study)["path"]
    evaluated, tuned = found[None][0].number, found[TUNING][0].number
    assert checkpoint_of(f"trial:{place}/{evaluated}") == elastic_checkpoint(study)  # of which a member is cut
    with pytest.raises(UserError, match="keeps no checkpoint"):  # callbacks=quiet, and of its own
        checkpoint_of(f"trial:{place}/{tuned}")


@pytest.mark.slow
def test_the_same_command_is_done_and_more_is_evaluated(finished):
    before = len(finished.study().trials)
    finished.run_here()
    assert len(finished.study().trials) == before
    finished.changed("search.n_trials=5", "search.engine.finetune=3").run_here()
    found = by_stage(finished.study())
    assert [len(found[stage]) for stage in (TRAINING, None, TUNING)] == [1, 5, 3]


def test_records_say_how_each_came_about(finished):
    found = records(finished.study())
    training, *others = found["trials"]
    assert training["command"] == found["command"] and training["origin"].startswith("the largest network")
    for trial in others:
        if trial["origin"] and "fine-tuned" in trial["origin"]:
            assert "src/train.py" in trial["command"] and "init=" in trial["command"]
        else:
            assert trial["command"].startswith("python src/evaluate.py ") and "member=" in trial["command"]
    assert found["front"] and {p["number"] for p in found["front"]} <= {t["number"] for t in found["trials"]}


@pytest.mark.slow
def test_a_network_that_is_proposed_again_is_not_measured_again(finished, monkeypatch):
    seen = []
    measure = Heirs.evaluate
    monkeypatch.setattr(Heirs, "evaluate", lambda self, cfg, *more: seen.append(cfg) or measure(self, cfg, *more))
    study, before = finished.study(), len(finished.study().trials)
    point = {"model.timesteps": 2, "model.dim": 8, "neuron.threshold": 0.4}
    for _ in range(2):
        attributes.enqueue(study, point, "twice")
    there = len(by_stage(study)[None]) - 2
    finished.changed(f"search.n_trials={there + 2}", "search.engine.finetune=0").run_here()
    one, other = (attributes.outcome(t) for t in finished.study().trials[before:])
    assert len(seen) == 1 and one["seconds"] > other["seconds"]
    assert {k: v for k, v in one.items() if k not in ("seconds", "metrics")} == {
        k: v for k, v in other.items() if k not in ("seconds", "metrics")
    }
    assert other["metrics"]["accuracy"] == one["metrics"]["accuracy"]


@pytest.mark.slow
def test_killed_workers_lose_nothing(tmp_path):
    search = elastic(tmp_path, "search.workers=2", "search.heartbeat=0.3", "search.max_lives=null")
    search.run(kills=3, seed=1)
    found = by_stage(search.study())
    assert len(found[TRAINING]) == 1 and search.kills
    assert sum(t.state == TrialState.COMPLETE for t in found[None]) == 4
    assert 2 <= sum(t.state == TrialState.COMPLETE for t in found[TUNING]) <= 3
    tuned = [INHERITED.get(t) for t in found[TUNING] if accounts.counts(t)]
    assert len(tuned) == len(set(tuned))


@pytest.mark.slow
def test_a_space_with_an_end_is_evaluated_whole(tmp_path):
    search = elastic(tmp_path, "search.n_trials=9", space=("model.timesteps=choice(1,2)", "model.dim=choice(8,16)"))
    search.run_here()
    found = by_stage(search.study())
    params = [tuple(t.params.values()) for t in (*found[TRAINING], *found[None])]
    assert len(params) == len(set(params)) == 4 and len(found[TUNING]) == 2
    assert accounts.account(search.study()).exhausted


@pytest.mark.slow
def test_a_largest_network_that_breaks_a_constraint_still_trains_the_others(tmp_path):
    bound = 'search.constraints.parameters="<= 3000"'
    search = elastic(tmp_path, bound, "search.n_trials=2", "search.engine.finetune=1")
    search.run_here()
    found = records(search.study())
    assert found["trials"][0]["state"] == "infeasible" and "parameters" in found["trials"][0]["reason"]
    done = [t for t in found["trials"] if t["state"] == "complete"]
    assert len(done) == 3 and all(t["params"]["model.dim"] == 8 for t in done)
    assert 0 not in {p["number"] for p in found["front"]}


@pytest.mark.slow
def test_a_training_that_fails_ends_the_sweep_and_is_tried_again(tmp_path):
    def failing(cfg, callbacks=()):
        raise ValueError("no such thing")

    search = elastic(tmp_path, "search.n_trials=1", "search.engine.finetune=0")
    search.train = failing
    with pytest.raises(UserError, match=r"the elastic training failed \(.*no such thing.*the same command begins it"):
        search.run_here()
    assert len(search.study().trials) in (1, 2)
    search.train = train
    search.run_here()
    found = by_stage(search.study())
    assert [t.state for t in found[TRAINING]] == [TrialState.FAIL, TrialState.COMPLETE] and len(found[None]) == 1


def read(tmp_path, *overrides, space=SPACE):
    search = elastic(tmp_path, *overrides, space=space)
    arguments = [*search.overrides, *space]
    options = {"neuron": ["if", "lif", "plif"], "attention": ["dwc3", "dwc5", "sdsa1", "sdsa2"]}
    return request.read(search.cfg(), arguments, lambda g: options.get(g, []), False, lambda *_, **__: None, _slices)


def test_what_changes_nothing_of_the_network_stays_at_its_default(tmp_path):
    asked = read(tmp_path, space=(*SPACE, "optimizer.lr=interval(0.001,0.1)", "data.shift=choice(0,1)"))
    assert set(asked.space.parameters) == {"model.timesteps", "model.dim", "neuron.threshold"}
    assert asked.notes == [
        "optimizer.lr stays at 0.006: one training is shared",
        "data.shift stays at 1: one training is shared",
    ]
    assert asked.elastic["idle"] == {"optimizer.lr": 0.006, "data.shift": 1}
    assert asked.elastic["scalars"] == {"neuron.threshold": 0.5}
    assert asked.elastic["ranges"] == {"neuron.threshold": [0.3, 0.6]}
    with pytest.raises(UserError, match=r"nothing in the space .optimizer.lr. changes the network"):
        read(tmp_path, space=("optimizer.lr=interval(0.001,0.1)",))


def test_choices_whose_tensors_agree_are_elastic(tmp_path):
    asked = read(tmp_path, space=("neuron=if,lif,plif", "attention=sdsa1,sdsa2", "model.depth=int(interval(1,3))"))
    assert asked.elastic["params"]["neuron"] == "plif" and asked.elastic["params"]["model.depth"] == 3
    assert "model.depth=1" in asked.elastic["smallest"] and len(asked.elastic["pool"]) == 4


def test_conditional_parameters_are_elastic_where_they_hold(tmp_path):
    tau = {"values": "interval(1.5,4)", "when": "neuron == 'lif'"}
    asked = read(
        tmp_path, "+" + override("search.space", {"neuron.tau": tau}), space=("neuron=if,lif", "model.dim=choice(8,16)")
    )
    pool = [" ".join(own) for own in asked.elastic["pool"]]
    assert all(("neuron.tau" in own) == ("neuron=lif" in own) for own in pool)


@pytest.mark.parametrize(
    ("space", "why"),
    few(
        [
            (
                ("attention=dwc3,dwc5",),
                r"search.space.attention=dwc[35] is no slice of the largest network: .*conv.weight",
            ),
            (("data=digits,cifar10",), "search.space.data: it changes the network and more"),
            (("data.image_size=choice(8,16)",), "search.space.data.image_size: it changes the network and more"),
        ]
    ),
)
def test_what_is_no_slice_is_refused_by_its_name(tmp_path, space, why):
    with pytest.raises(UserError, match=why):
        read(tmp_path, space=space)


@pytest.mark.parametrize(
    ("asked", "why"),
    few(
        [
            ("search.seeds=2", "search.seeds=2: search/engine=elastic trains once"),
            ("search.objectives=[accuracy,memory]", "search.objectives: memory is a training's"),
            ("search.engine.pool=0", "search.engine.pool is 0"),
            ("search.engine.epochs=x", "search.engine.epochs is x"),
            ("search.engine.distillation=2", "search.engine.distillation is 2"),
            ("search.engine.rate_weight=-1", "search.engine.rate_weight is -1"),
            ("search.finetune_epochs=0", "search.finetune_epochs is 0"),
            ("search/pruner=front", "search/pruner=front: search/engine=elastic has nothing to stop"),
        ],
        4,
    ),
)
def test_what_it_cannot_be_asked_for(tmp_path, asked, why):
    with pytest.raises(UserError, match=why):
        read(tmp_path, asked)


def test_frames_that_cannot_be_added_up_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"model.timesteps=3 .*beside 4"):
        read(tmp_path, "data=digits_dvs", "data.pooling='0111'", space=("model.timesteps=choice(2,3,4)",))


def test_another_engine_is_another_study(finished):
    other = finished.changed()
    other.overrides = [o for o in finished.overrides if "engine" not in o]
    with pytest.raises(UserError, match="search/engine was elastic, now trials"):
        other.run_here()


def test_the_most_promising_is_fine_tuned_first(finished):
    study, objectives = finished.study(), {"accuracy": "maximize", "energy": "minimize"}
    every = [t for t in study.get_trials() if STAGE.get(t) is None]
    front = {p["number"] for p in front_of([brought.candidate(t, objectives) for t in every], objectives)}
    best = promising(every, objectives)
    assert best is not None and best.number in front | {t.number for t in every}
    done = [t for t in study.get_trials() if STAGE.get(t) == TUNING]
    left = promising(study.get_trials(), objectives)
    assert left is None or left.number not in {INHERITED.get(t) for t in done}
    assert all(STAGE.get(t) is None for t in every) and ELASTIC.get(study) and accounts.pairs(study.get_trials())


def test_two_processes_train_what_one_does(tmp_path):
    found = []
    for devices in (1, 2):
        exact = ("trainer.precision=64-true", "trainer.effective_batch=64", "data.shift=0", "threads=1")
        search = elastic(tmp_path / str(devices), *exact, f"trainer.devices={devices}", "search.n_trials=2")
        search.run_here()
        every = by_stage(search.study())
        assert all(t.state == TrialState.COMPLETE for own in every.values() for t in own) and len(every[None]) == 2
        found.append(network_state(read_checkpoint(elastic_checkpoint(search.study()))))
    one, two = found
    assert all(torch.allclose(one[key].double(), two[key].double(), atol=1e-9) for key in one)


def test_a_foreign_study_runs_nothing(tmp_path):
    search = elastic(tmp_path)
    started = []
    sweep(search.cfg(), [*search.overrides, *SPACE], lambda _: [], started.extend)
    study = search.study()
    ELASTIC.set(study, {**ELASTIC.get(study), "pool": [["neuron._target_=os.system"]]})
    with pytest.raises(UserError, match=r"the study 's' would run os.system"):
        Worker(compose(started[0], root="sweep"), started[0])


class Killed(BaseException):
    """In the place of a signal that nobody can handle."""


def test_a_batch_of_a_killed_worker_is_evaluated_again_and_nothing_twice(tmp_path, monkeypatch):
    search, measure, calls = elastic(tmp_path, "search.n_trials=30", "search.engine.finetune=0"), Heirs.evaluate, []
    gone = {"host": presence.host(), "pid": 2**22 + 1, "since_boot": 1.0}
    monkeypatch.setattr(presence, "identity", lambda pid: gone)

    def dies(self, cfg, *more):
        calls.append(cfg)
        if len(calls) == 14:
            raise Killed
        return measure(self, cfg, *more)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Heirs, "evaluate", dies)
        patch.setattr(telling.Batch, "close", lambda self: None)
        search.run_here()
    before = {t.number: t for t in search.study().get_trials()}
    held = [t for t in before.values() if t.state != TrialState.COMPLETE]
    assert 1 < len(held) <= 3 and 9 < len(before) - len(held) < 15
    search.run_here()
    after = search.study().get_trials()
    assert all(t.state == TrialState.COMPLETE for t in after) and len(by_stage(search.study())[None]) == 30
    assert [t.number for t in after] == list(range(31))
    known = {number: t for number, t in before.items() if t.state == TrialState.COMPLETE}
    assert all(after[number].datetime_complete == t.datetime_complete for number, t in known.items())
    assert all(after[t.number].params == t.params for t in held if t.params)
