"""The report while a sweep runs, and its picture."""

from __future__ import annotations

import http.client
import shutil
import socket
import threading

import made
import pytest
from test_report import wait

from spikefront.errors import UserError
from spikefront.tracking.pages.live import LiveReport
from spikefront.tracking.pages.page import write_report
from spikefront.tracking.pages.picture import write_picture


@pytest.fixture
def served():
    """A live report over a study that grows when the test says so."""
    state = {"trials": 5, "broken": False}

    def read():
        if state["broken"]:
            raise UserError("the storage is locked")
        return [made.study("growing", state["trials"], importance=False)]

    live = LiveReport(read, port=0, every=0.1)
    thread = threading.Thread(target=live.serve)
    thread.start()
    yield live, state
    live.stop()
    thread.join(5)
    assert not thread.is_alive()


def ask(live, path="/", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", live.server_address[1], timeout=5)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.getheader("ETag"), answer.read()


def test_serves_this_machine_only(served):
    live, _ = served
    assert live.server_address[0] == "127.0.0.1"
    assert ask(live)[0] == 200
    assert ask(live, Host="evil.example:80")[0] == 403
    assert ask(live, "/../../etc/passwd")[0] == 404


def test_sends_data_only_when_something_changed_and_survives_a_busy_storage(served, capsys):
    live, state = served
    _, tag, _ = ask(live, "/data.json")
    assert ask(live, "/data.json", **{"If-None-Match": tag})[0] == 304
    state["broken"] = True
    wait(lambda: "locked" in capsys.readouterr().err)
    assert ask(live, "/data.json")[1] == tag
    state.update(broken=False, trials=8)
    wait(lambda: ask(live, "/data.json")[1] != tag)


def test_open_page_follows_the_sweep(browser, served):
    live, state = served
    browser.get(live.url)
    wait(lambda: browser.find_element("id", "count").text == "20 points of 9 trials")
    state["trials"] = 12
    wait(lambda: browser.find_element("id", "count").text == "48 points of 16 trials")
    assert browser.find_element("id", "live").text == "live"


def test_a_taken_port_is_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="choose another with port="):
            LiveReport(lambda: [made.study(importance=False)], port=taken.getsockname()[1])


@pytest.mark.skipif(not shutil.which("chromium"), reason="no browser here: apt-get install chromium")
def test_picture_of_the_front(tmp_path):
    html = write_report([made.study(importance=False)], tmp_path / "r.html")
    png = write_picture(html, tmp_path / "front.png")
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and png.stat().st_size > 20_000
    svg = write_picture(html, tmp_path / "front.svg").read_text()
    assert svg.startswith("<svg") and "accuracy (validation)" in svg


def test_picture_without_a_browser_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="apt-get install chromium"):
        write_picture("r.html", tmp_path / "front.png")
    with pytest.raises(UserError, match=r"not a \.png or \.svg"):
        write_picture("r.html", tmp_path / "front.jpg")
