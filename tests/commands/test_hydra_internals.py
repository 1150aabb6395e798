"""If this fails with a new Hydra: see how it parses its flags now, and change spikefront/commands/hydra_internals.py.

What then goes wrong: flags between overrides (``sweep.py hparams_search=timesteps -m``) end in argparse's usage.
"""

from __future__ import annotations

from spikefront.commands.hydra_internals import flag_parser


def test_hydras_flags_are_known():
    known = flag_parser().parse_args(["--multirun", "--config-dir", "mine", "a=1", "b=2"])
    assert known.multirun and known.config_dir == "mine" and known.overrides == ["a=1", "b=2"]
