"""The Chinese README and tutorial say what the English ones do: the same sections, commands, figures and links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from spikefront.config import ROOT

PAIRS = {"README.md": "README.zh.md", "docs/tutorial.md": "docs/tutorial.zh.md"}
COMMENT = re.compile(r" *#.*$", re.M)
LINK = re.compile(r"\]\(([^)#\s]+)")


def parts(path: Path) -> dict[str, list[str]]:
    """What mustn't differ, kind by kind, in its order."""
    text = path.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(.*?)\n(.*?)^```", text, re.M | re.S)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    named = (path.name, path.name.replace(".zh.md", ".md"), path.name.replace(".md", ".zh.md"))
    return {
        "headings": re.findall(r"^(#+) (\d*)", prose, re.M),
        "commands": [f"{kind}\n{COMMENT.sub('', block)}" for kind, block in blocks],
        "output": re.findall(r"^    .*", prose, re.M),
        "tables": re.findall(r"^\| `[^|]*\|", prose.replace("`、`", "`, `"), re.M),
        "items": re.findall(r"^- ", prose, re.M),
        "code": sorted(re.findall(r"`[^`\n]+`", prose)),
        "links": sorted(t.replace(".zh.md", ".md") for t in LINK.findall(prose) if Path(t).name not in named),
    }


@pytest.mark.parametrize("english", PAIRS)
def test_a_translation_keeps_step(english):
    ours, theirs = (parts(ROOT / name) for name in (english, PAIRS[english]))
    assert ours["headings"] and ours["commands"]
    for kind, found in ours.items():
        assert theirs[kind] == found, kind


@pytest.mark.parametrize("english", PAIRS)
def test_each_leads_to_the_other(english):
    for here, there in ((english, PAIRS[english]), (PAIRS[english], english)):
        assert f"]({Path(there).name})" in (ROOT / here).read_text(encoding="utf-8")


@pytest.mark.parametrize("chinese", PAIRS.values())
def test_every_link_of_a_translation_leads_somewhere(chinese):
    path = ROOT / chinese
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        assert target.startswith("https:") or (path.parent / target).is_file(), target
