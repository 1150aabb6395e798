"""What Hydra keeps to itself and the commands need, in one place.

``tests/commands/test_hydra_internals.py`` says what has changed and what then goes wrong.
"""

from __future__ import annotations

from argparse import ArgumentParser

from hydra._internal.utils import get_args_parser


def flag_parser() -> ArgumentParser:
    """Of Hydra's own flags, ``--multirun``, ``--config-dir`` and the others, with ``overrides``."""
    return get_args_parser()
