"""Addresses of stores that fsspec reads and writes, ``s3://bucket/sweep``, and what is wrong with one in a line.

fsspec does the transport: retries, multipart uploads, and each store's credentials, which are the environment's. None
is ever part of an address, a message or a study.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from spikefront.console import HIDDEN, PASSWORD, shown
from spikefront.errors import UserError
from spikefront.files import cache_folder, writing

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
REFUSED = ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError")
CREDENTIAL = re.compile(r"secret|token|passw|key", re.I)  # in the name of an environment variable


class Away(UserError):
    """A store that can't be reached, or refuses."""


def is_address(place: str | os.PathLike[str]) -> bool:
    """Whether a place is at an address that fsspec knows the kind of, not a path of this machine."""
    kind, colon, _ = str(place).partition("://")
    if not colon:
        return False
    import fsspec

    return kind in fsspec.available_protocols()


def local(place: str | os.PathLike[str]) -> Path:
    """Where on this machine a place is: a path itself, what lies at an address in the user's cache."""
    kind, colon, rest = str(place).partition("://")
    return cache_folder() / "sweeps" / kind / rest.strip("/") if colon else Path(place).absolute()


def beneath(place: str | os.PathLike[str], name: str) -> str:
    """The place called ``name`` in a place."""
    return f"{str(place).rstrip('/')}/{name}" if "://" in str(place) else str(Path(place).absolute() / name)


def check(address: str) -> None:
    """Refuse an address that can't be one of a sweep.

    Raises:
        UserError: one with a password, for it is kept in the study, or one that fsspec doesn't know.
    """
    if PASSWORD.search(address):
        raise UserError(
            f"search.dir={shown(address)} holds a password, and is kept in the study: leave it out, and give it to"
            " fsspec by the environment (FSSPEC_<KIND>_PASSWORD; for S3 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
        )
    if "::" in address or ".." in PurePosixPath(address).parts or not is_address(address):
        raise UserError(f"search.dir={address}: give a path or an address such as s3://bucket/sweep, gs://…, file://…")


def write(address: str, content: bytes) -> None:
    """Write a small file there, whole or not at all.

    Raises:
        Away: it can't be.
    """
    with in_a_line_of(address):
        put(*opened(address), content)


def read(address: str) -> bytes | None:
    """A small file there; None if there is none.

    Raises:
        Away: nobody can tell.
    """
    with in_a_line_of(address):
        files, path = opened(address)
        try:
            return bytes(files.cat_file(path))
        except FileNotFoundError:
            return None


def opened(address: str) -> tuple[Any, str]:
    """fsspec's file system of an address, which remembers no listing, and the path in it."""
    import fsspec

    files, path = fsspec.core.url_to_fs(address, use_listings_cache=False)
    return files, str(path).rstrip("/")


def make_folder(files: Any, path: str) -> None:
    """Make the folder that a file shall lie in; buckets have none, and must not be made by a misspelled name."""
    if not EXTRAS.keys() & ({files.protocol} if isinstance(files.protocol, str) else {*files.protocol}):
        files.makedirs(path.rpartition("/")[0], exist_ok=True)


def put(files: Any, path: str, content: bytes) -> None:
    """Write a small file in one step: object stores do, on a disk it is put into its place."""
    make_folder(files, path)
    if "file" not in files.protocol:
        files.pipe_file(path, content)
        return
    with writing(path, "wb", durable=True) as file:
        file.write(content)


def is_final(error: BaseException) -> bool:
    """Whether waiting doesn't mend what is wrong with a store."""
    kinds = (UserError, PermissionError, FileNotFoundError, ImportError)
    return isinstance(error, kinds) or type(error).__name__ in REFUSED


@contextlib.contextmanager
def in_a_line_of(address: str) -> Iterator[None]:
    """Context in which what is wrong with a store is raised as ``Away``."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise Away(line(error, address)) from error


def line(error: BaseException, address: str) -> str:
    """What is wrong with the store at an address, and what to do."""
    extra = EXTRAS.get(address.partition("://")[0])
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, ImportError):
        cure = f"pip install 'spikefront[{extra}]'" if extra else _without_credentials(str(error))
        return f"{address} needs a package that is missing: {cure}"
    reason = _without_credentials(" ".join(str(error).split()) or type(error).__name__)[:200]
    if isinstance(error, PermissionError) or type(error).__name__ in REFUSED:
        theirs = " (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws)" if extra == "s3" else ""
        return f"{address} refuses what is asked ({reason}): give credentials that may read and write{theirs}"
    if isinstance(error, FileNotFoundError):
        return f"{address} can't be used ({reason}): is the bucket there, and spelled so?"
    return f"{address} can't be reached ({reason}): the same command continues when it can"


def _without_credentials(text: str) -> str:
    """A driver's words without what stands in the environment as a key or a password."""
    for name, value in os.environ.items():
        if CREDENTIAL.search(name) and len(value) > 7:
            text = text.replace(value, HIDDEN)
    return shown(text)
