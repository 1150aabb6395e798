"""A W&B view of one or several studies: python -m spikefront.commands.workspace <entity>/<project> <study> …"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from spikefront.errors import UserError
from spikefront.tracking.wandb.workspace import searched, workspace


def main(arguments: Sequence[str]) -> str:
    """Make the view; its address."""
    entity, _, project = (arguments[0] if arguments else "").partition("/")
    if not project or len(arguments) < 2:
        raise UserError("usage: python -m spikefront.commands.workspace <entity>/<project> <study> [<study> …]")
    view = workspace(entity, project, arguments[1:], searched(entity, project, arguments[1:]))
    return str(view.save().url)


if __name__ == "__main__":
    try:
        print(main(sys.argv[1:]))
    except UserError as error:
        sys.exit(f"spikefront: {error}")
