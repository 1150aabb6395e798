"""The five published ImageNet models of the Spike-driven Transformer: the paper's energies beside measured ones."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from spikefront.config import compose, override_parser
from spikefront.energy import EnergyReport, Paper
from spikefront.errors import UserError, near_matches
from spikefront.tracking.pages.page import PUBLISHED
from spikefront.units import joules

MODELS = ("8_384", "6_512", "8_512", "10_512", "8_768")  # of table 2, arXiv 2307.01694
CONVENTIONS = ("once", "per_timestep")
OWN = {"published", "checkpoints", "format", "model", "data", "experiment"}  # what this command says by itself
FILES = (".pth.tar", ".pth", ".pt", ".safetensors", ".ckpt", ".tar")
FORMATS = ("table", "markdown", "json")
HEADER = (
    "model",
    "parameters",
    "published",
    "first layer once",
    "first layer T times",
    "firing rate",
    "accuracy, published",
)

Measure = Callable[[DictConfig, Sequence[str]], EnergyReport]


def held_against_published(cfg: DictConfig, given: Sequence[str], measure: Measure) -> str:
    """Measure each checkpoint in ``cfg.checkpoints`` whose name has a model's sizes; a model without one is skipped.

    Args:
        given: the command line's overrides; those of samples, data, energies go to each measurement.
        measure: as ``commands.energy.measure``.

    Raises:
        UserError: no directory, none of the files, two files of one model, a format that there is not.
    """
    if cfg.format not in FORMATS:
        raise UserError(
            f"format={cfg.format} does not exist with published=…; {near_matches(str(cfg.format), FORMATS)}"
        )
    if cfg.energy.get("rate") is not None or cfg.checkpoint is not None:
        raise UserError("published=… measures the files in checkpoints=…: leave energy.rate and checkpoint out")
    files = found(cfg.checkpoints, asked(cfg.published))
    kept = [o for o in given if _key(o) not in OWN]
    table, rates, notes = [], {}, list[str]()
    for name, path in files.items():
        print(f"measuring {path}", file=sys.stderr, flush=True)
        chosen = [f"model=sdt_{name}", "data=imagenet", *kept]
        one = compose(chosen, root="measure")
        OmegaConf.update(one, "checkpoint", str(path))
        report = measure(one, chosen)
        table.append(_row(name, path, report))
        rates[name] = {x.name: x.rate for x in report.layers if x.kind in ("spikes", "attention", "pool")}
        notes += [note for note in report.notes if note not in notes]
    missing = [name for name in asked(cfg.published) if name not in files]
    if missing:
        notes.append(f"no file of {', '.join(missing)} in {cfg.checkpoints}")
    notes.append("8_768 is published at 288²; data.image_size says at what size it is measured here")
    figures = {"models": table, "rates": rates, "notes": notes}
    return json.dumps(figures, indent=2, allow_nan=False) if cfg.format == "json" else _text(figures)


def asked(published: Any) -> list[str]:
    """Names in ``MODELS`` that ``published=`` means."""
    if published == "all":
        return list(MODELS)
    known = {name.replace("_", ""): name for name in MODELS}  # Hydra reads 8_384 as a number
    given = [published] if isinstance(published, str | int) else list(published)
    names = [str(name).removeprefix("sdt_").replace("-", "").replace("_", "") for name in given]
    for name, text in zip(names, given, strict=True):
        if name not in known:
            raise UserError(
                f"published={text} is none of the paper's models; {near_matches(str(text), [*MODELS, 'all'])}"
            )
    return [known[name] for name in names]


def found(directory: Any, names: Sequence[str]) -> dict[str, Path]:
    """The file of each model, told by the two sizes in its name: ``8_384.pth.tar``, ``sdt-8-384-best.pth``."""
    if directory is None or not Path(str(directory)).is_dir():
        raise UserError(f"checkpoints={directory} is no directory: give the one with the published files")
    files = sorted(p for p in Path(str(directory)).iterdir() if p.name.endswith(FILES))
    matches = {n: [p for p in files if re.search(rf"(?<!\d){n.replace('_', '[-_x]')}(?!\d)", p.name)] for n in names}
    for name, paths in matches.items():
        if len(paths) > 1:
            raise UserError(
                f"{directory} has {len(paths)} files of {name}: {', '.join(p.name for p in paths)}; keep one"
            )
    if not any(matches.values()):
        raise UserError(
            f"{directory} has no checkpoint of {', '.join(names)}: name them by it, such as {names[0]}.pth.tar"
        )
    return {name: paths[0] for name, paths in matches.items() if paths}


def _row(name: str, path: Path, report: EnergyReport) -> dict[str, Any]:
    entries = {entry["name"]: entry for entry in yaml.safe_load(PUBLISHED.read_text(encoding="utf-8"))["imagenet"]}
    entry = entries[f"SDT {name.replace('_', '-')}"]
    ours = {c: EnergyReport(report.layers, Paper(first_layer=c), report.samples) for c in CONVENTIONS}
    return {
        "model": name,
        "file": path.name,
        "parameters": sum(layer.parameters for layer in report.layers),
        "published_joules": entry["energy"],
        "published_accuracy": entry["accuracy"],
        **{f"joules_{convention}": found.total_joules for convention, found in ours.items()},
        "firing_rate": report.firing_rate,
        "samples": report.samples,
    }


def _text(figures: dict[str, Any]) -> str:
    lines = [_pipe(HEADER), "|---|" + "--:|" * (len(HEADER) - 1)]
    for row in figures["models"]:
        published = row["published_joules"]
        energies = [f"{joules(row[f'joules_{c}'])} ({row[f'joules_{c}'] / published:.2f}×)" for c in CONVENTIONS]
        cells = (row["model"], f"{row['parameters']:,}", joules(published), *energies)
        lines.append(_pipe((*cells, f"{row['firing_rate']:.4f}", f"{100 * row['published_accuracy']:.2f} %")))
    names = list(figures["rates"])
    lines += ["", _pipe(("firing rate of what enters", *names)), "|---|" + "--:|" * len(names)]
    for layer in dict.fromkeys(layer for rates in figures["rates"].values() for layer in rates):
        each = [f"{rates[layer]:.4f}" if layer in rates else "" for rates in figures["rates"].values()]
        lines.append(_pipe((layer, *each)))
    return "\n".join([*lines, "", *(f"note: {note}" for note in figures["notes"])])


def _pipe(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _key(override: str) -> str:
    key = override_parser().parse_override(override).key_or_group
    return key if not key.startswith(("published", "checkpoints")) else key.partition(".")[0]
