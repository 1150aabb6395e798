"""The accuracy-energy page of one or several studies: python src/report.py study=demo output=report.html"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from spikefront.analysis.compare import parameters
from spikefront.analysis.schema import StudyRecord
from spikefront.commands.cli import entry
from spikefront.config import compose, override_parser
from spikefront.console import WIDE
from spikefront.console import console as plain_console
from spikefront.errors import UserError, near_matches


@entry("report")
def main(cfg: DictConfig) -> None:
    """Write the accuracy-energy page of one or several studies, or serve it under ``watch=true``.

    Raises:
        UserError: a study that doesn't exist or can't be read, and what ``write_report`` raises.
    """
    from spikefront.sweeping.study import sources
    from spikefront.sweeping.study.study import finder
    from spikefront.tracking.pages.comparison import told_differences, told_volumes
    from spikefront.tracking.pages.page import write_report

    asked = [cfg["study"]] if isinstance(cfg["study"], str) else list(cfg["study"])

    told: list[Any] = []
    conventions = _conventions(cfg)

    def read() -> list[StudyRecord]:
        found: list[StudyRecord] = []
        finders: list[Any] = []  # of each study's files
        for source in map(str, asked):
            if source.startswith("wandb:"):
                from spikefront.tracking.wandb.project import project_records

                found.extend(project_records(source.removeprefix("wandb:")))
                finders += [_nowhere] * (len(found) - len(finders))
            else:
                studies = sources.open_studies(source, dir=cfg["dir"], storage=cfg["storage"])
                found.extend(sources.read(study, importance=True) for study in studies)
                finders.extend(map(finder, studies))
        told[:] = map(_line, found)
        if conventions:
            found = _recosted(found, finders, conventions, told)
        if differing := told_differences(found):
            told.extend(["settings that differ:", *(f"  {line}" for line in differing)])
        told.extend(told_volumes(found))
        if cfg["by"] is None:
            return found
        several = [found[i :: len(conventions)] for i in range(len(conventions))] if conventions else [found]
        return [r for one in several for r in _compared(one, str(cfg["by"]), told)]  # each convention for itself

    if cfg["watch"]:
        from spikefront.tracking.pages.live import LiveReport

        live = LiveReport(read, cfg["published"], int(cfg["port"]))
        print(f"{live.url}  (this machine only; Ctrl-C ends it)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            live.serve()
        return
    path = write_report(read(), cfg["output"], cfg["published"])
    console = plain_console(soft_wrap=True, width=WIDE)  # a figure that is cut is none
    for line in told:
        console.print(line)
    print(f"report in {path}")
    if cfg["image"]:
        from spikefront.tracking.pages.picture import write_picture

        print(f"front in {write_picture(path, cfg['image'])}")


def _conventions(cfg: DictConfig) -> dict[str, Any]:
    """The options of ``conf/energy`` that are asked for, each with its node; of one as the command line changes it."""
    given = [override_parser().parse_override(o) for o in HydraConfig.get().overrides.task]
    chosen: list[Any] = [o.value() for o in given if o.key_or_group == "energy"]
    names = chosen[-1] if chosen and chosen[-1] not in (None, "null") else []
    if isinstance(names, str):
        return {names: cfg["energy"]}
    return {name: compose([f"energy={name}"])["energy"] for name in names}


def _nowhere(number: int, name: str) -> None:
    """Where W&B has a trial's files."""


def _recosted(
    found: list[StudyRecord], finders: list[Any], conventions: dict[str, Any], told: list[Any]
) -> list[StudyRecord]:
    from spikefront.commands.recost import changes, recosted  # loads PyTorch

    anew = [
        (study, recosted(study, name, node, find))
        for study, find in zip(found, finders, strict=True)
        for name, node in conventions.items()
    ]
    told.extend(line for before, after in anew for line in changes(before, after))
    return [after for _, after in anew]


def _compared(found: list[StudyRecord], by: str, told: list[Any]) -> list[StudyRecord]:
    from spikefront.tracking.pages.comparison import comparison

    try:
        shown, lines = comparison(found, by)
    except KeyError as error:
        raise UserError(f"by={by}: no study has it; {near_matches(by, parameters(found))}") from error
    told.extend([found[0]["convention"] or "", *lines])
    return shown


def _line(records: StudyRecord) -> str:
    states = Counter(t["state"] for t in records["trials"])
    counts = ", ".join(f"{n} {state}" for state, n in states.items())
    return f"{records['study']}: {counts}; {len(records['front'])} points on the front"
