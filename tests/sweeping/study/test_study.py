"""A study is only continued as it was begun, and a storage that can't be used is said in one line."""

from __future__ import annotations

import re
import shlex
import sqlite3
from pathlib import Path
from urllib.parse import unquote

import pytest
from examples import few
from optuna.exceptions import StorageInternalError
from pretended import Sweep

from spikefront.console import shown
from spikefront.errors import UserError
from spikefront.sweeping.search import objectives
from spikefront.sweeping.study import storage as storages
from spikefront.sweeping.study.attributes import KNOWN
from spikefront.sweeping.study.storage import open_storage, url


def untouched(search):
    return [(t.number, t.state, t.params) for t in search.study().trials], search.study().user_attrs


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A study of one trial, which no test changes."""
    sweep = Sweep(tmp_path_factory.mktemp("begun"), "search/sampler=random", "search.n_trials=1", "search.workers=1")
    sweep.run_here()
    return sweep


@pytest.mark.parametrize(
    ("overrides", "space", "says"),
    few(
        [
            ([], ("model.timesteps=choice(1,2)", "neuron.threshold=interval(0.5,2)"), "search space changed"),
            ([], ("model.timesteps=choice(1,2,4)",), "neuron.threshold"),
            (["trainer.max_epochs=3"], None, "trainer.max_epochs was .*, now 3"),
            (["neuron=plif"], None, "neuron"),
            (["+trainer.max_steps=9"], None, "trainer.max_steps was not there, now 9"),
            (["search.objectives=[energy,accuracy]"], None, "objectives"),
            (["search.objectives=[acuracy]"], None, "did you mean 'accuracy'"),
            (["search.objectives=[]"], None, "objectives is empty"),
            (["search.n_trials=0"], None, "n_trials"),
            (["search.n_trials=null"], None, "exhaustive"),
            (["search/sampler=grid"], None, "neuron.threshold has no end of them"),
            ([], (), "search space is empty"),
            ([], ("model.dept=choice(1,2)",), "did you mean 'depth'"),
            ([], ("model.depth=choice(1,2)", "model.depth=3"), "search space is empty"),
        ]
    ),
)
def test_a_changed_or_contradictory_search_is_refused_and_the_study_untouched(begun, overrides, space, says):
    before = untouched(begun)
    with pytest.raises(UserError, match=says):
        begun.changed(*overrides, space=space).run_here()
    assert untouched(begun) == before


def test_storages_that_cannot_be_used(tmp_path):
    broken = tmp_path / "broken.db"
    broken.write_text("this is no database, however long the file may be " * 40)
    with pytest.raises(UserError, match="damaged"):
        open_storage(f"sqlite:///{broken}")
    with pytest.raises(UserError, match="can't be used"):
        open_storage("sqlite:////proc/nowhere/study.db")
    with pytest.raises(UserError, match=r"search\.storage"):
        open_storage("nonsense")
    with pytest.raises(UserError, match="martian"):
        open_storage("martian://x/y")


def test_a_read_only_database_is_said(make_sweep, tmp_path):
    make_sweep("search.n_trials=1", "search.workers=1").run_here()
    file = tmp_path / "s" / "study.db"
    with sqlite3.connect(file) as held:
        held.execute("pragma user_version")
    address = f"sqlite:///file:{file}?mode=ro&uri=true"
    with pytest.raises(UserError, match="readonly"):
        make_sweep("search.n_trials=2", "search.workers=1", f"search.storage='{address}'").run_here()


def test_a_uris_file_is_where_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert storages.file_of("sqlite:///file:/a/b.db?mode=ro&uri=true") == Path("/a/b.db")
    assert storages.file_of("sqlite:////a/b.db") == storages.file_of("journal:///a/b.db") == Path("/a/b.db")
    assert storages.file_of("postgresql://host/db") is None
    open_storage(f"sqlite:///file:{tmp_path}/x.db?uri=true")
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []


def test_the_refusal_of_more_choices_says_the_command_that_takes_what_is_known_along(make_sweep, tmp_path):
    make_sweep("search.n_trials=2", "search.workers=1").run_here()
    more = ("model.timesteps=choice(1,2,4,8)", "neuron.threshold=interval(0.5,2)")
    with pytest.raises(UserError, match=r"search space changed: model\.timesteps was") as refused:
        make_sweep("search.n_trials=3", "search.workers=1", space=more).run_here()
    python, script, flag, *arguments = shlex.split(str(refused.value).partition("knows what is known here: ")[2])
    assert (python, script, flag) == ("python", "src/sweep.py", "-m") and set(more) < set(arguments)
    again = Sweep(tmp_path, *(a for a in arguments if a not in more), space=more)
    again.overrides = [a for a in again.overrides if a != "search.study=s"]  # which the command replaces
    again.run_here()
    assert sum(KNOWN.on(t) for t in again.study().trials) == 2


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:s3/cr:et@host:5432/db",
        "postgresql+psycopg://m%40e:s3%2Fcr%3Aet@host/db?sslmode=require",
        "postgresql://me:s3/c@r:et@host/db",
        "postgresql://me:s3 c?r#et@host/db",
        "mysql://me@host/db?password=s3c%26ret&x=1",
        "mysql://me@host/db?ssl=x&passwd=s3cret",
        "postgresql://host/db?sslpassword=s3cret",
        "grpc://me:s3cret@host:13000",
        "martian://me:s3cret@host:nowhere/db",
    ],
)
def test_passwords_are_neither_shown_nor_told(address):
    for text in (address, f"search.storage='{address}'", f"search.warm_start=[{address},{address}]"):
        assert "s3" not in shown(text) and "et" not in shown(text) and "host" in shown(text)
    password = re.search(r"s3[^&]*et(?=@|&|$)", address)[0]
    for said in (f"no such host: {address}", f"bad dsn: {password}", f"wrong password {unquote(password)!r} for me"):
        with pytest.raises(UserError) as error, storages.storage_errors(address):
            raise StorageInternalError(said)
        assert "s3" not in str(error.value) and "cret" not in str(error.value), str(error.value)


@pytest.mark.parametrize(
    "address", ["journal:///a:b@c/x.log", "sqlite:////a/b:c@d.db", "postgresql://host:5432/db", "a=b"]
)
def test_what_holds_no_password_is_shown_as_it_is(address):
    assert shown(address) == address


@pytest.mark.parametrize("address", ["grpc://host:abc", "grpc://me:s3cret@host:13000", "grpc://"])
def test_a_proxy_that_has_no_port_is_said(address):
    with pytest.raises(UserError, match=r"give it as grpc://host:port") as error:
        storages.open_storage(address)
    assert "s3" not in str(error.value)


def test_passwords_are_not_kept(make_sweep, tmp_path, capsys):
    with pytest.raises(UserError) as error:
        make_sweep("search.n_trials=1", "search.storage=martian://me:s3cret@host/db").run_here()
    assert "s3cret" not in str(error.value) + capsys.readouterr().out
    make_sweep("search.n_trials=1", "search.workers=1", f"search.dir={tmp_path}/other").run_here()
    source = f"sqlite:///{tmp_path}/other/s/study.db?password=s3cret"
    make_sweep("search.n_trials=1", "search.workers=1", f"search.warm_start='{source}'").run_here()
    assert b"known" in b"".join(p.read_bytes() for p in (tmp_path / "s").glob("study.db*"))
    assert not [p for p in (tmp_path / "s").rglob("*") if p.is_file() and b"s3cret" in p.read_bytes()]
    assert "s3cret" not in capsys.readouterr().out


def test_default_storage_lies_in_the_studys_directory(tmp_path):
    assert url({"dir": tmp_path, "study": "a"}) == f"sqlite:///{tmp_path}/a/study.db"


def test_objectives_and_directions():
    assert objectives.parse(["accuracy", "energy", "val/loss"]) == {
        "accuracy": "maximize",
        "energy": "minimize",
        "val/loss": "minimize",
    }
    assert objectives.parse({"train/foo": "maximize"}) == {"train/foo": "maximize"}
    for bad in (["train/foo"], {"accuracy": "up"}, ["nothing"]):
        with pytest.raises(UserError):
            objectives.parse(bad)
    with pytest.raises(UserError, match="never logged"):
        objectives.values(["val/los"], {"val/loss": 1.0})
