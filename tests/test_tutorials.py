"""Each tutorial from its top to its end: the files it writes, its commands, and the figures it says they print."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil

import pytest
from pages import figures, follow, page
from PIL import Image

from spikefront.config import ROOT
from spikefront.files import cache_folder
from spikefront.tracking.pages.picture import BROWSERS

TUTORIALS = ROOT / "docs" / "tutorials"
FIRST = {  # what takes seconds; the rest is slow, that of a cluster in tests/slurm
    "events": ("make_recordings.py", "src/data.py"),
    "cluster": ("dry_run=true",),
}
EXACT = {"src/data.py"}  # prints the same everywhere
MEASURED = re.compile(r"^    (?:test accuracy|stopping early|\S+ s: )")  # prints figures that rounding moves


def quoted(text: str, block: str) -> list[str]:
    """The lines that a page shows below a block, up to its next block or section."""
    below = re.split(r"\n```|\n## ", text.partition(block)[2].partition("```")[2], maxsplit=1)[0]
    return [line for line in below.splitlines() if line.startswith("    ")]


@pytest.mark.parametrize("name", [pytest.param("events", marks=pytest.mark.slow), "cluster"])
def test_a_tutorial_begins_as_it_says(name, tmp_path):
    text = page(f"tutorials/{name}.md")
    asked = lambda block: any(word in block for word in FIRST[name])
    ran = list(follow(text, tmp_path, asked, SPIKEFRONT_CACHE=str(tmp_path / "cache")))
    assert len(ran) == len(FIRST[name])
    for block, out in ran:
        if any(command in block for command in EXACT):
            assert quoted(text, block)
            assert [line for line in quoted(text, block) if line[4:] not in out.splitlines()] == [], out
    if name == "cluster":
        assert "#SBATCH --array=0-1" in ran[0][1]
    else:
        assert list(tmp_path.glob("*/spikefront.png"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["images", "events", "chip"])
def test_a_tutorial_leads_to_its_picture(name, tmp_path):
    if not any(map(shutil.which, BROWSERS)):
        pytest.skip("needs Chromium")
    needs = {"format=sanafe": "nir", "on_chip/run.py": "sanafe"}
    absent = {word for word, package in needs.items() if importlib.util.find_spec(package) is None}
    text = page(f"tutorials/{name}.md")
    said = dict(
        follow(text, tmp_path, lambda block: not any(w in block for w in absent), SPIKEFRONT_CACHE=str(cache_folder()))
    )
    for block, out in said.items():
        if any(command in block for command in EXACT):
            assert [line for line in quoted(text, block) if line[4:] not in out.splitlines()] == [], out
        for line in filter(MEASURED.match, quoted(text, block)):
            (found,) = [o for o in out.splitlines() if o.split("  ")[0].split(" ")[:2] == line.split()[:2]]
            assert figures(line)[:8] == pytest.approx(figures(found)[:8], rel=0.1, abs=0.15), found
    sweeps = [out for block, out in said.items() if "src/sweep.py" in block]
    assert len(sweeps) == 1 and "Pareto front of" in sweeps[0]
    shown = re.findall(r"image=(\S+\.png)", text)
    with Image.open(tmp_path / shown[-1]) as drawn, Image.open(TUTORIALS / f"{name}.png") as committed:
        assert drawn.width / drawn.height == pytest.approx(committed.width / committed.height, rel=0.01)
    if name == "chip" and not absent:
        result = json.loads((tmp_path / "outputs/on_chip/result.json").read_text())
        told = re.search(r"^    ([\d.]+) µJ, ([\d.]+) ms, class \d: result.json$", text, re.M)
        assert [result["joules"] * 1e6, result["seconds"] * 1e3] == pytest.approx([*map(float, told.groups())], rel=0.1)
        assert len(result["logits"]) == 10


def test_every_tutorial_ends_with_a_picture_and_is_run():
    names = sorted(path.stem for path in TUTORIALS.glob("*.md"))
    assert names == ["chip", "cluster", "events", "images"]
    for name in names:
        text = page(f"tutorials/{name}.md")
        assert f"]({name}.png)" in text.rpartition("## ")[0].rpartition("## ")[2]
        assert (TUTORIALS / f"{name}.png").stat().st_size < 100_000
