"""Downloads: once, by one process, with a clear line where one isn't possible."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from spikefront.errors import UserError
from spikefront.units import amount


@dataclass(frozen=True)
class Archive:
    """A file that a download gets, as its library names it: it is taken as it is where it lies there already.

    Args:
        folder: below the set's root.
        size: in bytes, to three digits at least; 0 where no source says it.
    """

    url: str
    name: str
    md5: str
    folder: str = ""
    size: float = 0

    def by_hand(self, root: Path) -> str:
        size = f"{amount(self.size)}B, " if self.size else ""
        return f"{self.url} ({size}MD5 {self.md5}) as {(root / self.folder / self.name).absolute()}"


def fetch(
    download: Callable[[], object],
    name: str,
    root: Path,
    expected: str,
    archives: Sequence[Archive] = (),
    allowed: bool = True,
) -> None:
    """Run ``download``, which gets the set ``name`` into ``root`` and returns at once if it is there.

    Args:
        archives: what it downloads and unpacks.

    Raises:
        UserError: it isn't ``allowed`` (``data.download=false``) or fails; says which files are ``expected`` where.
    """
    where = f"expected {expected}; put them there, or set data.root to the directory that holds them"
    if not allowed:
        raise UserError(f"{name} is not in {root.absolute()}: {where}, or download with data.download=true")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{name}.lock"), redirect_stdout(sys.stderr):
            download()
    except Exception as error:  # whatever a network, a server or an archive can do wrong
        reason = str(getattr(error, "reason", None) or error).strip() or type(error).__name__
        by_hand = f"; by hand: {', '.join(a.by_hand(root) for a in archives)}; the same command then unpacks that"
        raise UserError(
            f"{name} is not in {root.absolute()} and can't be downloaded ({reason}): {where}{by_hand}"
        ) from error
