"""Workers that died on a trial one after the other, none getting it an epoch further: what is kept of them."""

from __future__ import annotations

from collections.abc import Callable

from spikefront.sweeping.study.attributes import Deaths, Holder


def one_more(before: Deaths, lease: Holder, epochs: int, starved: bool) -> Deaths:
    """With the worker that held ``lease`` and died; only those count that died after the same epoch."""
    jobs = [lease["job"]] if "job" in lease else []
    if before.get("epochs") != epochs:
        return {"times": 1, "epochs": epochs, "starved": starved, "jobs": jobs}
    return {
        "times": before["times"] + 1,
        "epochs": epochs,
        "starved": before["starved"] or starved,
        "jobs": [*before.get("jobs", []), *jobs],
    }


def forgiven(deaths: Deaths, lost: Callable[[str], bool]) -> Deaths:
    """Without the workers whose machines were taken away or broke: that says nothing of the trial.

    Args:
        lost: whether a job's machine was.
    """
    jobs = deaths.get("jobs", [])
    gone = {job for job in set(jobs) if lost(job)}
    left = [job for job in jobs if job not in gone]
    return {**deaths, "times": deaths["times"] - (len(jobs) - len(left)), "jobs": left}


def epitaph(deaths: Deaths) -> str:
    """Why a trial that has killed its workers is not tried any more."""
    how = "the kernel's out-of-memory killer ended" if deaths["starved"] else "something killed"
    after = f"after epoch {deaths['epochs']}" if deaths["epochs"] else "in its first epoch"
    return (
        f"{how} {deaths['times']} workers on it in turn, {after}"
        + ("" if deaths["starved"] else ": most often that is a want of memory")
        + "; search.constraints.memory keeps such points out, search.max_lives gives them more tries"
    )
