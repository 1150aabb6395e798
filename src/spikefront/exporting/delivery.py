"""``export(cfg)``: a trained network into a folder, in the form that another tool reads, whole or not at all."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from spikefront.errors import UserError
from spikefront.exporting import module_of
from spikefront.exporting.hub import check_address, push
from spikefront.exporting.origin import Origin
from spikefront.files import writing_folder
from spikefront.training.devices import threads

FILE = "export.json"
SAMPLES = 8  # to trace with
GIVEN = ("origin", "format")  # to a format that has a use for them


def export(cfg: DictConfig) -> dict[str, Any]:
    """Write ``cfg.checkpoint``'s network as ``cfg.format`` into ``cfg.directory``; what ``export.json`` there says.

    Raises:
        UserError: no such format or option, a checkpoint that can't be used, a folder that isn't empty, a network that
            the format can't hold.
    """
    write, options = chosen(str(cfg.format), cfg.get("options"))
    if cfg.get("push") is not None:
        check_address(str(cfg.push), str(cfg.format))
    with threads(cfg.get("threads")), writing_folder(cfg.directory) as folder:
        origin = Origin(cfg)
        model = origin.model()
        given = {"origin": origin, "format": cfg.format}
        taken = inspect.signature(write).parameters
        told = write(model, origin.sample(SAMPLES), folder, **{k: v for k, v in given.items() if k in taken}, **options)
        written = {path.relative_to(folder).as_posix(): path.stat().st_size for path in _files(folder)}
        said = {"format": cfg.format, "checkpoint": origin.checkpoint, "member": origin.member, **told}
        said["files"] = written
        (folder / FILE).write_text(json.dumps(said, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if cfg.get("push") is not None:
        said["lines"] = [*said.get("lines", []), push(str(cfg.push), Path(cfg.directory))]
    return said


def chosen(name: str, options: Any = None) -> tuple[Callable[..., dict[str, Any]], dict[str, Any]]:
    """The function that writes a format, and its options.

    Raises:
        UserError: no such format, or no such option of it.
    """
    write = importlib.import_module(module_of(name)).write
    plain: Any = OmegaConf.to_container(options, resolve=True) if OmegaConf.is_config(options) else options
    if not isinstance(plain or {}, Mapping):
        raise UserError(f"options={plain}: give keys of the format, such as options={{name: value}}")
    parameters = inspect.signature(write).parameters.values()
    known = {p.name for p in parameters if p.default is not p.empty} - {*GIVEN}
    for key in plain or {}:
        if key not in known:
            has = f"its options are {', '.join(sorted(known))}" if known else "it has no options"
            raise UserError(f"options.{key}: format={name} has no such option; {has}")
    return write, dict(plain or {})


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
