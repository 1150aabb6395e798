"""What is printed: text as it is, whatever a user's names, paths and reasons are made of."""

from __future__ import annotations

import io
import sys
from typing import Any

from rich.console import Console


def console(**options: Any) -> Console:
    """A rich console that takes no text for markup, neither ``[/data/train]`` nor ``:key:``, in tables neither."""
    return Console(markup=False, emoji=False, highlight=False, **options)


def spell_what_cannot_be_printed() -> None:
    """Have standard output write letters that its encoding lacks, and bytes that are none, as ``\\u5b9e``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
