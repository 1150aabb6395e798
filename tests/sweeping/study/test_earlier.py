"""A study that an earlier version made and left half done: ``before.tar.gz``, by the commit before the package moved
into rooms, as the command in ``COMMAND`` leaves it when Ctrl-C comes in trial 10's second epoch.

It holds a point of a warm start, trials that are complete, pruned, infeasible and put back with a checkpoint, and names
three classes as they were called then.
"""

from __future__ import annotations

import tarfile
from collections import Counter
from pathlib import Path

import pytest
from hydra.utils import get_object, instantiate
from pretended import Sweep
from rich.console import Console

from spikefront.commands.study import inspect
from spikefront.nn.checkpoints import configuration, read_checkpoint
from spikefront.renamed import NAMES
from spikefront.sweeping.search.pruning import FrontPruner
from spikefront.sweeping.search.samplers import Exhaustive
from spikefront.sweeping.study import accounts
from spikefront.sweeping.study import study as studies
from spikefront.sweeping.study.sources import read_study
from spikefront.tracking.pages.front_table import front_table
from spikefront.tracking.pages.page import payload
from spikefront.training import train

MADE = Path(__file__).with_name("before.tar.gz")
THERE = "/tmp/oldstudy"  # where it lay
SPACE = ("model.timesteps=choice(1,2,3)", "model.depth=choice(1,2)", "neuron=if,lif")
COMMAND = (
    *("model=sdt_1_16", "data=digits", "trainer=cpu", "trainer.max_epochs=3", "trainer.limit_train_batches=8"),
    *("neuron.threshold=0.1", "callbacks=quiet", "logger=wandb", "search/sampler=grid", "search.n_trials=null"),
    *("search/pruner=front", "search.pruner.startup_trials=1", "search.pruner.confidence=0.9"),
    *("search.constraints.parameters=9000", "search.workers=1", "search.study=before"),
)


@pytest.fixture
def before(tmp_path):
    """The directory of the study ``before``, made to lie there."""
    with tarfile.open(MADE) as archive:
        archive.extractall(tmp_path, filter="data")
    journal = tmp_path / "before" / "study.log"
    journal.write_text(journal.read_text().replace(THERE, str(tmp_path)))
    return tmp_path


def sweep(before):
    more = (f"search.warm_start={before}/points.csv", f"search.storage=journal://{before}/before/study.log")
    return Sweep(before, *COMMAND, *more, space=SPACE, train=train)


def test_its_records_say_what_its_own_version_said(before):
    (found,) = read_study("before", dir=str(before), importance=True)
    assert Counter(t["state"] for t in found["trials"]) == {"complete": 3, "infeasible": 6, "pruned": 1, "waiting": 1}
    assert (found["sampler"], found["data"], found["budget"]) == ("exhaustive", "digits", 5)
    assert [(p["number"], p["t"]) for p in found["front"]] == [(1, None), (6, 1)]
    assert found["hypervolume"] == pytest.approx(9.989e-9, rel=1e-3)
    assert found["convention"] == "paper, first layer per timestep" and not any(found["importance"].values())
    default, known, pruned, back = (found["trials"][n] for n in (0, 1, 8, 10))
    assert default["origin"] == "default configuration" and not default["known"] and default["front_then"] is True
    assert [p["epoch"] for p in default["curve"]] == [1, 2, 3] and [p["t"] for p in default["anytime"]] == [1, 2]
    assert default["spent"]["seconds"] > 0 and default["energy_layers"] and default["metrics"]["val/loss"] > 0
    assert known["known"] and known["origin"] == "line 2 of points.csv"
    assert "even the hopeful forecast" in pruned["reason"] and pruned["epochs"] == 2
    assert "parameters <= 9000 does not hold" in found["trials"][2]["reason"]
    assert back["epochs"] == 1
    console = Console(width=120)
    with console.capture() as said:
        console.print(front_table(found))
    assert "None" not in said.get()
    assert payload([found])["studies"][0]["volumes"] == found["hypervolume_over_trials"]


def test_its_status_is_said(before, capsys):
    inspect({"study": "before", "dir": str(before), "storage": None, "action": "status"})
    said = capsys.readouterr().out
    assert "study before: 3 of 5 trials finished" in said and "6 infeasible" in said and "1 waiting" in said


def test_classes_are_found_under_their_old_names(before):
    search = sweep(before)
    settings = studies.settings(search.study(), search.cfg().search, [])
    assert type(instantiate(settings.sampler)) is Exhaustive and type(instantiate(settings.pruner)) is FrontPruner
    content = read_checkpoint(before / "before/trials/00010/checkpoints/last.ckpt")
    assert content["hyper_parameters"]["config"]["logger"]["_target_"] in NAMES
    assert configuration(content)["logger"]["_target_"] == "spikefront.tracking.wandb.logger.wandb_logger"
    assert all(callable(get_object(now)) for now in NAMES.values())


def test_the_same_command_continues_it(before):
    search = sweep(before)
    first = read_study("before", dir=str(before))[0]["trials"]
    search.run_here()
    (found,) = read_study("before", dir=str(before))
    trials = found["trials"]
    assert trials[:10] == first[:10]  # what was there has stayed
    assert accounts.account(search.study()).whole and len(accounts.account(search.study()).finished) == 5
    assert len({str(t["params"]) for t in trials}) == len(trials) == 12  # each point once, the known one among them
    assert trials[10]["state"] in ("complete", "pruned") and trials[10]["curve"][0] == first[10]["curve"][0]
    assert trials[10]["spent"]["seconds"] > first[10]["spent"]["seconds"]
    assert Counter(t["state"] for t in trials)["infeasible"] == 6  # each was there before
