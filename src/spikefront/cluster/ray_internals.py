"""What Ray keeps to itself and is used here: how it speaks to the terminal of whoever asked for something."""

from __future__ import annotations


def hush() -> None:
    """Keep out of the terminal what Ray's nodes say of each other's loss, dozens of lines each; its logs have it too.

    ``log_to_driver=False`` leaves out what workers print, not this.
    """
    from ray._private import worker

    worker.print_to_stdstream = lambda *_, **__: None
