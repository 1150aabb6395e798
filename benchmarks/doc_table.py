"""How a benchmark whose table stands in a page of docs/ is run: ``[pattern] [--write]``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
MARKS = "<!-- table -->", "<!-- end of table -->"


def run(description: str | None, page: str, table: Callable[[str], str]) -> None:
    """Print the rows of ``table`` that a pattern chooses; with ``--write`` put them between the marks of the page."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pattern", nargs="?", default="*")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    made = table(arguments.pattern)
    print(made)
    if arguments.write:
        path = DOCS / page
        text = path.read_text(encoding="utf-8")
        between = re.compile(f"{re.escape(MARKS[0])}.*{re.escape(MARKS[1])}", re.DOTALL)
        path.write_text(between.sub(lambda _: f"{MARKS[0]}\n{made}\n{MARKS[1]}", text), encoding="utf-8")
