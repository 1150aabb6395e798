"""Optuna's gRPC proxy, and beside its calls one of ours, by which a worker has several things written at once
and trials told in what is read of them.

A turn through Optuna's calls alone is some 35 of them, two thirds of which write one attribute or parameter each. To
servers that know those alone (Optuna's own) that is how it is said.

``tests/sweeping/study/test_storage_internals.py`` says what has changed in Optuna and what then goes wrong.
"""

from __future__ import annotations

import datetime
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache
from typing import Any, ClassVar

from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, GrpcStorageProxy
from optuna.trial import FrozenTrial, TrialState

from spikefront.errors import UserError
from spikefront.sweeping.study.looks import Drawing, Drawn, Looks, is_unread
from spikefront.sweeping.study.tables_internals import Tables
from spikefront.sweeping.study.writes_internals import Told

SERVICE, CALL = "spikefront.Several", "call"
THREADS = 32  # of a server
Error = type[Exception]
STATUS: dict[Error, str] = {  # as Optuna's calls say it
    KeyError: "NOT_FOUND",
    UpdateFinishedTrialError: "FAILED_PRECONDITION",
    ValueError: "INVALID_ARGUMENT",
}


class Proxy(Drawing, GrpcStorageProxy):
    """Optuna's gRPC proxy: what it is asked for is named trial by trial."""

    _own: ClassVar[tuple[str, ...]] = ("_several", "ours")  # of this process's channel

    def _setup(self) -> None:
        super()._setup()
        self._looks = defaultdict(Looks)
        self._several = self._channel.unary_unary(f"/{SERVICE}/{CALL}")

    def __getstate__(self) -> dict[Any, Any]:
        return {k: v for k, v in super().__getstate__().items() if k not in self._own}

    def _fetch(self, study_id: int, ids: Collection[int], after: int) -> list[FrozenTrial]:
        if self.ours:
            return [_told(row) for row in self._ask("trials", study_id, sorted(ids), after, self.unread)]
        from optuna.storages._grpc.client import GrpcClientCache, GrpcClientCacheEntry  # grpcio is of an extra

        cache, entry = GrpcClientCache(self._stub), GrpcClientCacheEntry()  # of this call alone
        entry.unfinished_trial_ids, entry.last_finished_trial_id = set(ids), after
        cache.studies[study_id] = entry
        cache._read_trials_from_remote_storage(study_id)
        return list(entry.trials.values())

    @cached_property
    def ours(self) -> bool:
        """Whether the server knows our call, as ``make_server``'s does before a database."""
        import grpc

        try:
            self._ask("hello")
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNIMPLEMENTED:
                raise
            return False
        return True

    def _ask(self, name: str, *given: Any) -> Any:
        import grpc

        try:
            return json.loads(self._several(json.dumps([name, *given]).encode()))
        except grpc.RpcError as error:
            for kind, status in STATUS.items():
                if error.code().name == status:
                    raise kind(error.details()) from error
            raise

    def draw(self, study_id: int, drawn: Sequence[Drawn]) -> None:
        self._ask("draw", study_id, [(i, name, value, distribution_to_json(d)) for i, name, value, d in drawn])

    def held(self, trial_id: int, key: str) -> tuple[TrialState, Any]:
        """See ``Tables.held``."""
        state, value = self._ask("held", trial_id, key)
        return TrialState[state], value

    def set_all(self, trial_id: int, values: Mapping[str, Any]) -> None:
        """Several user attributes of a trial, in one transaction."""
        self._ask("set_all", trial_id, dict(values))

    def begin(self, study_id: int, count: int, attributes: Mapping[str, Any]) -> dict[int, int]:
        """See ``Writes.begin``."""
        ids = dict[int, int](self._ask("begin", study_id, count, dict(attributes)))
        for own in ids.values():
            self.touch(own)
        return ids

    def tell(self, endings: Sequence[Told], key: str, owner: str) -> list[bool]:
        """See ``Writes.tell``."""
        try:
            return list(self._ask("tell", [(e.trial_id, e.state.name, e.values, e.kept) for e in endings], key, owner))
        finally:
            for e in endings:
                self.touch(e.trial_id)


def _row(trial: FrozenTrial, unread: tuple[str, ...], texts: dict[int, str]) -> dict[str, Any]:
    """A trial in what JSON knows, without the user attributes that are ``unread``.

    Args:
        texts: of distributions that were told before, by their identity: equal ones, of 1 and of True, may differ.
    """
    for distribution in trial.distributions.values():
        if id(distribution) not in texts:
            texts[id(distribution)] = distribution_to_json(distribution)
    row = {name: getattr(trial, name) for name in ("number", "values", "system_attrs", "intermediate_values")}
    row |= {"trial_id": trial._trial_id, "state": trial.state.name}
    row |= {name: (at := getattr(trial, name)) and at.isoformat() for name in ("datetime_start", "datetime_complete")}
    drawn = ((name, trial.distributions[name], value) for name, value in trial.params.items())
    row["params"] = [(name, texts[id(d)], d.to_internal_repr(value)) for name, d, value in drawn]
    row["user_attrs"] = {key: value for key, value in trial.user_attrs.items() if not is_unread(key, unread)}
    return row


_distribution = lru_cache(1024)(json_to_distribution)
_time = datetime.datetime.fromisoformat


def _told(row: dict[str, Any]) -> FrozenTrial:
    """The trial of a row."""
    drawn = [(name, _distribution(text), inner) for name, text, inner in row.pop("params")]
    start, complete = row.pop("datetime_start"), row.pop("datetime_complete")
    steps = {int(step): value for step, value in row.pop("intermediate_values").items()}
    return FrozenTrial(
        state=TrialState[row.pop("state")],
        value=None,
        datetime_start=start and _time(start),
        datetime_complete=complete and _time(complete),
        params={name: d.to_external_repr(inner) for name, d, inner in drawn},
        distributions={name: d for name, d, _ in drawn},
        intermediate_values=steps,
        **row,
    )


def _answers(storage: Tables) -> dict[str, Callable[..., Any]]:
    def trials(study_id: int, ids: list[int], after: int, unread: list[str]) -> list[dict[str, Any]]:
        wanted, every = set(ids), storage.get_all_trials(study_id, deepcopy=False)
        texts: dict[int, str] = {}
        return [_row(t, tuple(unread), texts) for t in every if t._trial_id > after or t._trial_id in wanted]

    def draw(study_id: int, drawn: list[Any]) -> None:
        storage.look(study_id, ())  # by which it knows what other trials draw from
        storage.draw(study_id, [(i, name, value, json_to_distribution(d)) for i, name, value, d in drawn])

    def held(trial_id: int, key: str) -> tuple[str, Any]:
        state, value = storage.held(trial_id, key)
        return state.name, value

    def tell(endings: list[Any], key: str, owner: str) -> list[bool]:
        told = [Told(own, TrialState[state], values, kept) for own, state, values, kept in endings]
        return storage.tell(told, key, owner)

    return {
        "hello": lambda: None,
        "trials": trials,
        "draw": draw,
        "held": held,
        "set_all": storage.set_all,
        "begin": lambda *given: list(storage.begin(*given).items()),
        "tell": tell,
    }


def make_server(storage: BaseStorage, host: str, port: int) -> Any:
    """Optuna's proxy before a storage, which knows our call too where that is a database's; a ``grpc.Server`` to be
    started.

    Raises:
        UserError: the port is taken, which Optuna's would share, or this machine has no such address.
    """
    import grpc
    from optuna.storages._grpc.auto_generated.api_pb2_grpc import add_StorageServiceServicer_to_server
    from optuna.storages._grpc.servicer import OptunaStorageProxyService

    server = grpc.server(ThreadPoolExecutor(THREADS), options=[("grpc.so_reuseport", 0)])
    add_StorageServiceServicer_to_server(OptunaStorageProxyService(storage), server)  # type: ignore[no-untyped-call]
    try:
        server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise UserError(
            f"the proxy can't listen on {host}:{port}: another program, perhaps a proxy, has the port, or this machine"
            " has no such address; end that one or give another port"
        ) from error
    if isinstance(storage, Tables):
        answers = _answers(storage)

        def answer(request: bytes, context: Any) -> bytes:
            name, *given = json.loads(request)
            try:
                return json.dumps(answers[name](*given)).encode()
            except tuple(STATUS) as error:
                status = next(s for kind, s in STATUS.items() if isinstance(error, kind))
                context.abort(grpc.StatusCode[status], str(error))
                raise

        handlers = {CALL: grpc.unary_unary_rpc_method_handler(answer)}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    return server
