"""Machines on which trials die of what they don't die of elsewhere."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from spikefront.errors import UserError
from spikefront.sweeping.study import attributes
from spikefront.sweeping.study.accounts import Account
from spikefront.sweeping.study.attributes import BENCHED, REASON, Holder

IN_A_ROW = 3  # failed trials after which a host is looked at


def host_of(lease: Holder | None) -> str | None:
    """The machine of who holds a trial or held it last, by its name."""
    return ((lease or {}).get("host") or "").partition("|")[0] or None


def engine_of(lease: Holder | None) -> str | None:
    """What had started that worker: ``local``, ``SLURM`` or ``Ray``."""
    if host_of(lease) is None:
        return None
    job = (lease or {}).get("job")
    return "local" if job is None else "Ray" if job.startswith("ray:") else "SLURM"


def check(study: Study, account: Account, here: str | None = None) -> None:
    """Raise UserError, and note it in the study, where this machine's last three trials failed of what none fails of on
    machines that finish some: it shall get no more.

    What failed before the last command began doesn't count.
    """
    here = platform.node() if here is None else here
    if len(account.failures) < IN_A_ROW:  # so that a turn costs nothing where all is well
        return
    ended = [*account.finished, *account.failures]
    own = [t for t in ended if host_of(attributes.lease(t)) == here]
    others = [t for t in ended if host_of(attributes.lease(t)) not in (here, None)]
    last = sorted((t for t in own if t.datetime_complete), key=lambda t: t.datetime_complete)[-IN_A_ROW:]  # type: ignore[arg-type, return-value]
    if len(last) < IN_A_ROW or not all(t.state == TrialState.FAIL for t in last):
        return
    if not any(t.state == TrialState.COMPLETE for t in others) or _kinds(last) & _kinds(others):
        return
    why = f"its last {IN_A_ROW} trials failed, as none did elsewhere: {REASON.get(last[-1])}"
    BENCHED.set(study, {**BENCHED.get(study), here: why})
    raise UserError(
        f"{here} gets no more trials: {why}; mend it, then the sweep's command takes it again and action=retry of"
        " `study` tries those trials again (search.bench_hosts=false benches none)"
    )


def _kinds(trials: Sequence[FrozenTrial]) -> set[str]:
    """Why trials failed, without the figures that differ each time."""
    return {re.sub(r"\d+", "#", REASON.get(t) or "") for t in trials if t.state == TrialState.FAIL}
