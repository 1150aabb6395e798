"""What a folder of recordings or pictures holds, before training: python src/data.py ~/gestures"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from spikefront.commands.cli import entry, plain
from spikefront.config import override, override_parser, traceback_flag
from spikefront.console import console
from spikefront.errors import UserError, near_matches
from spikefront.files import cache_folder
from spikefront.start import typed

SETS = {"recordings": "event_folder", "pictures": "image_folder"}
KINDS = {option: kind for kind, option in SETS.items()}
DATA = ("sensor", "columns", "unit", "layout", "table", "window", "stride", "image_size")  # of conf/data
RECORDINGS = ("sensor", "columns", "unit", "window", "stride")


def arguments(given: Sequence[str]) -> list[str]:
    """What a user types as Hydra reads it: a path alone is ``root``, with whatever characters; settings of ``data``
    are added, as which of the two it is becomes known by looking."""
    found = []
    for argument in given:
        key, equals, value = argument.partition("=")
        if not equals or "/" in key or Path(argument).expanduser().exists():
            found.append(override("root", argument))
        elif key in ("root", "data.root"):
            found.append(f"root={value}" if _reads(value) else override("root", value))
        elif key == "data" and value in KINDS:
            found.append(f"kind={KINDS[value]}")
        else:
            found.append(f"++{argument}" if key.startswith("data.") else argument)
    return found


def _reads(value: str) -> bool:
    """Whether Hydra reads a text that is no path as it stands: it is quoted for Hydra already, or a plain one."""
    from hydra.errors import HydraException

    if Path(value).expanduser().exists():
        return False
    try:
        return isinstance(override_parser().parse_override(f"root={value}").value(), str)
    except HydraException:
        return False


@entry("look", arguments)
def main(cfg: DictConfig) -> None:
    """Look at ``root``: print what is there, or a JSON list of its files; write its card and its contact sheet.

    Raises:
        UserError: nothing there that can be read, and what ``spikefront.data.own.folder`` raises.
    """
    if not cfg["root"]:
        raise UserError(f"which folder? {typed('data', '/path/to/folder')}")
    for key, options in (("format", ("table", "json")), ("kind", ("auto", *SETS))):
        if cfg[key] not in options:
            raise UserError(f"{key}={cfg[key]} does not exist; {near_matches(str(cfg[key]), options)}")
    for key in ("timesteps", "image_size"):
        if cfg[key] is not None and not (isinstance(cfg[key], int) and not isinstance(cfg[key], bool) and cfg[key] > 0):
            raise UserError(f"{key}={cfg[key]}: give a whole number above 0")
    root = Path(str(cfg["root"])).expanduser()
    place = _place(root, cfg)
    kinds = _kinds(root, place)
    from spikefront.commands.looked import Folder, as_json

    if cfg["format"] == "json":
        as_json(root, place, kinds, cfg)
        return
    kind = _kind(kinds, cfg["kind"], root)
    files = [file for file, its in kinds.items() if its == kind]
    Folder(root, place, kind, files, _settings(cfg, kind, root), cfg).look()


def _place(root: Path, cfg: DictConfig) -> Path:
    """Where the files lie: in ``root``, beside it if it is one, or where it is unpacked."""
    from spikefront.data.own.folder import Asked

    if not root.is_dir():
        return root.parent
    return Asked(str(root), "pictures", cache=str(cfg["data"].get("cache") or cache_folder())).files


def _kinds(root: Path, place: Path) -> dict[str, str | None]:
    """Of each file whether it is a recording or a picture, by its content; None: neither."""
    from spikefront.data.own.folder import looks_like
    from spikefront.data.own.samples import files

    if not root.exists():
        raise UserError(f"{root} is not there: give the folder that holds your recordings or pictures")
    below = files(place) if root.is_dir() else [root.name]
    recording, picture = looks_like("recordings"), looks_like("pictures")

    def kind(path: Path) -> str | None:
        try:
            return "recordings" if recording(path) else "pictures" if picture(path) else None
        except OSError:
            return None  # it is said why when it is to be read

    return {file: kind(place / file) for file in below}


def _kind(kinds: dict[str, str | None], asked: str, root: Path) -> str:
    counts = Counter(kind for kind in kinds.values() if kind)
    if not counts:
        others = f": none of its {len(kinds)} files is one, {next(iter(kinds))} for one" if kinds else ": it is empty"
        raise UserError(f"{root} holds no recordings and no pictures{others} (docs/own-data.md lists what is read)")
    kind = counts.most_common(1)[0][0] if asked == "auto" else asked
    if not counts[kind]:
        raise UserError(f"{root} holds no {kind}, {counts.total()} {counts.most_common(1)[0][0]}: leave kind out")
    other = next(k for k in SETS if k != kind)
    if counts[other] and asked == "auto":
        console(stderr=True, soft_wrap=True).print(
            f"spikefront: {counts[kind]} {kind} and {counts[other]} {other}: the {kind} are looked at;"
            f" kind={other} looks at those"
        )
    return kind


def _settings(cfg: DictConfig, kind: str, root: Path) -> list[str]:
    """The overrides of ``conf/data`` that were given, ``data.root`` first."""
    task = HydraConfig.get().overrides.task
    own = [o.removeprefix("++") for o in traceback_flag(task)[0] if o.lstrip("+").startswith("data.")]
    given = {key: plain(cfg[key]) for key in DATA if cfg[key] is not None}
    for key in given:
        if kind == "pictures" and key in RECORDINGS:
            raise UserError(f"{key}={given[key]} is of recordings, and {root} holds pictures: leave it out")
    return [override("data.root", str(root.absolute())), *(override(f"data.{k}", v) for k, v in given.items()), *own]
