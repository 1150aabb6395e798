"""If this fails with a new Hydra: see how it parses its flags now, and change spikefront/commands/hydra_internals.py.

What then goes wrong: flags between overrides (``sweep.py hparams_search=timesteps -m``) end in argparse's usage;
``train.py -m "logger.name=choice('a#b','c')"`` is refused.
"""

from __future__ import annotations

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Transformer

from spikefront.commands.hydra_internals import flag_parser, keep_quotes
from spikefront.config import override_parser


def test_hydras_flags_are_known():
    known = flag_parser().parse_args(["--multirun", "--config-dir", "mine", "a=1", "b=2"])
    assert known.multirun and known.config_dir == "mine" and known.overrides == ["a=1", "b=2"]


@pytest.mark.parametrize("sweep", ["choice({})", "{}"])
def test_a_multirun_has_as_many_jobs_as_there_are_choices(sweep, monkeypatch):
    monkeypatch.setattr(Transformer, "str", Transformer.str)
    keep_quotes()
    given = "logger.name=" + sweep.format("'e#f','实验','a&b','12',plain,3,[a,'b#']")
    (jobs,) = BasicSweeper.split_arguments(override_parser().parse_overrides([given, "seed=1"]), None)
    read = [override_parser().parse_overrides(job) for job in jobs]
    assert [name.value() for name, _ in read] == ["e#f", "实验", "a&b", "12", "plain", 3, ["a", "b#"]]
    assert all(seed.value() == 1 for _, seed in read)
