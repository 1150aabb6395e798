"""What is printed: text as it is, whatever a user's names, paths and reasons are made of, but no password."""

from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

# As SQLAlchemy reads a URL: what follows user and colon, to the @; one more @ before the path belongs to it too. And
# what drivers take in the query: ?password=, ?passwd=, ?sslpassword= …
PASSWORD = re.compile(r"(://[^:/@]*:)([^@]*(?:@[^/?@\s]*(?=@))*)@")
SECRET = re.compile(r"([?&][^=&\s]*(?:passw|pwd|secret|token)[^=&\s]*=)([^&]*)", re.I)
HIDDEN = "***"
WIDE = 400  # characters


def console(**options: Any) -> Console:
    """A rich console that takes no text for markup, neither ``[/data/train]`` nor ``:key:``, in tables neither.

    What is no terminal has lines as long as a table needs: a figure that is cut is none.
    """
    made = Console(markup=False, emoji=False, highlight=False, **options)
    if not made.is_terminal and "width" not in options and "COLUMNS" not in os.environ:
        made.width = WIDE
    return made


def spell_what_cannot_be_printed() -> None:
    """Have standard output write letters that its encoding lacks, and bytes that are none, as ``\\u5b9e``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def shown(text: str) -> str:
    """A storage's URL, or a text with one or several in it, to be printed or kept: without their passwords."""
    return SECRET.sub(rf"\1{HIDDEN}", PASSWORD.sub(rf"\1{HIDDEN}@", text))


def last_words(log: Path) -> str:
    """The line by which a process said why it ended, from its log."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    written = [line for line in lines if line.strip()] or ["no output"]
    last = next((line for line in reversed(written) if line.startswith("spikefront: ")), written[-1])
    return f"{last.removeprefix('spikefront: ')} (log: {log})"
