"""Who may write to a study's storage runs no code where workers run."""

from __future__ import annotations

import pytest
from examples import few

from spikefront.config import compose
from spikefront.errors import UserError
from spikefront.sweeping.study import attributes
from spikefront.sweeping.study.attributes import RECORD
from spikefront.sweeping.study.study import record
from spikefront.sweeping.worker.worker import Worker


@pytest.fixture
def study(make_sweep):
    sweep = make_sweep("search.n_trials=1")
    sweep.run_here()
    return sweep


def join(sweep, *more: str) -> Worker:
    own = [*sweep.overrides, *more]
    return Worker(compose(own, root="sweep"), own, train=sweep.train)


@pytest.mark.parametrize(
    ("override", "says"),
    few(
        [
            ("+callbacks.x={_target_: os.system, command: id}", r"os\.system"),
            ("optimizer._target_=os.system", r"os\.system"),
            ("data.root=${oc.env:HOME}", r"oc\.env"),
            ("hydra.searchpath=[/tmp/elsewhere]", "/tmp/elsewhere"),
            ("neuron=../../../tmp/mine", "only options of your own"),
            ("+data.transform.path=subprocess.Popen", r"subprocess\.Popen"),
        ]
    ),
)
def test_an_override_in_the_storage_is_not_the_commands_own(study, override, says):
    made = record(study.study())
    RECORD.set(study.study(), {**made, "overrides": [*made["overrides"], override]})
    with pytest.raises(UserError, match=f"{says}.*search.trust=true") as error:
        join(study)
    assert "\n" not in str(error.value)


def test_a_search_setting_in_the_storage_builds_no_other_class(study):
    settings = attributes.settings(study.study())
    attributes.set_settings(study.study(), {**settings, "pruner": {"_target_": "os.system", "command": "id"}})
    for stored in ({}, {"trust": True}):
        attributes.set_settings(study.study(), {**attributes.settings(study.study()), **stored})
        with pytest.raises(UserError, match=r"the study 's' would run os\.system"):
            join(study)


def test_a_space_in_the_storage_searches_no_classes(study):
    made = record(study.study())
    RECORD.set(study.study(), {**made, "space": {"optimizer._target_": "choice(os.system,torch.optim.SGD)"}})
    with pytest.raises(UserError, match=r"search\.trust=true"):
        join(study)


def test_what_the_command_itself_says_is_its_own(study):
    made = record(study.study())
    own = "+callbacks.x={_target_: mine.Callback}"
    RECORD.set(study.study(), {**made, "overrides": [*made["overrides"], own]})
    join(study, own)
    join(study, "search.trust=true")
