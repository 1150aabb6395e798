"""docs/deploy_chips.md does what it says: its Python, block after block, and its command."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys

import pytest

from spikefront.config import ROOT


def test_the_page_runs(tmp_path, monkeypatch):
    pytest.importorskip("nir", reason="needs the extra 'nir': pip install -c constraints.txt -e '.[nir]'")
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "deploy_chips.md").read_text(encoding="utf-8")
    blocks, known = re.findall(r"```python\n(.*?)```", text, re.S), {}
    assert len(blocks) == 4
    for block in blocks:
        exec(block, known)
    assert {p.name for p in tmp_path.iterdir()} == {"as_nir", "as_neurobench", "on_chip"}
    assert f"takes {known['told']['cores']}," in text
    (command,) = re.findall(r"```\npython (.*?)\n```", text)
    if importlib.util.find_spec("sanafe") is None:
        pytest.skip("all but its last command; that needs the extra 'sanafe'")
    subprocess.run([sys.executable, *shlex.split(command)], check=True, capture_output=True, timeout=120)
    assert json.loads((tmp_path / "on_chip" / "result.json").read_text(encoding="utf-8"))["joules"] > 0
