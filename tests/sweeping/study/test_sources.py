"""Studies by name, directory and URL."""

from __future__ import annotations

import pytest
from examples import few

from spikefront.commands.study import inspect
from spikefront.errors import UserError
from spikefront.sweeping.search.space import Space
from spikefront.sweeping.study import storage as storages
from spikefront.sweeping.study import study as studies
from spikefront.sweeping.study.request import Request
from spikefront.sweeping.study.sources import checkpoint_of, open_study, read_study

PLACES = {
    "sqlite": (None, "one-digits/study.db"),
    "sqlite elsewhere": ("sqlite:///{}/elsewhere.db", "elsewhere.db"),
    "journal": ("journal://{}/one-digits/study.log", "one-digits/study.log"),
    "journal elsewhere": ("journal://{}/else where.log", "else where.log"),
}


def make(directory, name, storage=None):
    """An empty study."""
    search = {"study": name, "dir": str(directory), "storage": storage}
    search |= {"sampler": {"_target_": "optuna.samplers.RandomSampler"}}
    space = Space.parse({"model.depth": "choice(1,2)"})
    objectives = {"accuracy": "maximize", "energy": "minimize"}
    base, default = {"data.name": "digits"}, {"model.depth": 1}
    studies.create(Request(search, space, objectives, 5, False, [], base, default, True, [], []))


@pytest.fixture
def made(tmp_path):
    """The directory of two empty studies, ``one-digits`` and ``two-digits``."""
    for name in ("one-digits", "two-digits"):
        make(tmp_path, name)
    return tmp_path


@pytest.mark.parametrize("place", few(PLACES))
def test_every_verb_finds_a_study_however_it_is_called(tmp_path, monkeypatch, capsys, place):
    storage, file = PLACES[place]
    storage = storage and storage.format(tmp_path)
    make(tmp_path, "one-digits", storage)
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path)
    address = storage or f"sqlite:///{tmp_path}/{file}"
    for source in ("one-digits", "one", f"{here}/one-digits", "./one-digits/", f"./{file}", address):
        (found,) = read_study(source, dir=here)
        assert (found["study"], found["data"], found["sampler"]) == ("one-digits", "digits", "random")
        study = {"study": source, "dir": here, "storage": None}
        inspect({**study, "action": "status"})
        assert "study one-digits: 0 of 2 trials" in capsys.readouterr().out
        inspect({**study, "action": "export", "output": None})
        assert (tmp_path / "one-digits" / "trials.csv").is_file()
    assert studies.load({"study": "one-digits", "dir": here, "storage": None})[0].study_name == "one-digits"


def test_of_several_in_a_storage_one_is_named(tmp_path):
    storage = f"journal://{tmp_path}/all.log"
    for name in ("one", "two"):
        make(tmp_path, name, storage)
    assert [s["study"] for s in read_study(storage)] == [s["study"] for s in read_study(f"{tmp_path}/all.log")]
    assert open_study("two", str(tmp_path / "nowhere"), storage).study_name == "two"
    assert open_study(str(tmp_path / "two")).study_name == "two"
    with pytest.raises(UserError, match="holds 2 studies: one, two; give the directory of one"):
        open_study(f"{tmp_path}/all.log")


def test_a_directory_that_was_renamed_holds_its_study(made):
    (made / "one-digits").rename(made / "kept")
    assert open_study("kept", str(made)).study_name == open_study(str(made / "kept")).study_name == "one-digits"


def test_where_a_storage_lies_is_noted_without_its_password(tmp_path):
    search = {"study": "s", "dir": str(tmp_path), "storage": "postgresql://me:s3cret@host/db"}
    storages.note_place(search)
    assert "s3cret" not in (tmp_path / "s" / "storage.url").read_text()
    with pytest.raises(UserError, match=r"postgresql://me:\*\*\*@host/db, and the password nowhere: give storage="):
        open_study("s", str(tmp_path))
    storages.note_place({**search, "storage": "postgresql://host/db"})
    assert storages.url({**search, "storage": None}) == "postgresql://host/db"


def test_a_study_that_does_not_exist_names_those_that_do(made):
    with pytest.raises(UserError, match=r"did you mean 'one-digits'"):
        read_study("one-digit5", dir=str(made))
    with pytest.raises(UserError, match=r"src/sweep\.py -m"):
        read_study("one", dir=str(made / "nowhere"))
    with pytest.raises(UserError, match="four slashes"):
        read_study("sqlite:///nowhere.db")
    (made / "broken.db").write_text("not a database at all")
    with pytest.raises(UserError, match="can't be used"):
        read_study(f"sqlite:///{made / 'broken.db'}")


def test_a_trials_checkpoint_has_an_address(make_sweep, tmp_path, monkeypatch):
    search = make_sweep("search.n_trials=2", "search.workers=1")
    search.run_here()
    made = studies.record(search.study())
    folder = studies.trial_directory(made, 1)
    assert checkpoint_of(f"trial:{made['path']}/1") == folder / "checkpoints/last.ckpt"
    (folder / "checkpoints/best.ckpt").write_text("better")
    assert checkpoint_of(f"trial:{made['path']}/1").read_text() == "better"
    assert checkpoint_of(f"trial:{made['storage']}/1") == folder / "checkpoints/best.ckpt"
    for path in (folder / "checkpoints").iterdir():
        path.unlink()
    for number, says in (
        ("1", "/1 keeps no checkpoint in "),
        ("2", "has no trial 2 of its 2"),
        ("x", "is not trial:<study>"),
    ):
        with pytest.raises(UserError, match=says):
            checkpoint_of(f"trial:{made['path']}/{number}")
    (folder / "seed_0/checkpoints").mkdir(parents=True)
    (folder / "seed_0/checkpoints/last.ckpt").write_text("of several seeds")
    assert checkpoint_of(f"trial:{made['path']}/1").read_text() == "of several seeds"
