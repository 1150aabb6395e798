"""What `sweeping/study/storage_internals.py` takes from Optuna. If one fails, mend that module alone."""

from __future__ import annotations

import contextlib
import datetime
import math
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import optuna
import pytest
import sqlalchemy
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import JournalStorage
from optuna.storages._grpc.server import make_server as optunas
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial
from postgresql import free_port

from spikefront.sweeping.study import attributes, journal_internals
from spikefront.sweeping.study.ledger import Ledger
from spikefront.sweeping.study.proxy_internals import Proxy, make_server
from spikefront.sweeping.study.several_internals import Ending, begun
from spikefront.sweeping.study.storage import open_storage
from spikefront.sweeping.study.storage_internals import Ended, held, look, looked, pace, set_all, together
from spikefront.sweeping.study.tables_internals import Tables

SPACE = {
    "a": CategoricalDistribution([None, True, 1, 2.5, "x"]),
    "b": FloatDistribution(1e-3, 1.0, log=True),
    "c": IntDistribution(0, 8, step=2),
}


SERVERS = [pytest.param(k, marks=[pytest.mark.slow, pytest.mark.system]) for k in ("postgresql", "mariadb")]


@pytest.fixture
def proxy():
    """Serve a storage in this process; its address."""
    with contextlib.ExitStack() as stack:

        def serve(storage, start=make_server):
            server = start(storage, "127.0.0.1", port := free_port())
            server.start()
            stack.callback(lambda: server.stop(None).wait())
            return f"grpc://127.0.0.1:{port}"

        yield serve


@pytest.fixture(params=["sqlite", "journal", "grpc", "optuna's grpc", *SERVERS])
def address(request, tmp_path, database, proxy):
    if "grpc" in request.param:
        storage = open_storage(f"sqlite:///{tmp_path}/s.db")
        storage.thorough = True
        return proxy(storage, make_server if request.param == "grpc" else optunas)
    files = {"sqlite": f"sqlite:///{tmp_path}/s.db", "journal": f"journal://{tmp_path}/s.log"}
    return files.get(request.param) or database(request.param)


@pytest.fixture(params=["sqlite", *SERVERS])
def relational(request, tmp_path, database):
    return f"sqlite:///{tmp_path}/s.db" if request.param == "sqlite" else database(request.param)


def create(address):
    return optuna.create_study(study_name="s", storage=open_storage(address), directions=["maximize", "minimize"])


def attach(address, paced=False, unread=()):
    storage = open_storage(address)
    if paced:
        pace(storage, unread)
    return optuna.load_study(study_name="s", storage=storage)


def every_kind():
    """Trials of every state, with all that one can have."""
    params = {"a": "x", "b": 0.25, "c": 4}
    steps = {1: 0.5, 2: math.nan, 3: math.inf, 4: -math.inf}
    marks = {"n": None, "list": [1, [2.5, "ü"]], "%like_": {"deep": True}}
    common = {"params": params, "distributions": SPACE, "intermediate_values": steps, "user_attrs": marks}
    yield create_trial(state=TrialState.COMPLETE, values=[math.inf, -1.5], system_attrs={"s": 1}, **common)
    yield create_trial(state=TrialState.COMPLETE, values=[0.1, -math.inf])
    yield create_trial(state=TrialState.PRUNED, **common)
    yield create_trial(state=TrialState.FAIL)
    yield create_trial(state=TrialState.RUNNING, **common)
    yield create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": {"a": 1}})


def test_trials_are_read_as_optuna_reads_them(relational):
    study = create(relational)
    study.add_trials(every_kind())
    study.tell(study.ask(SPACE), [1.0, 2.0])
    theirs = optuna.load_study(study_name="s", storage=relational).trials
    for ours in (study.trials, attach(relational).trials):
        assert len(ours) == len(theirs) == 6
        for our, their in zip(ours, theirs, strict=True):
            said, meant = dict(vars(our)), dict(vars(their))
            for one in (said, meant):
                one["_intermediate_values"] = {k: str(v) for k, v in one.pop("intermediate_values").items()}  # nan
            assert said == meant
            assert list(our.params) == list(their.params)
            assert vars(study._storage.get_trial(our._trial_id))["_user_attrs"] == their.user_attrs
    assert abs(theirs[-1].datetime_start - datetime.datetime.now()) < datetime.timedelta(minutes=5)


def test_another_process_is_seen_at_once_unless_looks_are_paced(relational, monkeypatch):
    study = create(relational)
    mine = study.ask()
    always, paced = attach(relational), attach(relational, paced=True)
    monkeypatch.setattr("spikefront.sweeping.study.storage_internals.SHARE", 1e-6)
    pace(paced._storage)
    assert len(paced.get_trials()) == len(always.get_trials()) == 1
    at = looked(paced)
    study.tell(mine, [0.0, 1.0])
    other = study.ask()
    assert [t.state for t in always.trials] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert [t.state for t in paced.trials] == [TrialState.RUNNING] and looked(paced) == at
    assert [t.state for t in look(paced, lambda t: True)] == [TrialState.COMPLETE, TrialState.RUNNING]
    own = paced.ask()  # what it does itself it sees
    assert [t.number for t in paced.get_trials(states=[TrialState.RUNNING])] == [1, 2]
    paced.tell(own, [0.0, 1.0])
    assert [t.number for t in paced.get_trials(states=[TrialState.RUNNING])] == [1]
    study.tell(other, [0.0, 1.0])
    with pytest.raises(UpdateFinishedTrialError):  # it comes too late, and knows then
        paced._storage.set_trial_state_values(1 + other._trial_id - other.number, TrialState.WAITING)
    assert not paced.get_trials(states=[TrialState.RUNNING])


def test_what_nobody_asks_for_is_not_read_of_all_trials(relational):
    study = create(relational)
    marks = {"epoch:1": 1, "energy_layers": [], "metrics": {"accuracy": 1.0}}
    study.add_trial(create_trial(state=TrialState.COMPLETE, values=[0.0, 1.0], user_attrs=marks))
    lean = attach(relational, paced=True, unread=(attributes.EPOCHS, *attributes.UNSEARCHED))
    assert set(lean.trials[0].user_attrs) == {"metrics"}
    assert lean._storage.get_trial(lean.trials[0]._trial_id).user_attrs == marks  # of one, all


def test_several_attributes_are_written_at_once_and_over_earlier_ones(address):
    study = create(address)
    trial = study.ask()
    trial.set_user_attr("b", "before")
    set_all(study._storage, trial._trial_id, {"a": [1], "b": None, "c": {"d": 2.5}})
    assert study.trials[0].user_attrs == {"a": [1], "b": None, "c": {"d": 2.5}}
    study._storage.set_trial_system_attr(trial._trial_id, "lease", {"id": "x"})
    assert held(study._storage, trial._trial_id, "lease") == (TrialState.RUNNING, {"id": "x"})
    assert held(study._storage, trial._trial_id, "other") == (TrialState.RUNNING, None)
    study.tell(trial, [0.0, 1.0])
    with pytest.raises(UpdateFinishedTrialError):
        set_all(study._storage, trial._trial_id, {"a": [2]})
    assert attach(address).trials[0].user_attrs["a"] == [1]


def test_a_trial_s_parameters_are_written_together(address):
    study = create(address)
    for _ in range(2):  # the first looks up from what others draw them
        trial = study.ask()
        with together(study):
            drawn = {"b": trial.suggest_float("b", 1e-3, 1.0, log=True), "c": trial.suggest_int("c", 0, 8, step=2)}
        assert attach(address).trials[-1].params == drawn == trial.params
    other = attach(address).ask()
    study = attach(address)
    for _ in range(2):
        trial = study.ask()
        with pytest.raises(ValueError), together(study):
            trial.suggest_categorical("b", ["x", "y"])
    assert other.number == 2


def test_attributes_of_any_length_are_kept(address):
    study = create(address)
    study.set_user_attr("long", "x" * 100_000)
    trial = study.ask()
    set_all(study._storage, trial._trial_id, {"long": ["ü" * 100_000]})
    again = attach(address)
    assert again.user_attrs["long"] == "x" * 100_000 and again.trials[0].user_attrs["long"] == ["ü" * 100_000]


def test_parameters_that_another_has_drawn_are_no_storages_failure(relational):
    """A worker that was cut off for so long that its trial was returned: the trial is lost to it, nothing else."""
    study = create(relational)
    for _ in range(2):  # the first looks up from what others draw them
        trial = study.ask()
        with together(study):
            trial.suggest_float("b", 0.0, 1.0)
    with pytest.raises(UpdateFinishedTrialError, match="another worker's"), together(study):
        study._storage.set_trial_param(trial._trial_id, "b", 0.5, FloatDistribution(0.0, 1.0))


def test_each_finished_trial_is_told_once(address):
    study = create(address)
    ended = Ended(study)
    first, second = study.ask(), study.ask()
    assert ended.new() == []
    study.tell(second, [0.0, 1.0])
    assert [t.number for t in ended.new()] == [1] and ended.new() == []
    study.tell(first, state=TrialState.FAIL)
    assert [t.number for t in ended.new()] == [0] and ended.new() == []


def test_relational_storages_are_ours_and_go_to_other_processes(relational):
    study = create(relational)
    study.ask()
    assert isinstance(study._storage, Tables) and len(study.trials) == 1
    assert len(pickle.loads(pickle.dumps(study)).trials) == 1


def test_of_many_who_would_run_a_waiting_trial_one_does(address):
    """Workers that start at one moment all see the queue's first; SQLite locks nothing for who only reads."""
    study = create(address)
    at_once = threading.Barrier(6)

    def begin(own):
        at_once.wait()
        return [own._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING) for trial in waiting]

    for _ in range(10):
        study.enqueue_trial({"c": 2})
    waiting = study.get_trials()
    with ThreadPoolExecutor(6) as workers:
        began = list(workers.map(begin, [attach(address) for _ in range(6)]))
    assert [sum(of_one) for of_one in zip(*began, strict=True)] == [1] * 10
    (first, *_) = attach(address).get_trials()
    assert first.state == TrialState.RUNNING
    assert abs(first.datetime_start - datetime.datetime.now()) < datetime.timedelta(seconds=60)
    study.tell(first.number, state=TrialState.FAIL)
    with pytest.raises(UpdateFinishedTrialError):
        study._storage.set_trial_state_values(first._trial_id, TrialState.RUNNING)


@pytest.mark.parametrize("values", [[0.5, math.inf], [-math.inf, 1e-300], None])
def test_a_trial_is_told_as_optuna_tells_it_once(relational, values):
    study, state = create(relational), TrialState.FAIL if values is None else TrialState.COMPLETE
    ours, theirs = study.ask(), study.ask()
    study._storage.set_trial_state_values(ours._trial_id, state, values)
    study._storage._backend.set_trial_state_values(theirs._trial_id, state, values)
    one, other = attach(relational).get_trials()
    assert (one.state, one.values) == (other.state, other.values) == (state, values)
    assert abs(one.datetime_complete - other.datetime_complete) < datetime.timedelta(seconds=60)
    assert study.get_trials()[0].state == state  # from here it is seen at once
    with pytest.raises(UpdateFinishedTrialError):
        study._storage.set_trial_state_values(ours._trial_id, TrialState.PRUNED, values)
    with pytest.raises(KeyError):
        study._storage.set_trial_state_values(100, state, values)


def test_a_fresh_trials_turn_is_few_statements(relational):
    """Asked, held, evaluated, told, by a worker that looks at all others each time: it was 40."""
    study, said = create(relational), []
    ledger = Ledger(study, study._storage, interval=3600)
    sqlalchemy.event.listen(study._storage._backend.engine, "before_cursor_execute", lambda *a: said.append(a[2]))
    trial = ledger.take(1)
    with ledger.hold(trial):
        came = {"seed": 0, "spent": {"seconds": 1.0, "gpu_hours": 0.0, "joules": 0.0}}
        assert ledger.tell(Ending(trial, TrialState.COMPLETE, [1.0, 2.0], came)) == [True]
    leases = [s for s in said if "trial_system_attributes" in s and s.startswith(("INSERT", "UPDATE"))]
    assert len(leases) == 1 and len(said) <= 25
    told = study.get_trials()[0]
    assert attributes.SPENT.get(told)["seconds"] == 1.0 and attributes.lease(told)["begun"]


def test_several_trials_are_begun_and_told_at_once(address):
    create(address)
    ledgers = [Ledger(study, study._storage, interval=3600) for study in (attach(address), attach(address))]
    ours, theirs = ledgers
    first = theirs.take(100)
    ids = ours.take_some(budget=7, count=10)
    assert len(ids) == 6  # as the budget has room for
    trials = [begun(ours.study, i) for i in ids]
    assert [t.number for t in trials] == [1, 2, 3, 4, 5, 6]
    for trial in trials:
        trial.suggest_float("b", 1e-3, 1.0, log=True)
    running = attach(address).get_trials(states=(TrialState.RUNNING,))
    assert all(attributes.lease(t)["begun"] for t in running[1:]) and ours.is_mine(ids[-1])
    attributes.set_lease(theirs.storage, ids[1], attributes.lease(running[0]))
    theirs.study._storage.set_trial_state_values(ids[2], TrialState.FAIL)
    trials[4].set_user_attr("spent", {"seconds": 1.0})
    endings = [Ending(t, TrialState.COMPLETE, [0.5, t.number], {"spent": {"seconds": 2.0}}) for t in trials[:5]]
    endings.append(Ending(trials[5], TrialState.PRUNED, kept={"reason": "so"}))
    assert ours.tell(*endings) == [True, False, False, True, True, True]
    assert ours.tell(*endings) == [False] * 6
    told = attach(address).get_trials()
    complete, pruned, running = TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING
    assert [t.state for t in told] == [running, complete, running, TrialState.FAIL, complete, complete, pruned]
    assert [told[i].values for i in (1, 4, 5)] == [[0.5, 1], [0.5, 4], [0.5, 5]]
    assert all(told[i].user_attrs == {"spent": {"seconds": 2.0}} and told[i].datetime_complete for i in (1, 4, 5))
    assert told[2].values is None and not told[2].user_attrs and told[6].user_attrs == {"reason": "so"}
    assert first is not None and theirs.is_mine(first._trial_id) and theirs.is_mine(ids[1])


def test_trials_that_several_begin_at_once_are_numbered_in_turn(relational):
    create(relational)
    ledgers = [Ledger(study, study._storage, interval=3600) for study in (attach(relational) for _ in range(4))]
    with ThreadPoolExecutor(4) as workers:
        found = list(workers.map(lambda ledger: ledger.take_some(1000, 20), ledgers))
    assert len({i for ids in found for i in ids}) == 80
    assert sorted(t.number for t in attach(relational).get_trials()) == list(range(80))


def test_several_trials_of_a_worker_that_dies_are_put_back(address):
    study = create(address)
    dead, alive = (Ledger(study, study._storage, interval=3600) for _ in range(2))
    dead._me = {**dead._me, "pid": 2**22 + 1}
    ids = dead.take_some(1000, 4)
    assert alive.put_back_the_dead() == [0, 1, 2, 3]
    assert alive.take_some(1000, 4) == []  # those come first, one at a time
    trial = alive.take(1000)
    assert trial is not None and trial.number == 0 and dead.is_mine(ids[0]) is False
    ending = [Ending(begun(study, i), TrialState.COMPLETE, [0.0, 0.0]) for i in ids]
    assert dead.tell(*ending) == [False] * 4  # it lived after all


def test_a_turn_through_our_proxy_is_few_calls_and_through_optunas_many(tmp_path, proxy):
    storage = open_storage(f"sqlite:///{tmp_path}/s.db")
    storage.thorough = True
    said = {}
    for name, start in (("ours", make_server), ("theirs", optunas)):
        study = attach(proxy(storage, start)) if said else create(proxy(storage, start))
        said[name] = count = CountedCalls(study._storage)
        ledger = Ledger(study, study._storage, interval=3600)
        for trial in (ledger.take(4), ledger.take(4)):  # of which the first makes what parameters are drawn from
            count.calls.clear()
            with ledger.hold(trial):
                with together(study):
                    drawn = [trial.suggest_float("b", 1e-3, 1.0, log=True), trial.suggest_int("c", 0, 8, step=2)]
                assert ledger.tell(Ending(trial, TrialState.COMPLETE, [1.0, 2.0], {"seed": 0, "t": [1]})) == [True]
        told = attach(f"sqlite:///{tmp_path}/s.db").trials[trial.number]
        assert list(told.params.values()) == drawn and told.values == [1.0, 2.0] and told.user_attrs["t"] == [1]
        assert pickle.loads(pickle.dumps(study)).trials[trial.number].values == [1.0, 2.0]
    assert isinstance(study._storage, Proxy) and not study._storage.ours
    assert len(said["ours"].calls) <= 2 and len(said["theirs"].calls) >= 6


def test_trials_are_told_by_our_proxy_as_they_are_and_in_what_is_read_of_them(tmp_path, proxy):
    study = create(f"sqlite:///{tmp_path}/s.db")
    study.add_trials(every_kind())
    study.tell(study.ask({**SPACE, "d": CategoricalDistribution([1, 2.5])}), [1.0, 2.0])
    study.tell(study.ask({**SPACE, "e": CategoricalDistribution([True, 2.5])}), [1.0, 2.0])
    marks = {"epoch:1": 1, "epochs": 3, "energy_layers": [], "metrics": {"accuracy": 1.0}}
    study.add_trial(create_trial(state=TrialState.COMPLETE, values=[0.0, 1.0], user_attrs=marks))
    address = proxy(open_storage(f"sqlite:///{tmp_path}/s.db"))
    said, meant = told(attach(address)._storage)[1], told(open_storage(f"sqlite:///{tmp_path}/s.db"))[1]
    assert said == meant and [list(map(type, t["_params"].values())) for t in said] == [
        list(map(type, t["_params"].values())) for t in meant
    ]
    lean = attach(address, paced=True, unread=(attributes.EPOCHS, *attributes.UNSEARCHED))
    assert set(lean.trials[-1].user_attrs) == {"metrics", "epochs"} - set(attributes.UNSEARCHED)
    assert lean._storage.get_trial(lean.trials[-1]._trial_id).user_attrs == marks  # of one, all


def test_a_proxy_that_is_started_again_knows_the_study_by_its_id(tmp_path):
    address, port = f"sqlite:///{tmp_path}/s.db", free_port()
    create(address)
    study = None
    for _ in range(2):
        server = make_server(open_storage(address), "127.0.0.1", port)
        server.start()
        study = study or attach(f"grpc://127.0.0.1:{port}")
        with together(study):
            (trial := study.ask()).suggest_float("b", 1e-3, 1.0, log=True)
        study.tell(trial, [0.0, 1.0])
        server.stop(None).wait()
    assert [t.values for t in attach(address).trials] == [[0.0, 1.0]] * 2


class CountedCalls:
    """What a proxy's client calls."""

    def __init__(self, storage):
        self.calls, several, stub = [], storage._several, storage._stub
        storage._stub, storage._several = self, lambda request: self.calls.append("several") or several(request)
        self._stub = stub

    def __getattr__(self, name):
        call = getattr(self._stub, name)
        return lambda request: self.calls.append(name) or call(request)


def test_what_our_proxy_refuses_is_said_as_by_the_storage(tmp_path, proxy):
    storage = open_storage(f"sqlite:///{tmp_path}/s.db")
    study = create(proxy(storage))
    trial, other = study.ask(SPACE), study.ask(SPACE)
    study.tell(trial, [0.0, 1.0])
    with pytest.raises(UpdateFinishedTrialError):
        set_all(study._storage, trial._trial_id, {"a": 1})
    with pytest.raises(KeyError):
        set_all(study._storage, 100, {"a": 1})
    with pytest.raises(ValueError, match="distribution"), together(study):
        study._storage.set_trial_param(other._trial_id, "b", 1.0, IntDistribution(0, 8))
    with pytest.raises(UpdateFinishedTrialError, match="another worker's"), together(study):  # who has drawn it
        study._storage.set_trial_param(other._trial_id, "b", 0.5, SPACE["b"])
    assert study.trials[1].params == other.params


@pytest.fixture
def journal(tmp_path, monkeypatch):
    """A journal with all that one can hold, of which a snapshot is written."""
    monkeypatch.setattr(journal_internals, "EVERY", 10)
    study = create(f"journal://{tmp_path}/s.log")
    other = optuna.create_study(study_name="gone", storage=study._storage)
    other.tell(other.ask(), 1.0)
    study.add_trials(every_kind())
    study.set_user_attr("u", {"ü": [1]})
    study._storage.set_study_system_attr(study._study_id, "s", 2)
    optuna.delete_study(study_name="gone", storage=study._storage)
    study.ask(SPACE)
    return tmp_path / "s.log"


def told(storage):
    """All that a storage tells of its only study."""
    (study,) = storage.get_all_studies()
    trials = [dict(vars(t)) for t in storage.get_all_trials(study._study_id)]
    for t in trials:
        t["intermediate_values"] = {k: str(v) for k, v in t["intermediate_values"].items()}  # nan
    return vars(study), trials


def test_a_journal_is_gone_on_with_from_its_snapshot(journal):
    whole = told(JournalStorage(JournalFileBackend(str(journal))))
    open_storage(f"journal://{journal}")  # writes it
    again = attach(f"journal://{journal}")
    lines = journal.read_text().count("\n")
    assert again._storage._begin() == lines and told(again._storage) == whole
    again.tell(again.ask(), [0.5, 1.0])
    for study in (again, attach(f"journal://{journal}"), pickle.loads(pickle.dumps(again))):
        assert [t.number for t in study.trials] == list(range(7)) and study.trials[6].values == [0.5, 1.0]
    assert told(JournalStorage(JournalFileBackend(str(journal)))) == told(attach(f"journal://{journal}")._storage)


def test_another_journals_snapshot_and_half_of_one_are_let_be(journal):
    whole = told(JournalStorage(JournalFileBackend(str(journal))))
    open_storage(f"journal://{journal}")
    snapshot = journal.with_name("s.log.snapshot")
    kept = snapshot.read_bytes()
    for damaged in (
        b"",
        kept[: len(kept) // 2],
        kept[: kept.rindex(b"\n{") + 1],
        b"{}\n",
        kept.replace(b'"op_code":4', b'"op_code":99'),
    ):
        snapshot.write_bytes(damaged)
        assert told(open_storage(f"journal://{journal}")) == whole
    snapshot.write_bytes(kept)
    journal.write_text("")  # begun anew
    create(f"journal://{journal}").set_user_attr("u", 3)
    found = attach(f"journal://{journal}")
    assert found.user_attrs == {"u": 3} and not found.trials
