"""Which format a file is of, by its content, and its reader."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

from spikefront.data.formats.aedat2 import open_aedat2
from spikefront.data.formats.aedat4 import open_aedat4
from spikefront.data.formats.aedat31 import open_aedat31
from spikefront.data.formats.arrays import open_npy, open_npz
from spikefront.data.formats.dat import is_dat, open_dat
from spikefront.data.formats.decoded import Declared, Decoded
from spikefront.data.formats.hdf5 import open_hdf5
from spikefront.data.formats.lines_of_text import HEAD, is_text, open_text
from spikefront.data.formats.matlab import open_matlab
from spikefront.data.formats.raw import kind, lines_of, open_raw
from spikefront.data.formats.refused import BadRecording
from spikefront.data.formats.saccade_bin import is_saccade_bin, open_saccade_bin

READERS: dict[str, Callable[[Path, Declared], Decoded]] = {
    "evt2": open_raw,
    "evt3": open_raw,
    "dat": open_dat,
    "aedat2": open_aedat2,
    "aedat3.1": open_aedat31,
    "aedat4": open_aedat4,
    "n_mnist": open_saccade_bin,
    "mat": open_matlab,
    "npz": open_npz,
    "npy": open_npy,
    "text": open_text,
    "hdf5": open_hdf5,
}
SUFFIXES = {".raw", ".dat", ".aedat", ".aedat2", ".aedat4", ".bin", ".mat", ".npz", ".npy", ".h5", ".hdf5"}
MAGIC = {
    b"#!AER-DAT2": "aedat2",
    b"#!AER-DAT3.1": "aedat3.1",
    b"#!AER-DAT4.0": "aedat4",
    b"\x93NUMPY": "npy",
    b"\x89HDF\r\n\x1a\n": "hdf5",
    b"MATLAB 5.0 MAT-file": "mat",
    b"MATLAB 7.3 MAT-file": "mat",
}


def is_empty(path: Path) -> bool:
    """Whether a file is named as a recording is and holds nothing: one whose writing failed."""
    return path.suffix.casefold() in SUFFIXES and path.stat().st_size == 0


def sniff(path: Path | str) -> str | None:
    """A recording's format by its content, a key of ``READERS``; None: it is not a recording of any."""
    path = Path(path)
    with open(path, "rb") as file:
        head = file.read(HEAD)
    for magic, name in MAGIC.items():
        if head.startswith(magic):
            return name
    if head.startswith(b"PK\x03\x04"):
        return "npz" if _holds_arrays(path, head) else None
    if head.startswith(b"%"):
        return _with_header(head)
    if head and is_text(head):
        return "text"
    return "n_mnist" if is_saccade_bin(path) else None


def _holds_arrays(path: Path, head: bytes) -> bool:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        return bool(names) and all(name.endswith(".npy") for name in names)
    return b".npy" in head[:300]  # cut short: its first member's name is left


def _with_header(head: bytes) -> str | None:
    """Prophesee's files, and text with comments; a header that is cut short is one all the same."""
    try:
        lines, _ = lines_of(head)
    except BadRecording:
        lines = [line.lstrip("% ") for line in head.decode("utf-8", "replace").splitlines()]
    name = kind(lines)
    if name in READERS:
        return name
    if name is None and is_dat(lines):
        return "dat"
    if is_text(head):
        return "text"
    return "evt3" if name else None  # another EVT, which the reader refuses by its name


def open_recording(path: Path | str, declared: Declared = Declared()) -> Decoded:  # noqa: B008  # frozen
    """A recording of any format of ``READERS``, its header read.

    Raises:
        BadRecording: it is none of them, damaged, or doesn't say what ``declared`` leaves out.
    """
    path = Path(path)
    try:
        name = sniff(path)
        if name is None:
            raise BadRecording(_unknown(path))
        return READERS[name](path, declared)
    except OSError as error:
        raise BadRecording(f"can't be read: {error.strerror or error}") from error


def _unknown(path: Path) -> str:
    with open(path, "rb") as file:
        head = file.read(16)
    if not head:
        return "the file is empty"
    return f"not a recording of a known format: it begins with {head[:12]!r} (known: {', '.join(READERS)})"
