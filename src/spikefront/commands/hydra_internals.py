"""What Hydra keeps to itself and the commands need, in one place.

``tests/commands/test_hydra_internals.py`` says what has changed and what then goes wrong.
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import Override, Transformer

from spikefront.config import written


def flag_parser() -> ArgumentParser:
    """Of Hydra's own flags, ``--multirun``, ``--config-dir`` and the others, with ``overrides``."""
    return get_args_parser()


def keep_quotes() -> None:
    """Have ``-m`` write each choice as Hydra reads it: of ``choice('a#b','1')`` it forgets the quotes."""

    def text(value: Any) -> str:
        return written(value) if isinstance(value, str) else Override._get_value_element_as_str(value)

    Transformer.str = staticmethod(text)  # type: ignore[assignment, method-assign]
