"""A folder of this machine whose files also lie at an address (``s3://bucket/sweep``), where no disk is shared.

Lightning writes checkpoints to fsspec's addresses too, but each for itself: nothing says that what lies there is of one
moment and whole, it is found by listing, and training waits for the network. Here a manifest, written last, names the
files of one moment with their sizes and hashes; each is an object of its own, so what a manifest names is never written
over.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock

from spikefront.cluster.stores import Away, in_a_line_of, is_final, line, make_folder, opened, put
from spikefront.files import write_atomically, writing

MANIFEST = "manifest.json"
OWN = ".mirror.json"  # the manifest that a folder was last the same as
PATIENCE = 300.0  # seconds that a store may be away before its trial is given back
PAUSES = (0.5, 2.0, 5.0, 15.0, 30.0)  # seconds between tries to read, beside fsspec's own
DROPPED = ("latest-run", "debug.log", "debug-internal.log", "debug-core.log")  # W&B's links and its talk to itself


class NotOurs(Away):
    """Another has the folder by now."""


class Mirror:
    """A folder here and what lies of it at an address.

    Args:
        owner: whose it is, a study's token: what another left at the same address is none of ours.
        mine: whether what is here may be written there; another machine may have been given the work.
    """

    def __init__(self, folder: Path, address: str, owner: str, mine: Callable[[], bool] = lambda: False) -> None:
        self.folder, self.address, self._owner, self._mine = folder, address, owner, mine
        self._thread = ThreadPoolExecutor(1, "mirror")
        self._last: Future[None] | None = None
        self._waiting: Path | None = None
        self._sent: set[str] = set()  # objects that were written from here
        self._known = threading.Lock()
        self._said = False

    def fetch(self) -> None:
        """Make the folder what the address has, unless it is what was last written there, or further.

        Raises:
            Away: it can't be read, or is not what its manifest says.
        """
        with self._alone():
            if self._mine():  # what a process left that was killed as it sent it
                for scratch in self.folder.parent.glob(f".{self.folder.name}.*"):
                    shutil.rmtree(scratch, ignore_errors=True)
            self._patiently(self._take)

    def fetch_one(self, name: str) -> None:
        """Bring one file of what the address has, if it is there, and leave the others as they are.

        Raises:
            Away: it can't be read, or is not what the manifest says.
        """

        def take(files: Any, root: str) -> None:
            if (told := self._manifest(files, root).get("files", {}).get(name)) is not None:
                self._get(files, root, name, told)

        self._patiently(take)

    def _patiently(self, take: Callable[[Any, str], None]) -> None:
        with in_a_line_of(self.address):
            for pause in (*PAUSES, None):
                try:
                    take(*opened(self.address))
                    break
                except Exception as error:  # a file may be gone, as another was written since its manifest was read
                    if pause is None or (is_final(error) and not isinstance(error, FileNotFoundError)):
                        raise
                    time.sleep(pause)

    def push(self) -> None:
        """Have the folder as it is now written there, in a thread; of those that wait only the newest is."""
        if self._last is not None and self._last.done() and (error := self._last.exception()) and not self._said:
            self._said = True
            print(f"spikefront: {line(error, self.address)}; the trial goes on", file=sys.stderr, flush=True)
        snapshot = self._snapshot()
        with self._known:
            before, self._waiting = self._waiting, snapshot
            if before is None:
                self._last = self._thread.submit(self._send_newest)
        if before is not None:
            shutil.rmtree(before, ignore_errors=True)

    def settle(self, patience: float = PATIENCE) -> None:
        """Write what the folder is now, and wait until it is there.

        Raises:
            Away: it is not, ``patience`` seconds later.
            NotOurs: another has the folder.
        """
        until, pause, self._said = time.monotonic() + patience, 1.0, True
        with in_a_line_of(self.address):
            while True:
                self.push()
                assert self._last is not None
                try:
                    self._last.result()
                    return
                except Exception as error:
                    if time.monotonic() + pause > until or is_final(error):
                        raise
                time.sleep(pause)
                pause = min(2 * pause, 30.0)

    def sweep_up(self) -> None:
        """Remove what no manifest names any more, when nobody writes there; what is left costs room only."""
        with contextlib.suppress(Exception):
            files, root = opened(self.address)
            kept = {f"{root}/{MANIFEST}"} | {f"{root}/{f['object']}" for f in self._own()["files"].values()}
            for path in set(files.find(root)) - kept:
                files.rm_file(path)

    def _send_newest(self) -> None:
        with self._known:
            snapshot, self._waiting = self._waiting, None
        assert snapshot is not None
        try:
            self._send(snapshot)
        finally:
            shutil.rmtree(snapshot, ignore_errors=True)

    def _send(self, snapshot: Path) -> None:
        files, root = opened(self.address)
        before: Mapping[str, Any] = self._own().get("files", {})
        named: dict[str, dict[str, Any]] = {}
        for path in sorted(p for p in snapshot.rglob("*") if p.is_file()):
            name = path.relative_to(snapshot).as_posix()
            content = {"sha256": _digest(path), "size": path.stat().st_size}
            known = before.get(name, {})
            if {k: known.get(k) for k in content} == content:
                named[name] = known
                continue
            place = f"{name}.{secrets.token_hex(4)}"
            make_folder(files, f"{root}/{place}")
            files.put_file(str(path), f"{root}/{place}")
            if files.size(f"{root}/{place}") != content["size"]:
                raise OSError(f"{name} arrived cut off")
            self._sent.add(place)
            named[name] = {**content, "object": place}
        manifest = {"format": 1, "owner": self._owner, "id": secrets.token_hex(8), "files": named}
        with self._alone():
            try:
                mine = self._mine()
            except Exception as error:  # the study's storage, of which its own line is said
                raise NotOurs(f"nobody tells whose {self.address} is by now") from error
            if not mine:
                raise NotOurs(f"{self.address} is another worker's by now")
            put(files, f"{root}/{MANIFEST}", json.dumps(manifest).encode())
            write_atomically(self.folder / OWN, json.dumps(manifest))
        for place in self._sent - {f["object"] for f in named.values()}:  # another's may yet be another's
            with contextlib.suppress(Exception):
                files.rm_file(f"{root}/{place}")
            self._sent.discard(place)

    def _take(self, files: Any, root: str) -> None:
        manifest = self._manifest(files, root)
        if manifest and manifest["id"] == self._own().get("id"):
            return
        named = manifest.get("files", {})
        (self.folder / OWN).unlink(missing_ok=True)  # from here on it is neither
        for name, told in named.items():
            self._get(files, root, name, told)
        for path in self.folder.rglob("*"):
            if not path.is_dir() and path.relative_to(self.folder).as_posix() not in named:
                path.unlink()
        if manifest:
            write_atomically(self.folder / OWN, json.dumps(manifest))

    def _get(self, files: Any, root: str, name: str, told: Mapping[str, Any]) -> None:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise Away(f"{self.address}: its {MANIFEST} names {name}, a file elsewhere: it is damaged or forged")
        path = self.folder / name
        if path.is_file() and path.stat().st_size == told["size"] and _digest(path) == told["sha256"]:
            return
        with writing(path, "wb") as file:
            files.get_file(f"{root}/{told['object']}", file.name)
            if _digest(Path(file.name)) != told["sha256"]:
                raise OSError(f"{name} is not what its {MANIFEST} says")

    def _manifest(self, files: Any, root: str) -> Mapping[str, Any]:
        try:
            found = json.loads(files.cat_file(f"{root}/{MANIFEST}"))
            return found if found["owner"] == self._owner else {}
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError) as error:
            raise Away(f"{self.address}/{MANIFEST} is damaged ({error}): remove it to begin its trial anew") from error

    def _own(self) -> Mapping[str, Any]:
        try:
            found: Mapping[str, Any] = json.loads((self.folder / OWN).read_text(encoding="utf-8"))
            return found
        except (OSError, ValueError):
            return {}

    def _snapshot(self) -> Path:
        """The folder at this moment: checkpoints, which are put in place whole, as links; what grows as a copy."""
        scratch = self.folder.with_name(f".{self.folder.name}.{os.getpid()}-{secrets.token_hex(4)}")
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder)
            if path.is_symlink() or not path.is_file() or path.name in (OWN, *DROPPED) or path.suffix == ".tmp":
                continue
            target = scratch / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                (_link if path.suffix == ".ckpt" else shutil.copy2)(path, target)
        scratch.mkdir(parents=True, exist_ok=True)
        return scratch

    def _alone(self) -> FileLock:
        """Context for what makes the folder the same as a manifest: readers on this machine may do it too."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder.with_name(f"{self.folder.name}.lock"))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _link(path: Path, target: Path) -> None:
    try:
        target.hardlink_to(path)
    except OSError:  # a file system without links
        shutil.copy2(path, target)
