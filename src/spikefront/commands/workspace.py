"""A W&B view of one or several studies: spikefront workspace <entity>/<project> <study> …"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from spikefront.errors import UserError
from spikefront.start import spelled
from spikefront.tracking.wandb.workspace import searched, workspace


def main() -> None:
    """Make the view and print its address."""
    try:
        print(view(sys.argv[1:]))
    except UserError as error:
        sys.exit(f"spikefront: {error}")


def view(arguments: Sequence[str]) -> str:
    """The address of a view of ``<entity>/<project> <study> …``, which is made."""
    entity, _, project = (arguments[0] if arguments else "").partition("/")
    if not project or len(arguments) < 2:
        raise UserError(f"usage: {spelled('workspace')} <entity>/<project> <study> [<study> …]")
    made = workspace(entity, project, arguments[1:], searched(entity, project, arguments[1:]))
    return str(made.save().url)
