"""What a user wrote is printed as it was written."""

from __future__ import annotations

import io
import os
import re

from rich.table import Table

from spikefront.config import HERE
from spikefront.console import console, spell_what_cannot_be_printed

TEXTS = ["can't read [/data/train]", "[mlp,head]", "[bold]x[/bold]", ":key: [link=http://x]", "a\[b]", "实验 🧠"]


def test_nothing_is_markup():
    out = console(file=io.StringIO(), width=200)
    for text in TEXTS:
        table = Table(title=text, caption=text)
        table.add_column(text)
        table.add_row(text)
        out.print(text)
        out.print(table)
        assert out.file.getvalue().count(text) == 5, out.file.getvalue()
        out.file = io.StringIO()


def test_there_is_no_other_console():
    made = [p for p in HERE.rglob("*.py") if re.search(r"\bConsole\(", p.read_text(encoding="utf-8"))]
    assert [p.name for p in made] == ["console.py"]


def test_what_the_terminal_lacks_is_spelt(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, "ascii"))
    spell_what_cannot_be_printed()
    print("实", os.fsdecode(b"\xe9"), flush=True)
    assert raw.getvalue() == b"\\u5b9e \\udce9\n"
