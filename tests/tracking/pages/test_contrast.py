"""Text and marks of the report against WCAG 2.2 AA, computed from what a browser rendered: 4.5:1 for text, 3:1 for
large text, marks and the edges of controls."""

from __future__ import annotations

import made
import pytest
from selenium.webdriver.support.ui import Select
from test_report import load

from spikefront.config import ROOT
from spikefront.tracking.pages.page import write_report

MEASURE = (ROOT / "tests" / "support" / "contrast.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    mute = {5: {"firing_rate": 0.0, "energy_layers": []}}
    studies = {
        "one": [made.study("large", 40, data="imagenet", changed=mute, importance=False)],
        "runs": [made.study(f"seed-{i}", 20, seed=i, importance=i == 0) for i in range(3)],
    }
    folder = tmp_path_factory.mktemp("contrast")
    return {name: write_report(found, folder / f"{name}.html") for name, found in studies.items()}


@pytest.mark.parametrize("name", ["one", "runs"])
def test_text_and_marks_stand_out_in_both_themes(browser, pages, name):
    load(browser, pages[name])
    browser.execute_script("document.querySelector('#trials tbody tr').click()")  # a chosen row, with its details
    for _ in range(2):
        for colour in ("", "model.dim", "optimizer.lr"):
            Select(browser.find_element("id", "colour")).select_by_value(colour)
            failed, checked = browser.execute_script(MEASURE)
            assert failed == {} and checked > 100
        browser.find_element("id", "theme").click()
