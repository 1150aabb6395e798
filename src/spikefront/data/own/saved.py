"""What Hugging Face's ``datasets`` saved (``save_to_disk``), unpacked into a folder of pictures and a table of them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from PIL import Image

from spikefront.data.own.rows import NAMES, PARTS
from spikefront.errors import UserError

TABLE = "metadata.csv"
SEVERAL = "dataset_dict.json"  # a mapping of splits, each saved in a directory below
ONE = ("state.json", "dataset_info.json")


def is_saved(root: Path) -> bool:
    """Whether a directory is one that ``datasets`` saved."""
    return (root / SEVERAL).is_file() or all((root / name).is_file() for name in ONE)


def unpacked(root: Path, cache: Path) -> Path:
    """The folder below ``cache`` with the pictures of a saved directory and ``metadata.csv``, written the first time.

    Raises:
        UserError: ``datasets`` isn't installed or can't read it; no column of pictures or of labels, or several; a row
            without a label; a split that is no part.
    """
    state = sorted((str(p.relative_to(root)), p.stat().st_size, p.stat().st_mtime_ns) for p in _stored(root))
    name = hashlib.sha256(json.dumps([str(root.absolute()), state]).encode()).hexdigest()[:12]
    folder = cache / "folders" / f"{root.name or 'root'}-{name}-saved"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():  # another process may have been faster
            work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
            try:
                _unpack(root, work, folder)
                work.rename(folder)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    return folder


def _stored(root: Path) -> Iterator[Path]:
    yield from (path for suffix in ("json", "arrow") for path in root.rglob(f"*.{suffix}"))


def _unpack(root: Path, work: Path, folder: Path) -> None:
    print(f"spikefront: unpacking the saved data set {root} into {folder}, once", file=sys.stderr, flush=True)
    with open(work / TABLE, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "label", "split"])
        for split, dataset in _loaded(root).items():
            part = PARTS.get(split.casefold(), "") if split else ""
            if split and not part:
                raise UserError(
                    f"{root}: its split {split!r} is none of train, validation, test: delete it, save again"
                )
            (work / split).mkdir(exist_ok=True)
            for number, (content, label) in enumerate(_rows(dataset, f"{root / split}")):
                name = f"{split}/{number:07d}{_suffix(content)}".lstrip("/")
                (work / name).write_bytes(content)
                table.writerow([name, label, part])


def _loaded(root: Path) -> dict[str, Any]:
    """Its data sets by the name of their split, "" where there is but one."""
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            f"{root} was saved by Hugging Face's datasets: pip install 'spikefront[datasets]' to read it"
        ) from error
    datasets.disable_progress_bars()
    try:
        found = datasets.load_from_disk(str(root))
    except Exception as error:  # whatever pyarrow makes of a damaged file
        raise UserError(f"{root} can't be read by datasets: {str(error).strip().splitlines()[0]}") from error
    return dict(found) if isinstance(found, datasets.DatasetDict) else {"": found}


def _rows(dataset: Any, where: str) -> Iterator[tuple[bytes, str]]:
    """Of each row the picture's file and its class's name."""
    from datasets import ClassLabel, Value
    from datasets import Image as Picture

    features: Mapping[str, Any] = dataset.features
    picture = _only("pictures", [n for n, f in features.items() if isinstance(f, Picture)], features, where)
    named = [n for n, f in features.items() if isinstance(f, ClassLabel)]
    others = [n for n, f in features.items() if isinstance(f, Value) and n.casefold() in (*NAMES["label"], "labels")]
    label = _only("labels", named or others, features, where)
    names = getattr(features[label], "names", None)
    rows = dataset.select_columns([picture, label]).cast_column(picture, Picture(decode=False))
    for number, row in enumerate(rows):
        value, content = row[label], row[picture] or {}
        if value is None or (names and value < 0):
            raise UserError(f"{where}: row {number} has no label: take such rows, or this split, out and save it again")
        if (found := content.get("bytes")) is None:
            try:
                found = Path(content["path"]).read_bytes()
            except (OSError, KeyError, TypeError) as error:
                raise UserError(f"{where}: row {number} has no picture ({error})") from error
        yield found, names[value] if names else str(value)


def _only(what: str, columns: list[str], features: Mapping[str, Any], where: str) -> str:
    if len(columns) == 1:
        return columns[0]
    if columns:
        told = (
            f"{len(columns)} columns of {what}, {' and '.join(columns)}: remove_columns all but one, and save it again"
        )
    else:
        told = f"no column of {what} among {', '.join(features)}"
    raise UserError(f"{where} has {told}")


def _suffix(content: bytes) -> str:
    try:
        return f".{(Image.open(io.BytesIO(content)).format or '').casefold()}".rstrip(".")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""
