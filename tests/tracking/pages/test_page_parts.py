"""What the page has beside chart and table, clicked and typed in a browser: runs, pairs, states, keys, paper."""

from __future__ import annotations

import base64
import json
import re

import made
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from test_report import css, silent, wait

from spikefront.tracking.pages.page import payload, write_report

MUTE = {"firing_rate": 0.0, "energy_layers": []}
CHEAP = {"metrics": {"accuracy": 0.6, "energy": 5e-9}, "anytime": [], **MUTE}
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}


def study():
    return made.study("architecture", 40, changed={5: MUTE, 9: CHEAP}, importance=False)


def runs():
    return [made.study(f"seed-{i}", 20, seed=i, importance=False) for i in range(3)]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    return {"one": write_report([study()], folder / "one.html"), "runs": write_report(runs(), folder / "runs.html")}


def opens(browser, path):
    browser.get(path.as_uri())
    wait(lambda: browser.execute_script("return document.documentElement.dataset.ready"), 60)
    return browser


@pytest.fixture
def one(browser, written):
    return opens(browser, written["one"])


def text(browser, selector):
    return browser.find_element("css selector", selector).text


def names(browser, kind=""):
    return browser.execute_script(f"return document.getElementById('front').data{kind}.map(t => t.name)")


def test_runs_of_one_search_are_a_band_and_both_hypervolumes_a_table(browser, written):
    opened = opens(browser, written["runs"])
    assert {"half of seed-0, seed-1, seed-2", "all of seed-0, seed-1, seed-2"} <= set(names(opened))
    drawn = payload(runs())
    (found,) = drawn["attained"]
    band = opened.execute_script(
        "const t = document.getElementById('front').data.find(t => (t.name || '').startsWith('one of'));"
        "return t.x.map((x, i) => [x, t.y[i]])"
    )
    assert [tuple(p) for p in band[1:-1]] == [tuple(p) for p in found["best"]]
    rows = [row.text for row in css(opened, "#volumes tr")]
    assert rows[0] == "energy as it is energy in decades" and len(rows) == 5
    assert rows[
        1
    ] == f"seed-0 {drawn['studies'][0]['volumes'][-1]:.4g} {drawn['studies'][0]['decades'][-1]:.4g}".replace(
        "e-07", "e-7"
    )
    assert re.match(r"mean of 3 runs \S+ ± \S+ \S+ ± \S+$", rows[4])
    opened.find_element("id", "show-attained").click()
    assert not any(str(n).startswith("half of") for n in names(opened))
    silent(opened)


def test_silent_and_infeasible_trials_are_told_apart_and_filtered(one):
    symbols = one.execute_script(
        "const t = document.getElementById('front').data.filter(t => t.customdata);"
        "return t.flatMap(t => Array.isArray(t.marker.symbol) ? t.marker.symbol : [])"
    )
    assert symbols.count("x") == 2 and "silent: no neuron fires" in text(one, "#key")  # one of the front, one below
    assert "1 × parameters <= 30 does not hold" in text(one, "#why")
    one.find_element("css selector", "#states .silent").click()
    wait(lambda: one.find_element("id", "filter").get_attribute("value") == "silent")
    assert {int(c.text) for c in css(one, "#trials td.stay-0")} == {5, 9}
    css(one, "#trials tbody tr")[0].click()
    assert "no neuron fires" in text(one, "#selected .warn")
    one.find_element("css selector", "#states .infeasible").click()
    (row,) = css(one, "#trials tbody tr")
    assert "⊘" in one.execute_script(
        "return getComputedStyle(arguments[0], '::before').content", row.find_element("css selector", "td.state")
    )
    row.click()
    assert "infeasible: not trained" in text(one, "#selected h2")
    one.find_element("css selector", "#states .infeasible").click()  # again: all
    assert one.find_element("id", "filter").get_attribute("value") == ""
    silent(one)


def test_two_points_side_by_side(one):
    from selenium.webdriver.support.ui import Select

    front = [p for p in study()["front"] if p["final"]]
    a, b = front[-1], front[0]
    for side, point in (("a", a), ("b", b)):
        options = Select(one.find_element("id", f"pair-{side}"))
        options.select_by_visible_text(
            next(o.text for o in options.options if o.text.startswith(f"trial {point['number']}:"))
        )
    head = text(one, "#pair-head")
    assert f"A: trial {a['number']}" in head and f"B: trial {b['number']}" in head

    def rows():
        return {
            r.find_element("css selector", "th").text: r
            for r in css(one, "#pair tr")
            if r.is_displayed() and r.get_attribute("class") != "part"
        }

    shown = rows()
    for key in a["params"]:
        assert (shown[key].get_attribute("class") == "differs") == (a["params"][key] != b["params"][key])
        assert ("=" in shown[key].text.split()) == (a["params"][key] == b["params"][key])
    assert "points" in shown["accuracy (validation)"].text and "told apart (95 %)" in shown["95 % interval"].text
    ratio = b["values"]["energy"] / a["values"]["energy"]
    assert shown["energy"].text.endswith(f"× {ratio:.3g}") and shown["embedding"].text.count("J") == 2
    one.find_element("id", "pair-differing").click()
    assert all(r.get_attribute("class") == "differs" for r in rows().values()) and len(rows()) < len(shown)
    dominated = next(t["number"] for t in study()["trials"] if t["state"] == "complete" and not t["on_front"])
    one.find_element("id", "filter").send_keys(f"trial={dominated} t=4")
    wait(lambda: text(one, "#count").startswith("1 of"))
    css(one, "#trials tbody tr")[0].click()
    one.find_element("css selector", "#selected .as-b").click()
    assert f"B: trial {dominated}" in text(one, "#pair-head")
    assert f"not for trial {dominated}" in text(one, "#pair-note")
    silent(one)


def test_the_keyboard_goes_along_the_front_and_reaches_every_control(one):
    chart = one.find_element("id", "front")
    one.execute_script("arguments[0].focus()", chart)
    members = sorted((p["values"]["energy"], p["number"], p["t"]) for p in study()["front"])
    chart.send_keys(Keys.HOME)
    wait(lambda: chart.get_attribute("aria-valuenow") == "1")
    assert f"trial {members[0][1]}" in text(one, "#said") and "silent" in text(one, "#said")
    one.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    wait(lambda: f"2 of {len(members)}" in chart.get_attribute("aria-valuetext"))
    assert f"Trial {members[1][1]}" in text(one, "#selected h2")
    one.switch_to.active_element.send_keys(Keys.ARROW_UP)  # the next of all, dominated or not
    wait(lambda: "trial" in text(one, "#said") and chart.get_attribute("aria-valuenow") in ("0", "3"))
    assert one.find_element("id", "front-help").is_displayed()
    one.execute_script("document.querySelector('.skip').focus()")
    reached = set()
    for _ in range(60):
        ActionChains(one).send_keys(Keys.TAB).perform()
        name, seen = one.execute_script(
            "const e = document.activeElement, s = getComputedStyle(e);"
            "return [e.id || e.className || e.tagName, e === document.body || s.outlineStyle !== 'none']"
        )
        assert seen, f"no focus is visible on {name}"
        reached.add(name)
        if name == "more":
            break
    controls = (
        "theme colour show-dominated show-anytime png svg front selected pair-a pair-b pair-differing scale filter"
    )
    assert set(controls.split()) | {"csv", "latex", "more"} <= reached
    silent(one)


def test_what_needs_a_name_has_one(one):
    nameless = one.execute_script(
        "return [...document.querySelectorAll('button, select, input, [role=img], [role=slider], [role=region]')]"
        ".filter(e => !e.hidden && !(e.getAttribute('aria-label') || e.textContent.trim() || (e.labels || []).length))"
        ".map(e => e.outerHTML.slice(0, 80))"
    )
    assert nameless == []
    assert all(h.get_attribute("scope") == "col" for h in css(one, "#trials th"))
    button = next(b for b in css(one, "#trials th button") if b.text.startswith("accuracy"))
    one.execute_script("arguments[0].focus()", button)
    button.send_keys(Keys.ENTER)
    assert one.switch_to.active_element.text.startswith("accuracy")  # sorted, and still there
    assert one.execute_script("return document.querySelectorAll('#trials tbody tr[tabindex=\"0\"]').length") == 1


def test_on_a_phone_nothing_is_cut_and_the_first_columns_stay(browser, written):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    try:
        opened = opens(browser, written["runs"])
        cut = opened.execute_script(
            "const card = document.getElementById('front').getBoundingClientRect();"
            "const marks = ['.xtick text', '.ytick text', '.g-xtitle', '.g-ytitle'].map(s => '#front ' + s).join();"
            "return [...document.querySelectorAll(marks)]"
            ".map(e => e.getBoundingClientRect()).filter(b => b.left < card.left - 1 || b.right > card.right + 1"
            " || b.bottom > card.bottom + 1).length"
        )
        assert cut == 0 and opened.execute_script("return document.documentElement.scrollWidth") <= 390
        buttons, legend = (
            opened.execute_script(
                f"const b = document.querySelector('{s}').getBoundingClientRect(); return [b.top, b.bottom]"
            )
            for s in ("#front-section .pictures", "#front .legend")
        )
        assert buttons[1] <= legend[0]
        table = opened.find_element("css selector", "#trials-section .scroll")
        before = [c.rect["x"] for c in css(opened, "#trials tbody tr:first-child td")]
        opened.execute_script("arguments[0].scrollLeft = 150", table)
        after = [c.rect["x"] for c in css(opened, "#trials tbody tr:first-child td")]
        assert after[:3] == pytest.approx(before[:3], abs=1) and after[4] == pytest.approx(before[4] - 150, abs=1)
        pair = opened.find_element("css selector", "#pair-section .scroll")
        assert opened.execute_script("return arguments[0].scrollWidth <= arguments[0].clientWidth + 1", pair)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_paper_has_the_front_its_table_and_no_controls(one):
    one.find_element("id", "theme").click()
    was = one.execute_script("return document.documentElement.dataset.theme")
    one.execute_script("dispatchEvent(new Event('beforeprint'))")
    one.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        members = len(study()["front"])
        assert len(css(one, "#trials tbody tr")) == members
        hidden = ("#theme", "#png", "#filter", "#selected", "#pair-section", "#states", "#more")
        assert not any(one.find_element("css selector", s).is_displayed() for s in hidden)
        assert one.execute_script("return document.documentElement.dataset.theme") == "light"
        assert one.find_element("css selector", "#front svg").rect["width"] == 680
        sheet = base64.b64decode(one.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})["data"])
        assert sheet.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", sheet)) <= 2
    finally:
        one.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        one.execute_script("dispatchEvent(new Event('afterprint'))")
    assert one.execute_script("return document.documentElement.dataset.theme") == was
    assert len(css(one, "#trials tbody tr")) == min(100, len(study()["points"]) + 4)
    silent(one)


@pytest.mark.slow
def test_five_thousand_trials_open_and_a_click_chooses(browser, tmp_path):
    path = write_report([made.study("big", 5000, importance=False)], tmp_path / "r.html")
    opened = opens(browser, path)
    assert opened.find_element("id", "count").text == "20000 points of 5004 trials"
    kinds = json.loads(
        opened.execute_script("return JSON.stringify(document.getElementById('front').data.map(t => t.type))")
    )
    assert "scattergl" in kinds or not opened.execute_script("return webgl()")
    opened.execute_script("arguments[0].focus()", opened.find_element("id", "front"))
    opened.switch_to.active_element.send_keys(Keys.HOME)
    wait(lambda: opened.find_element("id", "front").get_attribute("aria-valuenow") == "1", 60)
    silent(opened)
