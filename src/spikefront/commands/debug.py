"""``debug=true``, the word on any command line that asks for tracebacks; Hydra never sees it.

``debug=fdr`` and its like choose an option of the group ``conf/debug``, which has none called ``true``: both may stand
on one command line. Workers that a sweep starts do as it does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from spikefront.config import traceback_flag

VARIABLE = "SPIKEFRONT_TRACEBACKS"


def tracebacks() -> bool:
    """Whether errors are to be shown with their tracebacks."""
    return os.environ.get(VARIABLE) == "1"


@contextmanager
def taken_from(arguments: list[str]) -> Iterator[None]:
    """Context in which a command line lacks the word, and ``tracebacks`` says what it said."""
    before, given = os.environ.get(VARIABLE), list(arguments)
    rest, wanted = traceback_flag(given)
    arguments[:] = rest
    if wanted is not None:
        os.environ[VARIABLE] = str(int(wanted))
    try:
        yield
    finally:
        arguments[:] = given
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before
