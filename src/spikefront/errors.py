"""The one exception a user is meant to see."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend: the message is one line saying what is wrong, where, and what to do about it.

    Entry scripts print it without a traceback and exit with code 1 (a traceback under ``debug=true``).
    """


def near_matches(name: str, options: Iterable[str]) -> str:
    """A hint such as ``did you mean 'lif'? options: alif, if, lif`` for a name that is not among ``options``."""
    names = sorted(options)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
    return f"{hint}options: {', '.join(names)}"
