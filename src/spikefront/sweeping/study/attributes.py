"""Every name under which a study and its trials keep something in Optuna's storage, once, with its type.
They stay as they are: earlier versions' studies can be read and continued; what one hasn't got reads as its default.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Generic, NotRequired, TypedDict, TypeVar, cast

from optuna import Trial
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from spikefront.analysis.schema import EpochPoint, Layer, Params, Spent, Step, Taken, Tested
from spikefront.renamed import current
from spikefront.sweeping.search.optuna_internals import id_of
from spikefront.sweeping.study.storage_internals import held, set_all

T = TypeVar("T")


@dataclass(frozen=True)
class Attribute(Generic[T]):
    """One user attribute of a study or of a trial; ``default`` makes the value of one that hasn't got it."""

    name: str
    default: Callable[[], T]

    def get(self, holder: Study | Trial | FrozenTrial) -> T:
        attributes = holder.user_attrs
        return cast(T, attributes[self.name]) if self.name in attributes else self.default()

    def set(self, holder: Study | Trial, value: T) -> None:
        holder.set_user_attr(self.name, value)

    def store(self, storage: BaseStorage, trial_id: int, value: T) -> None:
        """The same for a trial of which only the storage's id is at hand."""
        storage.set_trial_user_attr(trial_id, self.name, value)

    def on(self, trial: FrozenTrial) -> bool:
        """Whether a trial has it."""
        return self.name in trial.user_attrs


def _none() -> None: ...


class Made(TypedDict):
    """What a study was made with; see ``Request`` for what is not said here."""

    space: dict[str, Any]
    objectives: dict[str, str]
    base: dict[str, Any]
    overrides: list[str]
    command: list[str]
    exhaustive: bool
    seeds: int
    engine: str
    storage: str
    path: str


class Elastic(TypedDict):
    """What an elastic study trains: overrides of its networks, ``scalars`` that change no shape and their ``ranges``;
    ``first`` is evaluated then; ``idle`` parameters change nothing, with what they stay at."""

    params: Params
    largest: list[str]
    smallest: list[str]
    pool: list[list[str]]
    scalars: dict[str, float]
    ranges: NotRequired[dict[str, list[float]]]  # not of studies made before
    idle: dict[str, Any]
    first: Params | None
    first_origin: str


RECORD: Attribute[Made | None] = Attribute("spikefront", _none)
SAMPLER: Attribute[str | None] = Attribute("spikefront:sampler", _none)  # of the last command: tpe, random …
TOKEN: Attribute[str] = Attribute("spikefront:token", str)  # tells this study from an earlier one of its name
BUDGET: Attribute[int | None] = Attribute("spikefront:budget", _none)  # finished trials that the last command asked for
ARGUMENTS: Attribute[list[str]] = Attribute("spikefront:arguments", list)  # of the last command, as it was typed
LINE: Attribute[str | None] = Attribute("spikefront:line", _none)  # the command that goes on with it, if not a sweep's
CHOICES: Attribute[dict[str, str]] = Attribute("spikefront:choices", dict)  # options of configuration groups
BEGAN: Attribute[float | None] = Attribute("spikefront:began", _none)  # the last command, by its machine's clock
FORGIVEN: Attribute[list[int]] = Attribute("spikefront:forgiven", list)  # failed trials as the last command began
SOURCES: Attribute[list[str]] = Attribute("spikefront:warm", list)  # what a warm start has taken
BENCHED: Attribute[dict[str, str]] = Attribute("spikefront:benched", dict)  # hosts that get no more trials, and why
TAKEN: Attribute[list[Taken]] = Attribute("spikefront:taken", list)
ELASTIC: Attribute[Elastic | None] = Attribute("spikefront:elastic", _none)  # of a study whose trials are slices
_SETTINGS: Attribute[dict[str, Any] | None] = Attribute("spikefront:search", _none)


def names(study: Study) -> set[str]:
    """What is kept with a study, by whomever."""
    return set(study.user_attrs)


def said(study: Study) -> Any:
    """A study's attributes, read once, to be had of this in the study's place."""
    return SimpleNamespace(user_attrs=study.user_attrs)


def settings(study: Study) -> dict[str, Any] | None:
    """The last command's search settings, which every worker follows."""
    found = _SETTINGS.get(study)
    return None if found is None else cast(dict[str, Any], current(found))


def set_settings(study: Study, search: dict[str, Any]) -> None:
    _SETTINGS.set(study, search)


# --- a trial's


class Outcome(TypedDict, total=False):
    """What a trial's training came to, an attribute a key; a ``TrialRecord`` says what each is."""

    metrics: dict[str, float]
    undefined: list[str]  # metrics that came to no number
    anytime: list[Step]
    samples: int
    test: Tested
    firing_rate: float
    parameters: int
    seconds: float
    epochs: int
    convention: str
    threads: int | None
    twin_joules: float
    energy_groups: dict[str, float]
    energy_layers: list[Layer]
    described: dict[str, Any]  # of its data, what the set's name doesn't say
    seed: int
    front_then: bool | None
    seeds: list[dict[str, float]]
    spread: dict[str, float]


class Deaths(TypedDict, total=False):
    """Workers that died on a trial in a row, none getting it further than its epoch, whether for want of memory, and
    the cluster's jobs that they were."""

    times: int
    epochs: int
    starved: bool
    jobs: list[str]


class Holder(TypedDict, total=False):
    """Who runs a trial: a worker's id, its process, and a counter that it renews; ``returned_by`` in place of these.

    ``begun`` once it trains; ``oom_kills`` what the kernel had counted by then; ``deaths`` of those who held it before.
    """

    id: str
    host: str
    pid: int
    since_boot: float | None
    job: str
    beat: int
    begun: bool
    oom_kills: int
    deaths: Deaths
    returned_by: str


REASON: Attribute[str | None] = Attribute("reason", _none)  # why it failed or was stopped
INFEASIBLE: Attribute[str | None] = Attribute("infeasible", _none)  # the constraint it broke: it wasn't trained
REPEATS = "the same as trial "  # and a number: in the place of a constraint
ADMITTED: Attribute[bool] = Attribute("admitted", bool)  # no other trial has its point
DIVERGED: Attribute[str | None] = Attribute("diverged", _none)  # the training came to no numbers
SILENT: Attribute[str | None] = Attribute("silent", _none)  # it fired nothing and guessed, and was stopped for it
ORIGIN: Attribute[str | None] = Attribute("origin", _none)  # who proposed it, if not the sampler
KNOWN: Attribute[str | None] = Attribute("known", _none)  # from where a warm start brought it: it wasn't trained here
STAGE: Attribute[str | None] = Attribute("stage", _none)  # of an elastic study, if not the evaluation of a slice
TRAINING, TUNING = "elastic training", "fine-tuning"  # of all networks at once, of one of them
INHERITED: Attribute[int | None] = Attribute("inherited", _none)  # a fine-tuned one's number before
SPENT: Attribute[Spent] = Attribute("spent", Spent)
OUTLOOK: Attribute[list[tuple[float, float]]] = Attribute("outlook", list)  # a stopped one's final points, as forecast
EPOCHS = "epoch:"  # and the number: that epoch's point
UNSEARCHED = tuple(Outcome.__annotations__.keys() - {"metrics", "anytime", "seconds"})  # of what came of a trial
_RETRY = "retry of trial "  # and the number: an origin
_ASKED = "fixed_params"  # of Optuna's system attributes: what enqueue_trial keeps
LEASE = "spikefront:lease"  # of Optuna's system attributes
_CONSTRAINTS = "constraints"  # likewise, of Optuna's own, and a colon with the constraint's name


def outcome(trial: FrozenTrial) -> Outcome:
    """What its training came to; nothing if that hasn't ended."""
    return cast(Outcome, {k: v for k, v in trial.user_attrs.items() if k in Outcome.__annotations__})


def set_outcome(trial: Trial, came: Outcome) -> None:
    set_all(trial.storage, id_of(trial), came)


def curve(trial: FrozenTrial) -> dict[int, EpochPoint]:
    """A trial's points by epoch, from 1."""
    points = {int(k.removeprefix(EPOCHS)): v for k, v in trial.user_attrs.items() if k.startswith(EPOCHS)}
    return dict(sorted(points.items()))


def set_point(trial: Trial, epoch: int, point: EpochPoint) -> None:
    trial.set_user_attr(f"{EPOCHS}{epoch}", point)


def lease(trial: FrozenTrial) -> Holder | None:
    """Who holds a trial or held it last; None for one that nobody has begun."""
    return cast(Holder | None, trial.system_attrs.get(LEASE))


def lease_now(storage: BaseStorage, trial_id: int) -> tuple[TrialState, Holder | None]:
    """A trial's state and its lease as they are in the storage now."""
    return cast(tuple[TrialState, Holder | None], held(storage, trial_id, LEASE))


def set_lease(storage: BaseStorage, trial_id: int, held: Holder) -> None:
    storage.set_trial_system_attr(trial_id, LEASE, cast(Any, held))


def held_by(lease: Holder) -> dict[str, Any]:
    """The system attributes of a trial that is made under this lease."""
    return {LEASE: lease}


def constrained(trial: FrozenTrial, excesses: dict[str, float]) -> FrozenTrial:
    """A copy of a trial that is so far beyond each of these constraints, whatever it was told before."""
    copied = copy.copy(trial)
    copied.system_attrs = {k: v for k, v in trial.system_attrs.items() if k.partition(":")[0] != _CONSTRAINTS}
    for text, excess in excesses.items():
        copied.set_constraint(text, excess)
    return copied


def enqueue(study: Study, params: Params, origin: str, **more: Any) -> None:
    """Have these parameters tried next; ``more`` attributes by their names."""
    study.enqueue_trial(params, user_attrs={ORIGIN.name: origin, **more})


def queued(trial: FrozenTrial) -> Params:
    """The parameters that ``enqueue`` gave a trial; none of one that a sampler proposes."""
    return cast(Params, trial.system_attrs.get(_ASKED, {}))


def asked_for(trial: FrozenTrial) -> Params:
    """A trial's parameters, of one that waits in the queue those it was put there with."""
    return {**queued(trial), **trial.params}


def known_trial(
    params: Params,
    distributions: dict[str, BaseDistribution],
    values: list[float],
    origin: str,
    of: FrozenTrial | None = None,
) -> FrozenTrial:
    """A finished trial that a warm start brings; it keeps what ``of``, the other study's, has, but what that spent."""
    kept = {} if of is None else {k: v for k, v in of.user_attrs.items() if k not in (SPENT.name, ORIGIN.name)}
    return create_trial(
        state=TrialState.COMPLETE,
        values=values,
        params=params,
        distributions=distributions,
        user_attrs={**kept, KNOWN.name: origin, ORIGIN.name: origin},
    )


def repeats(trial: FrozenTrial) -> bool:
    """Whether a trial wasn't trained because another has its point."""
    return (INFEASIBLE.get(trial) or "").startswith(REPEATS)


def retry_of(trial: FrozenTrial) -> str:
    """The origin of a trial that tries a failed one again."""
    return f"{_RETRY}{trial.number}"


def is_retry(trial: Trial | FrozenTrial) -> bool:
    """Whether a trial tries a failed one again."""
    return (ORIGIN.get(trial) or "").startswith(_RETRY)
