"""Studies by name, directory and URL."""

from __future__ import annotations

import pytest

from spikefront.errors import UserError
from spikefront.sweeping.search.space import Space
from spikefront.sweeping.study import study as studies
from spikefront.sweeping.study.request import Request
from spikefront.sweeping.study.sources import read_study


@pytest.fixture
def made(tmp_path):
    """The directory of two empty studies, ``one-digits`` and ``two-digits``."""
    for name in ("one-digits", "two-digits"):
        search = {
            "study": name,
            "dir": str(tmp_path),
            "storage": None,
            "sampler": {"_target_": "optuna.samplers.RandomSampler"},
        }
        space = Space.parse({"model.depth": "choice(1,2)"})
        objectives = {"accuracy": "maximize", "energy": "minimize"}
        base, default = {"data.name": "digits"}, {"model.depth": 1}
        studies.create(Request(search, space, objectives, 5, False, [], base, default, []))
    return tmp_path


def test_a_study_by_name_beginning_directory_and_url(made):
    url = f"sqlite:///{made / 'one-digits' / 'study.db'}"
    for source in ("one-digits", "one", str(made / "one-digits"), url):
        (found,) = read_study(source, dir=str(made))
        assert (found["study"], found["data"], found["sampler"]) == ("one-digits", "digits", "random")


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
