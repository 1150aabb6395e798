"""Downloads: once, by one process, from whichever address has the whole file, with a clear line where none has."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import Request, urlopen

from filelock import FileLock
from torchvision.datasets.utils import check_integrity, extract_archive

from spikefront.data.own.folder import say
from spikefront.errors import UserError
from spikefront.files import writing
from spikefront.units import amount

BLOCK = 1 << 20  # bytes
PATIENCE = 60.0  # seconds without a byte
TOLD = 60.0  # seconds from one line about a long download to the next


@dataclass(frozen=True)
class Archive:
    """A file that is downloaded and unpacked where it lies, and taken as it is where it lies there already.

    Args:
        md5: what its bytes must give; a file of other bytes, one that was cut off or is empty, is fetched anew.
        folder: below the set's root.
        size: in bytes, to two digits at least; 0 where no source says it.
        mirrors: other public addresses of the same bytes, tried in turn where ``url`` fails.
    """

    url: str
    name: str
    md5: str
    folder: str = ""
    size: float = 0
    mirrors: Sequence[str] = ()

    @property
    def amount(self) -> str:
        return f"{amount(self.size)}B, " if self.size else ""

    def by_hand(self, root: Path) -> str:
        return f"{self.url} ({self.amount}MD5 {self.md5}) as {(root / self.folder / self.name).absolute()}"


def figshare(number: int, name: str, md5: str, folder: str, size: float) -> Archive:
    """A file of figshare's. Its first address is for browsers: since 2026 it gives programs no bytes and no error
    (github.com/neuromorphs/tonic/pull/337); figshare's API (docs.figshare.com) and its host for downloads do.
    """
    mirrors = (
        f"https://api.figshare.com/v2/file/download/{number}",
        f"https://ndownloader.figshare.com/files/{number}",
    )
    return Archive(f"https://figshare.com/ndownloader/files/{number}", name, md5, folder, size, mirrors)


def fetch(archives: Sequence[Archive], name: str, root: Path, expected: str, allowed: bool = True) -> None:
    """Download and unpack what the set ``name`` is made of into ``root``.

    Raises:
        UserError: it isn't ``allowed`` (``data.download=false``) or fails; says which files are ``expected`` where.
    """
    where = f"expected {expected}; put them there, or set data.root to the directory that holds them"
    if not allowed:
        raise UserError(f"{name} is not in {root.absolute()}: {where}, or download with data.download=true")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{name}.lock"):
            for archive in archives:
                _clear(root / archive.folder / archive.name)
                _obtain(archive, root / archive.folder / archive.name)
            for archive in archives:
                _unpack(root / archive.folder / archive.name)
    except Exception as error:  # whatever a network, a server or an archive can do wrong
        by_hand = f"; by hand: {', '.join(a.by_hand(root) for a in archives)}; the same command then unpacks that"
        raise UserError(
            f"{name} is not in {root.absolute()} and can't be downloaded ({_reason(error)}): {where}{by_hand}"
        ) from error


def _clear(path: Path) -> None:
    """Remove what a process left here that was killed; we hold the lock, nobody is at work on it."""
    for left in path.parent.glob(f".{path.name}.*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def _obtain(archive: Archive, path: Path) -> None:
    """The archive at ``path``, all of it: what lies there, if its checksum is right, else from the first address that
    gives such bytes."""
    if path.is_file():
        if check_integrity(str(path), archive.md5):
            return None
        say([f"{path} has {path.stat().st_size:,} bytes that aren't the archive's (MD5): fetching it anew"])
    failed = []
    for address in (archive.url, *archive.mirrors):
        say([f"downloading {archive.amount}{address} to {path}"])
        try:
            return _download(address, path, archive.md5)
        except (OSError, HTTPException, ValueError) as error:
            failed.append(f"{address}: {_reason(error)}" if archive.mirrors else _reason(error))
    raise OSError("; ".join(failed))


def _download(address: str, path: Path, md5: str) -> None:
    asked = Request(address, headers={"User-Agent": "spikefront"})
    with urlopen(asked, timeout=PATIENCE) as answer, writing(path, "wb") as file:
        found, told = hashlib.md5(usedforsecurity=False), time.monotonic()
        while block := answer.read(BLOCK):
            file.write(block)
            found.update(block)
            if time.monotonic() > told + TOLD:
                told = time.monotonic()
                say([f"{amount(file.tell())}B of {path.name} so far"])
        if found.hexdigest() != md5:
            raise OSError(f"gave {file.tell():,} bytes that aren't the archive's (MD5 {found.hexdigest()})")


def _unpack(path: Path) -> None:
    """An archive's folders beside it, each in one step; archives within it too."""
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        extract_archive(str(path), scratch)
        for inner in sorted(Path(scratch).rglob("*.zip")):
            extract_archive(str(inner), str(inner.parent))
            inner.unlink()
        for found in sorted(Path(scratch).iterdir()):
            place = path.with_name(found.name)
            if place.is_dir():  # a part of the set that lacked others: of this one it is known what it is
                shutil.rmtree(place)
            found.replace(place)


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "reason", None) or error).split()) or type(error).__name__
