"""The parts of a run that W&B wrote offline, put into one file.

A run that goes on after a stop, or where W&B's own process was killed, gets a second directory. ``wandb sync`` takes
the summary of the part that it is sent last, and leaves out what follows a part that is cut off: so there is one only.
"""

from __future__ import annotations

import json
import shutil
import struct
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

from spikefront.files import writing

# W&B's transaction log: seven bytes, then LevelDB's log format (its log_format.md) with zlib's CRC32.
BEGIN = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
BLOCK = 1 << 15
HEADER = struct.Struct("<IHB")  # CRC32 of kind and bytes, their number, kind
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
ENDS = ("exit", "final", "footer", "preempting")


def join(last: Path, patience: float) -> None:
    """Put the earlier parts of a run into the file of its last, ended, offline one, and remove them.

    Of a part that the server has (``wandb sync`` sent it, or it was online) only the summary is taken, and it stays.

    Args:
        last: the part's directory, ``…/wandb/offline-run-<time>-<id>``.
        patience: seconds to wait for its end; without one, as where W&B's process was killed again, parts stay apart.
    """
    (own,) = last.glob("*.wandb")
    files = [*(f for f in parts(last.parent, _id(own)) if f != own), own]
    if _sent(own) or len(files) == 1:
        return
    until = time.monotonic() + patience
    while not any(_kind(r) == "exit" for r in read(own)):  # W&B's process writes it after ``finish`` has returned
        if time.monotonic() > until:
            return
        time.sleep(0.05)
    records, joined = list(whole(files)), [f.parent for f in files[:-1] if not _sent(f)]
    for part in joined:
        if (part / "files").is_dir():
            shutil.copytree(part / "files", last / "files", dirs_exist_ok=True)
    _write(own, records)
    for part in joined:
        shutil.rmtree(part)


def amend(directory: Path, run: str, summary: Mapping[str, Any]) -> None:
    """Set values of an ended run's summary, offline: in its last part, or where the server has that, in one more.

    Args:
        directory: where the run's ``wandb`` folder lies; nothing is done where it has no part of this run.
        run: its id.
    """
    files = parts(directory / "wandb", run)
    if not files:
        return
    records = list(whole(files[-1:], rows=not _sent(files[-1])))
    added = Record(num=len(records) + 1)
    for key, value in summary.items():
        added.summary.update.add(key=key, value_json=json.dumps(value))
    at = next((i for i, r in enumerate(records) if _kind(r) in ENDS), len(records))
    file = files[-1]
    if _sent(file):
        name = f"offline-run-{time.strftime('%Y%m%d_%H%M%S')}-{run}"
        places = (file.parents[1] / f"{name}{after}" for after in ("", *(f"-{i}" for i in range(1, 99))))
        file = next(p for p in places if not p.exists()) / file.name
    _write(file, [*records[:at], added, *records[at:]])


def parts(directory: Path, run: str) -> list[Path]:
    """The files of a run's parts in a ``wandb`` folder, oldest first."""
    return sorted((f for f in directory.glob("*run-*/*.wandb") if _id(f) == run), key=_begun)


def whole(files: list[Path], rows: bool = True) -> Iterator[Any]:
    """The records of a run's parts, oldest first, as if W&B had written them into one file.

    Args:
        rows: False: of the last one too only the summary.
    """
    number, end = 0, {"_step": 0, "_runtime": 0}
    for file in files:
        begin, last = dict(end), file == files[-1]
        only_summary = not rows if last else _sent(file)
        for record in read(file):
            kind = _kind(record)
            if (kind in ENDS and not last) or (kind == "header" and number):
                continue
            if only_summary and kind not in ("header", "run", "summary", *ENDS):
                continue
            if kind == "history" and record.history.HasField("step"):
                record.history.step.num += begin["_step"]
            for item in {"history": record.history.item, "summary": record.summary.update}.get(kind, ()):
                key = item.key or "/".join(item.nested_key)
                if key in end and not only_summary:  # the server counts on from what it has
                    value = json.loads(item.value_json) + begin[key]
                    item.value_json, end[key] = json.dumps(value), max(end[key], value + (key == "_step"))
            number += 1
            record.num = number
            yield record


def read(file: Path) -> Iterator[Any]:
    """The records of one of W&B's files, up to where it is cut off."""
    data, at, record = file.read_bytes(), len(BEGIN), b""
    while at + HEADER.size <= len(data):
        if (left := BLOCK - at % BLOCK) < HEADER.size:
            at += left
            continue
        crc, size, kind = HEADER.unpack_from(data, at)
        part = data[at + HEADER.size : at + HEADER.size + size]
        if len(part) < size or crc != zlib.crc32(part, zlib.crc32(bytes([kind]))):
            return
        at += HEADER.size + size
        record = part if kind in (FULL, FIRST) else record + part
        if kind in (FULL, LAST):
            yield Record.FromString(record)


def _write(path: Path, records: Iterable[Any]) -> None:
    data = bytearray(BEGIN)
    for record in records:
        rest, first = record.SerializeToString(), True
        while first or rest:
            if (left := BLOCK - len(data) % BLOCK) < HEADER.size:
                data += bytes(left)
                continue
            part, rest = rest[: left - HEADER.size], rest[left - HEADER.size :]
            kind = (FIRST if rest else FULL) if first else (MIDDLE if rest else LAST)
            data += HEADER.pack(zlib.crc32(part, zlib.crc32(bytes([kind]))), len(part), kind) + part
            first = False
    with writing(path, "wb") as file:
        file.write(data)


def _id(file: Path) -> str:
    return file.stem.removeprefix("run-")


def _begun(file: Path) -> tuple[str, int]:
    """When a part began: ``[offline-]run-<time>-<id>``, and ``-<i>`` for those that begin in the same second."""
    begun, _, more = file.parent.name.removeprefix("offline-").removeprefix("run-").partition(f"-{_id(file)}")
    return begun, int(more.removeprefix("-") or 0)


def _sent(file: Path) -> bool:
    return file.parent.name.startswith("run-") or file.with_name(f"{file.name}.synced").exists()


def _kind(record: Any) -> str:
    return record.WhichOneof("record_type")
