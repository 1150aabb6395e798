"""The report, clicked in a real browser."""

from __future__ import annotations

import csv
import math
import re
import time

import made
import pytest
from examples import few

from spikefront.errors import UserError
from spikefront.tracking.pages.page import page, payload, references, seed_groups, write_report


def wait(condition, seconds=60.0):  # of a busy machine
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("nothing happened")


def silent(browser):
    """No message of the page's in the browser's console since the last call; a machine without a GPU has its own."""
    said = [e for e in browser.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]
    assert [e for e in said if "GL Driver Message" not in e["message"] and "software WebGL" not in e["message"]] == []


def architecture():
    return made.study("architecture", 60, repeats=3, importance=False)


def randomly():
    return made.study("random", 40, seed=5, importance=False)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    studies = [
        architecture(),
        randomly(),
    ]
    return write_report(studies, tmp_path_factory.mktemp("report") / "r.html")


@pytest.fixture
def shown(browser, two):
    """The page as the last test left it."""
    if browser.current_url != two.as_uri():
        load(browser, two)
    return browser


@pytest.fixture
def opened(browser, two):
    load(browser, two)
    return browser


def load(browser, page):
    browser.get(page.as_uri())
    wait(lambda: browser.execute_script("return document.documentElement.dataset.ready"))


def texts(browser, *selectors):
    """What is read of every element of a selector, or within each of it by the next: one question to the browser."""
    script = """const read = (within, [first, ...rest]) => [...within.querySelectorAll(first)].map(
        e => rest.length ? read(e, rest) : e.innerText.trim()); return read(document, arguments[0])"""
    return browser.execute_script(script, selectors)


def css(browser, selector):
    return browser.find_elements("css selector", selector)


def test_page_opens_without_a_console_message_and_asks_the_network_for_nothing(opened):
    silent(opened)
    assert opened.execute_script("return performance.getEntriesByType('resource').map(r => r.name)") == []
    assert "architecture" in opened.find_element("id", "subtitle").text
    assert opened.find_element("id", "count").text == "412 points of 111 trials"
    assert len(css(opened, "#front .scatterlayer .trace")) >= 6


def test_hover_shows_the_configuration_and_a_click_the_command(shown):
    from selenium.webdriver.common.action_chains import ActionChains

    drawn = shown.execute_script(
        "return document.getElementById('front').data.findIndex(t => t.name === 'on the front' && t.customdata)"
    )

    def hover():  # again while the page is still settling
        point = css(shown, "#front .scatterlayer .trace")[drawn].find_elements("css selector", "path.point")[1]
        ActionChains(shown).move_to_element(point).perform()
        time.sleep(0.1)
        return "".join(e.text for e in css(shown, "#front .hovertext"))

    text = wait(hover)
    assert "trial" in text and "neuron" in text and "accuracy" in text
    number = int(re.search(r"trial (\d+)", text)[1])
    ActionChains(shown).click().perform()
    wait(lambda: re.search(rf"Trial {number}[ ,]", shown.find_element("id", "selected").text))
    expected = next(t for t in architecture()["trials"] if t["number"] == number)
    assert css(shown, "#selected .command")[0].text == expected["command"]
    assert css(shown, "#selected .take")[0].text.startswith(expected["take"] + " t=")
    css(shown, "#selected .copy-command")[0].click()
    wait(lambda: css(shown, "#selected .copy-command")[0].text == "copied")
    silent(shown)


def test_selected_model_shows_its_energy_layer_by_layer(opened):
    bars = css(opened, "#selected .layers .bar")
    assert len(bars) == 6 and not bars[0].is_displayed()
    opened.find_element("css selector", "#selected .layers summary").click()
    wait(lambda: bars[0].is_displayed())
    assert "block.0.attn.q_conv" in bars[0].text and "analog" in bars[0].text
    assert "block.2.mlp.fc1_conv" in bars[5].text and "0.200" in bars[5].text and "J" in bars[5].text
    css(opened, "#trials tbody tr")[1].click()  # another of the front: stays open, and is shown beside the row
    wait(
        lambda: (
            css(opened, "#selected .layers .bar")[0].is_displayed()
            and css(opened, ".detail .layers .bar")[0].is_displayed()
        )
    )
    silent(opened)


def test_layers_are_kept_for_the_front_alone():
    (study,) = payload([made.study("big", 200, importance=False)])["studies"]
    with_layers = [t for t in study["trials"] if t.get("energy_layers")]
    assert with_layers and all(t["on_front"] for t in with_layers)


@pytest.mark.slow
def test_two_thousand_trials_open_filter_and_sort(browser, tmp_path):
    path = write_report([made.study("big", 2000, importance=False)], tmp_path / "r.html")
    browser.get(path.as_uri())
    wait(lambda: browser.execute_script("return document.documentElement.dataset.ready"), 60)
    assert browser.find_element("id", "count").text == "8000 points of 2004 trials"
    assert len(css(browser, "#trials tbody tr")) == 100  # the rest on request
    browser.find_element("id", "filter").send_keys("neuron=plif front")
    wait(lambda: " of 2004 trials" in browser.find_element("id", "count").text, 30)
    silent(browser)


def test_a_crowd_below_the_front_is_thinned_until_it_is_zoomed_into(browser, tmp_path):
    load(browser, write_report([made.study("crowd", 350, importance=False)], tmp_path / "r.html"))
    browser.find_element("id", "filter").send_keys("state=complete")  # early points too
    wait(lambda: browser.find_element("id", "count").text.startswith("1400 of 1400"))

    def drawn():
        return browser.execute_script(
            "const t = document.getElementById('front').data.find(t => t.name === 'dominated trials');"
            "return t.x.map((x, i) => [x, t.y[i]])"
        )

    def inside(points):
        return sorted((x, y) for x, y in points if 4e-8 < x < 1.1e-7 and 0.85 < y < 0.95)

    below = [p for p in made.study("crowd", 350, importance=False)["points"] if not p["member"]]
    some = drawn()
    assert len(some) <= 1000 < len(below)
    assert f"dominated, {len(some)} of {len(below)} drawn" in browser.find_element("id", "key").text
    browser.execute_script(
        "Plotly.relayout('front', {'xaxis.range': [4e-8, 1.1e-7].map(Math.log10), 'yaxis.range': [.85, .95]})"
    )
    near = wait(lambda: (d := drawn()) != some and d)
    assert inside(near) == inside((p["values"]["energy"], p["values"]["accuracy"]) for p in below)
    assert len(inside(near)) > len(inside(some))
    assert "70 nJ" in {e.text for e in css(browser, "#front .xtick text")}  # the ticks of what is in sight
    browser.execute_script("Plotly.relayout('front', {'xaxis.autorange': true})")
    wait(lambda: len(drawn()) == len(some))
    silent(browser)


def test_hypervolume_in_decades_and_a_chart_as_tall_as_its_card(opened):
    def last():
        return opened.execute_script("const p = document.getElementById('hypervolume'); return p.data[0].y.at(-1)")

    linear = last()
    css(opened, "#scale option[value=decades]")[0].click()
    wait(lambda: last() != linear)
    assert "factors of ten" in opened.find_element("id", "hypervolume-note").text
    css(opened, "#scale option[value=volumes]")[0].click()
    wait(lambda: last() == linear)
    opened.set_window_size(1400, 1000)
    card, key = (opened.find_element("css selector", s).rect for s in ("#front-section > .panel", "#key"))
    assert card["y"] + card["height"] - key["y"] - key["height"] < 40  # nothing blank below the chart's key
    silent(opened)


def test_filter_narrows_table_and_plot(opened):
    def rows():
        return texts(opened, "#trials tbody tr", "td")

    def drawn():
        return opened.execute_script(
            "return document.getElementById('front').data.filter(t => t.customdata && t.name.includes('dominated'))"
            ".map(t => t.x.length).reduce((a, b) => a + b, 0)"
        )

    before, field = drawn(), opened.find_element("id", "filter")
    field.send_keys("neuron=plif accuracy > 90 energy<200 nJ random")
    wait(lambda: " of 412 points" in opened.find_element("id", "count").text)
    heads = [h.strip(" ▴▾") for h in texts(opened, "#trials th")]
    wanted = {
        (p["number"], p["t"])
        for p in randomly()["points"]
        if p["params"]["neuron"] == "plif" and p["values"]["accuracy"] > 0.9 and p["values"]["energy"] < 2e-7
    }
    shown = {(int(r[heads.index("trial")]), int(r[heads.index("t")])) for r in rows()}
    assert any(t < 4 for _, t in wanted) and shown == wanted
    assert drawn() < before
    for text, said in (
        ("nonsense>3", "no column is called nonsense"),
        ("accuracy>", "nothing stands behind accuracy>"),
        ("energy<fast", "fast is no number"),
    ):
        field.clear()
        field.send_keys(text)
        wait(lambda said=said: opened.find_element("id", "count").text == said)
        assert "wrong" in field.get_attribute("class")
    silent(opened)


def test_table_sorts_both_ways(opened):
    def column():
        heads = [h.strip(" ▴▾") for h in texts(opened, "#trials th")]
        return [float(c) for c in texts(opened, f"#trials tbody td:nth-child({heads.index('optimizer.lr') + 1})")]

    def press():
        next(b for b in css(opened, "#trials th button") if b.text.startswith("optimizer.lr")).click()

    press()
    assert column() == sorted(column(), reverse=True)
    press()
    assert column() == sorted(column())


def test_downloads(shown):
    for button, suffix in (("csv", ".csv"), ("latex", ".tex"), ("svg", ".svg"), ("png", ".png")):
        shown.find_element("id", button).click()
        path = wait(lambda s=suffix: next((p for p in shown.downloads.iterdir() if p.suffix == s), None))
        assert path.stat().st_size > 500
    files = {p.suffix: p for p in shown.downloads.iterdir()}
    table = list(csv.DictReader(files[".csv"].open()))
    assert len(table) == 420 and sum(r["state"] == "complete" for r in table) == 412
    found = {"architecture": architecture(), "random": randomly()}
    front = {(s, str(p["number"]), str(p["t"])) for s in found for p in found[s]["front"]}
    assert {(r["study"], r["trial"], r["t"]) for r in table if r["front"] == "1"} == front
    assert files[".tex"].read_text().count(r" \\") == len(front) + 1  # and the head
    first = next(r for r in table if r["study"] == "architecture" and r["trial"] == "7" and r["t"] == "4")
    trial = architecture()["trials"][7]
    assert float(first["accuracy"]) == trial["values"]["accuracy"] and first["command"] == trial["command"]
    assert r"\toprule" in files[".tex"].read_text() and r"\%" in files[".tex"].read_text()
    assert files[".png"].read_bytes()[:4] == b"\x89PNG" and "<svg" in files[".svg"].read_text()
    for path in files.values():
        path.unlink()
    silent(shown)


@pytest.mark.parametrize("width", few([360, 1400]))
def test_nothing_overflows_the_window_and_the_theme_turns(shown, width):
    shown.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    try:
        shown.refresh()
        wait(lambda: shown.execute_script("return document.documentElement.dataset.ready"))
        wait(lambda: shown.execute_script("return document.documentElement.scrollWidth <= innerWidth"))
        right = "return document.querySelector('#front svg').getBoundingClientRect().right <= innerWidth"
        wait(lambda: shown.execute_script(right))
        before = shown.execute_script("return getComputedStyle(document.body).backgroundColor")
        shown.find_element("id", "theme").click()
        assert shown.execute_script("return getComputedStyle(document.body).backgroundColor") != before
        silent(shown)
    finally:
        shown.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_what_is_confused_is_shown_beside_a_trial(browser, tmp_path):
    study = made.study("s", 6)
    for t in study["trials"]:
        if t["test"]:
            t["test"]["confused"] = [{"true": "cat", "said": "dog", "count": 3, "of": 9}]
            t["test"]["wrong"] = [{"sample": "cat/<b>.png", "true": "cat", "said": "dog", "probability": 0.987}]
    browser.get(write_report([study], tmp_path / "r.html").as_uri())
    wait(lambda: browser.execute_script("return document.documentElement.dataset.ready"))
    final = next(t["number"] for t in study["trials"] if t["test"])
    browser.find_element("id", "filter").send_keys(f"trial={final} t={len(study['trials'][final]['anytime'])}")
    wait(lambda: browser.find_element("id", "count").text.startswith("1 of "))
    css(browser, "#trials tbody tr")[0].click()
    text = wait(lambda: "cat taken for dog: 3 of 9" in (t := browser.find_element("id", "selected").text) and t)
    assert "cat/<b>.png: dog 0.99, is cat" in text
    silent(browser)


def test_hostile_names_stay_text(browser, tmp_path):
    space = {**made.SPACE, "neuron": "choice('<b onmouseover=alert(2)>x</b>')"}
    study = made.study("</script><img src=x onerror=alert(1)>", 6, space=space)
    browser.get(write_report([study], tmp_path / "r.html").as_uri())
    wait(lambda: browser.execute_script("return document.documentElement.dataset.ready"))
    assert css(browser, "img") == [] and css(browser, "#trials b") == []
    assert "</script><img" in browser.find_element("id", "subtitle").text
    silent(browser)


@pytest.mark.parametrize("trials", few([0, 1]))
def test_studies_with_nothing_in_them_yet(browser, tmp_path, trials):
    study = made.study("young", trials)
    browser.get(write_report([study], tmp_path / "r.html").as_uri())
    wait(lambda: browser.execute_script("return document.documentElement.dataset.ready"))
    assert browser.find_element("id", "count").text == f"{4 * trials} points of {trials + 4} trials"
    empty = browser.find_element("id", "front-empty")
    assert empty.is_displayed() == (not trials)  # a sentence, no axes
    assert f"of {trials + 4} trials asked for" in browser.find_element("id", "cards").text
    assert not browser.find_element("id", "go-on").is_displayed()  # one runs
    silent(browser)


def test_a_row_opens_beside_itself_and_keeps_the_focus(opened):
    from selenium.webdriver.common.keys import Keys

    first, second = css(opened, "#trials tbody tr")[:2]
    opened.execute_script("arguments[0].focus()", first)
    opened.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    assert opened.execute_script("return document.activeElement === arguments[0]", second)
    opened.switch_to.active_element.send_keys(Keys.ENTER)
    wait(lambda: css(opened, "#trials tr.detail"))
    chosen = opened.switch_to.active_element
    assert "chosen" in chosen.get_attribute("class")
    assert opened.execute_script("return arguments[0].nextElementSibling.className", chosen) == "detail"
    opened.switch_to.active_element.send_keys(Keys.ENTER)  # again: closed
    wait(lambda: not css(opened, "#trials tr.detail"))
    silent(opened)


def test_no_member_of_the_front_is_cut_off(browser, tmp_path):
    low = {5: {"metrics": {"accuracy": 0.2, "energy": 1e-12}, "anytime": []}}
    browser.get(write_report([made.study("s", 40, changed=low, importance=False)], tmp_path / "r.html").as_uri())
    wait(lambda: browser.execute_script("return document.documentElement.dataset.ready"))
    range_ = browser.execute_script("return document.getElementById('front')._fullLayout.yaxis.range")
    assert range_[0] < 0.2


def test_published_marks_carry_their_source(browser, tmp_path):
    browser.get(write_report([made.study("large", 12, data="imagenet")], tmp_path / "r.html").as_uri())
    wait(lambda: browser.execute_script("return document.documentElement.dataset.ready"))
    names = browser.execute_script(
        "return document.getElementById('front').data.find(t => t.name === 'published').text"
    )
    assert "SDT 6-512" in names and 2 < sum(map(bool, names)) < len(names)  # where there is room; all on hover
    assert "arXiv 2307.01694" in browser.find_element("id", "footer").text
    browser.find_element("id", "show-published").click()
    assert not browser.execute_script("return document.getElementById('front').data.some(t => t.name === 'published')")
    silent(browser)


def test_published_results_come_from_the_studies_data_set_or_an_own_file(tmp_path):
    assert "SDT 2-512" in {r["name"] for r in references("auto", ["cifar10"], ("accuracy", "energy"))}
    assert references("auto", ["digits"], ("accuracy", "energy")) == []
    assert "SDT 8-384" in {r["name"] for r in references("imagenet", ["digits"], ("accuracy", "energy"))}
    own = tmp_path / "mine.yaml"
    own.write_text("digits: [{name: ours, accuracy: 0.9, energy: 1.0e-6, source: here}]")
    assert references(str(own), ["digits"], ("accuracy", "energy"))[0]["energy"] == 1e-6
    own.write_text("digits: [{name: ours, accuracy: 0.9}]")
    with pytest.raises(UserError, match="lacks name, accuracy or source"):
        references(str(own), [], ("accuracy", "energy"))
    with pytest.raises(UserError, match="did you mean 'imagenet'"):
        references("imagnet", [], ("accuracy", "energy"))


def test_published_energies_are_those_of_the_paper():
    found = {r["name"]: (r.get("energy"), r["accuracy"]) for r in references("imagenet", [], ("accuracy", "energy"))}
    assert found["SDT 8-384"] == (3.90e-3, 0.7228) and found["SDT 8-768"] == (6.09e-3, 0.7707)


def test_the_pages_hypervolumes_are_the_records():
    study = made.study("s", 30, importance=False)
    (drawn,) = payload([study])["studies"]
    assert drawn["volumes"] == study["hypervolume_over_trials"] and drawn["volumes"][-1] == study["hypervolume"] > 0
    assert [(p["number"], p["t"], p["y"]) for p in drawn["front"]] == [
        (p["number"], p["t"], p["values"]["accuracy"]) for p in study["front"]
    ]


def test_the_joint_front_of_several_studies_is_shared_out():
    def trial(energy, accuracy):
        return {"state": "complete", "outcome": {"metrics": {"accuracy": accuracy, "energy": energy}}}

    one = made.records_of("one", [trial(1, 0.5), trial(3, 0.9)])
    two = made.records_of("two", [trial(2, 0.6), trial(4, 0.8)])
    assert payload([one, two])["joint"] == [2, 1] and payload([one])["joint"] is None


def test_hypervolume_is_the_dominated_area():
    # cost 2, gain 0.5 dominates (10 - 2) * 0.5; then cost 4, gain 1 adds (10 - 4) * 0.5; a dominated point adds
    # nothing, nor does one beyond the reference, which the costliest trial of all studies sets
    def trial(energy, accuracy):
        return {"state": "complete", "outcome": {"metrics": {"accuracy": accuracy, "energy": energy}}}

    one = made.records_of("one", [trial(2, 0.5), trial(4, 1.0), trial(5, 0.9)])
    two = made.records_of("two", [trial(10, 0.1)])
    assert [s["volumes"] for s in payload([one, two])["studies"]] == [pytest.approx([4, 7, 7]), [0]]
    assert payload([made.records_of("none", [])])["studies"][0]["volumes"] == []
    # in decades below 10: log10(10 / 2) * 0.5, then log10(10 / 4) * 0.5 more
    decades = [s["decades"] for s in payload([one, two])["studies"]]
    assert decades == [pytest.approx([0.349485, 0.548455, 0.548455]), [0]]
    (cheap,) = payload([made.records_of("cheap", [trial(1e-9, 1.0), trial(10, 0.1)])])["studies"]
    assert cheap["decades"] == [3, 3]  # a thousandth is the cheapest that counts


def test_a_search_of_one_objective_is_drawn_against_the_energy_that_its_trainings_measured():
    study = made.study("one", 12, objectives={"accuracy": "maximize"})
    assert set(study["trials"][0]["values"]) == {"accuracy"}
    data = payload([study])
    (drawn,) = data["studies"]
    assert data["cost"] == "energy" and data["reference"] == max(t["metrics"].get("energy", 0) for t in study["trials"])
    best = study["front"][-1]
    assert [(p["x"], p["y"]) for p in drawn["front"]] == [
        (study["trials"][best["number"]]["metrics"]["energy"], best["values"]["accuracy"])
    ]
    assert len(drawn["volumes"]) == 12 and drawn["volumes"][-1] > 0


def test_seeds_of_one_configuration_give_an_interval():
    def trial(accuracy, dim, seed):
        outcome = {"metrics": {"accuracy": accuracy, "energy": 1.0}, "seed": seed}
        return {"state": "complete", "params": {"model.dim": dim}, "outcome": outcome}

    trials = [trial(a, 32, n) for n, a in enumerate((0.90, 0.92, 0.94))]
    found = made.records_of("seeds", [*trials, trial(0.5, 48, 0)])
    (group,) = seed_groups(found["trials"], "accuracy", "energy")
    assert group["trials"] == [0, 1, 2] and group["gain"]["mean"] == pytest.approx(0.92)
    assert group["gain"]["half"] == pytest.approx(
        4.302653 * 0.02 / 3**0.5, rel=1e-5
    )  # Student's t, 2 degrees of freedom


def test_several_studies_share_one_reference_and_need_the_same_objectives():
    a, b = made.study("a", 10), made.study("b", 10, seed=1)
    worst = max(t["values"]["energy"] for s in (a, b) for t in s["trials"] if t["values"])
    assert payload([a, b])["reference"] == worst
    b = made.study("b", 10, objectives={"accuracy": "maximize", "latency": "minimize"})
    with pytest.raises(UserError, match="a and b can't share a plot"):
        payload([a, b])
    with pytest.raises(UserError, match="study="):
        payload([])


def test_figures_that_are_not_finite_do_not_break_the_page():
    study = made.study("nan", 5, changed={0: {"firing_rate": math.nan}, 1: {"seconds": math.inf}})
    text = page(payload([study]))
    assert '"firing_rate":null' in text and "@@" not in re.sub(r"<script>.*?</script>", "", text, flags=re.S)
