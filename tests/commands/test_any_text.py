"""A string that a user gave may hold any character: names, directories, files, in every command, page and log."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from pathlib import Path
from urllib.parse import quote

import pytest
import wandb
from examples import few
from made import records_of
from pretended import Sweep

from spikefront.commands.study import inspect
from spikefront.config import compose, override
from spikefront.console import console
from spikefront.errors import UserError, one_line
from spikefront.files import write_atomically
from spikefront.sweeping.study.sources import read_study
from spikefront.tracking.pages.figures import front_figure, parallel_figure
from spikefront.tracking.pages.front_table import front_table
from spikefront.tracking.pages.page import page, payload, write_report

TEXTS = {
    "for Hydra": "a=b,c (d) [e] {f:g} ~#!;",
    "for a shell": 'it\'s "q" $x `y` \\z &|*?',
    "for a URL": "a?b=c#d%20e:f@g+h",
    "for HTML": "<b>&amp;</script>[/bold]",
    "for people": "中文 é 🧠",
    "of two lines": "one\ntwo",
    "read otherwise": "null",
}


def overrides(**values):
    return [override(key.replace("__", "."), value) for key, value in values.items()]


@pytest.mark.parametrize("text", [*TEXTS.values(), "", " a ", "1e3", "true", "[a", "/x//y", "\\", "'", "a\tb"])
def test_an_override_is_read_as_it_was_meant(text):
    for value in (text, [text, 1, None], {"k": [text, True]}):
        assert compose([override("resume", value)]).resume == value


@pytest.mark.parametrize("storage", ["sqlite", pytest.param("journal", marks=pytest.mark.slow)])
@pytest.mark.parametrize("text", few(TEXTS.values(), len(TEXTS)), ids=TEXTS)
def test_a_study_may_have_any_name_and_place(tmp_path, capfd, text, storage):
    place = tmp_path / text
    search = Sweep(place, "search/sampler=random", "search.n_trials=1")
    settings = {"search__dir": str(place / "d"), "search__study": text, "logger": "none"}
    if storage == "journal":
        settings["search__storage"] = f"journal://{place}/{text}.log"
    search.overrides += overrides(**settings)
    search.space = ("model.timesteps=choice(1,2)", "neuron.threshold=interval(0.5,2)")
    search.run_here()
    assert (place / "d" / text / "trials" / "00000").is_dir()  # nowhere else
    at = {"study": text, "dir": str(place / "d"), "storage": settings.get("search__storage")}
    ask = {**at, "output": None, "trial": None, "t": None}
    for action in ("status", "front", "export", "best"):
        inspect({**ask, "action": action})
    inspect({**ask, "action": "export", "output": str(place / "x" / f"{text}.json")})
    found = read_study(text, at["dir"], at["storage"])[0]
    assert json.loads((place / "x" / f"{text}.json").read_text(encoding="utf-8"))["study"] == text
    assert {p.name for p in tmp_path.iterdir()} == {text.partition("/")[0]}
    said = capfd.readouterr().out
    assert f"study {text}: 1 of 1 trials finished" in said and f"Pareto front of {text}" in said
    printed = shlex.split(found["trials"][0]["command"])
    assert compose(printed[2:]).model.timesteps in (1, 2)
    if storage == "sqlite":
        assert read_study(found["storage"])[0]["study"] == text  # the address that the sweep printed


@pytest.mark.parametrize("name", ["..", "../s", "/tmp/s", "a/../../s", "."])
def test_a_study_lies_in_its_directory(make_sweep, name):
    with pytest.raises(UserError, match=r"search\.study=.* is no name"):
        make_sweep(f"search.study={name}").run_here()


@pytest.mark.parametrize("text", few(TEXTS.values()), ids=TEXTS)
def test_pages_and_tables_show_text_as_it_is(tmp_path, text):
    space = {"logger.name": f"choice('{text}','x')"} if "'" not in text else {"logger.name": 'choice("x",y)'}
    value = text if "'" not in text else "x"
    outcome = {"metrics": {"accuracy": 0.5, "energy": 1e-6}}
    trials = [{"state": "complete", "params": {"logger.name": value}, "outcome": outcome}]
    found = records_of(text, [*trials, {"state": "failed", "params": {"logger.name": value}}], space=space)
    found["trials"][1]["reason"] = text
    html = page(payload([found]))
    inside = re.search(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', html, re.S)
    data = json.loads(inside[1])["studies"][0]
    assert data["name"] == text and data["trials"][1]["reason"] == text
    assert data["trials"][0]["params"]["logger.name"] == value
    for figure in (front_figure(found), parallel_figure(found)):
        assert "<b>&amp;</script>" not in figure.to_json()
    out = console(file=io.StringIO(), width=200)
    out.print(front_table(found))
    assert "".join(text.split()) in "".join(out.file.getvalue().split())  # a title wraps
    assert write_report([found], tmp_path / f"{text}.html").is_file()


@pytest.mark.parametrize(
    ("setting", "says"),
    [("logger.project=a/b", "cannot contain"), ("logger.tags=['']", "empty"), ("logger.mode=onlin", "offline")],
)
def test_what_weights_and_biases_does_not_take_is_said_before_anything_is_made(script, tmp_path, setting, says):
    common = ["model=sdt_1_16", "data=digits", "logger=wandb", setting]
    commands = {
        "train": [f"hydra.run.dir={tmp_path}/run"],
        "sweep": ["-m", "neuron=lif,plif", f"search.dir={tmp_path}/s"],
    }
    for verb, own in commands.items():
        code, _, err = script(verb, *common, *own)
        key = setting.partition("=")[0]
        assert (code, len(err.strip().splitlines())) == (1, 1) and key in err and says in err, err
    assert not (tmp_path / "s").exists() and not list((tmp_path / "run").rglob("*.ckpt"))


def test_weights_and_biases_takes_any_other_text(script, quick, tmp_path):
    text = "a b [x] (é) 中🧠 <b>&amp; = , ; ' \""
    own = overrides(logger__project=text, logger__name=text, logger__group=text, logger__tags=[text, "b"])
    mine = [o for o in quick if not o.startswith("logger")]
    code, _, err = script("train", *mine, "logger=wandb", "trainer.max_epochs=1", *own)
    assert code == 0 and "W&B" not in err
    wandb.teardown()  # writes what is left
    parts = list(Path(tmp_path).rglob("run-*.wandb"))
    assert len(parts) == 1 and parts[0].read_bytes().count(text.encode()) >= 4


PASSWORDS = ["s3/cr", "s3@cr", "s3:cr", "s3?cr", "s3#cr", "s3%cr", "s3 cr", "s3%2Fcr%40", "s3&cr", "中s3🧠cr"]


@pytest.mark.parametrize("where", few(["of the user", "of the query"]))
@pytest.mark.parametrize("password", few(PASSWORDS))
def test_a_password_is_in_no_error(tmp_path, capfd, password, where):
    """Of a server that isn't there, whichever command asks for it."""
    query = quote(password, safe="") if "&" in password or "#" in password else password
    address = f"martian://me:{password}@host/db" if where == "of the user" else f"martian://me@host/db?passwd={query}"
    at = {"study": "s", "dir": str(tmp_path), "storage": address, "output": None, "trial": None, "t": None}
    search = Sweep(tmp_path, override("search.storage", address), "search.n_trials=1")
    warm = Sweep(tmp_path, override("search.warm_start", address), "search.n_trials=1")
    asked = [search.run_here, warm.run_here, lambda: read_study("s", str(tmp_path), address)]
    asked += [lambda a=action: inspect({**at, "action": a}) for action in ("status", "export", "best", "retry")]
    for ask in asked:
        with pytest.raises(Exception) as error:
            ask()
        said = one_line(error.value) + "".join(capfd.readouterr())
        assert "s3" not in said and "cr" not in said.replace("create", "") and "martian" in said, said
    kept = [p for p in tmp_path.rglob("*") if p.is_file()]
    whole = re.compile(rb"s3.{1,30}cr", re.DOTALL)  # two bytes alone come by chance
    assert not [p for p in kept if whole.search(p.read_bytes())]


@pytest.mark.slow
def test_a_password_is_kept_nowhere(script, quick, tmp_path):
    """Of a storage that is there, by a sweep of real trainings: logs, W&B's fields, tables, pages."""
    address = f"sqlite:///{tmp_path}/x.db?passwd=s3%2Fcr%40:%23et"
    storage = override("search.storage", address)
    mine = [o for o in quick if not o.startswith(("logger", "hydra", "trainer.max"))]
    own = ["logger=wandb", "trainer.max_epochs=1", f"search.dir={tmp_path}/d", "search.study=s", "search.workers=1"]
    done = [script("sweep", "-m", *mine, *own, storage, "search.n_trials=1", "model.timesteps=choice(1,2)")]
    at = ["study=s", override("storage", address)]
    done += [script("study", *at, f"action={action}") for action in ("status", "front", "export", "best")]
    done.append(script("report", *at, f"output={tmp_path}/r.html"))
    assert [code for code, _, _ in done] == [0] * len(done), done
    written = [p for p in tmp_path.rglob("*") if p.is_file() and not p.name.startswith("x.db")]
    assert [p for p in written if p.suffix == ".wandb"] and (tmp_path / "r.html") in written
    assert not [str(p) for p in tmp_path.rglob("*") if p.is_file() and re.search(rb"s3(%2F|/)cr", p.read_bytes())]
    assert not re.search(r"s3(%2F|/)cr", "".join(out + err for _, out, err in done))


def test_files_with_the_longest_names_are_written(tmp_path):
    for name in ("🧠" * 63, "x" * 255):
        assert write_atomically(tmp_path / name, "x").read_text() == "x"


def test_a_run_may_lie_and_be_called_anyhow(script, quick, tmp_path):
    text = "".join(t for name, t in TEXTS.items() if name != "of two lines") + "a::b"
    run = tmp_path / text
    own = overrides(hydra__run__dir=str(run), logger__name=text, resume="auto")
    common = [o for o in quick if not o.startswith(("logger", "hydra", "trainer.max"))]
    code, out, err = script("train", *common, "logger=csv", "trainer.max_epochs=1", *own)
    assert code == 0, err
    assert str(run) in out
    assert json.loads((run / "result.json").read_text(encoding="utf-8"))
    metrics = [p for p in run.rglob("metrics.csv") if text in str(p.parent.relative_to(run))]
    assert metrics and list(csv.DictReader(metrics[0].open(encoding="utf-8")))
    best = next(p for p in (run / "checkpoints").glob("*.ckpt"))
    again = overrides(checkpoint=str(best), hydra__run__dir=str(tmp_path / "e" / text))
    code, out, err = script("evaluate", *again, "accelerator=cpu")
    assert code == 0, err
