"""The accuracy-energy page of one or several studies: python src/report.py study=demo output=report.html"""

from __future__ import annotations

import contextlib
from collections import Counter

from omegaconf import DictConfig

from spikefront.analysis.schema import StudyRecord
from spikefront.commands.cli import entry


@entry("report")
def main(cfg: DictConfig) -> None:
    """Write the accuracy-energy page of one or several studies, or serve it under ``watch=true``.

    Raises:
        UserError: a study that doesn't exist or can't be read, and what ``write_report`` raises.
    """
    from spikefront.sweeping.study.sources import read_study
    from spikefront.tracking.pages.page import write_report

    sources = [cfg["study"]] if isinstance(cfg["study"], str) else list(cfg["study"])

    def read() -> list[StudyRecord]:
        found: list[StudyRecord] = []
        for source in map(str, sources):
            if source.startswith("wandb:"):
                from spikefront.tracking.wandb.project import project_records

                found.extend(project_records(source.removeprefix("wandb:")))
            else:
                found.extend(read_study(source, dir=cfg["dir"], storage=cfg["storage"], importance=True))
        return found

    if cfg["watch"]:
        from spikefront.tracking.pages.live import LiveReport

        live = LiveReport(read, cfg["published"], int(cfg["port"]))
        print(f"{live.url}  (this machine only; Ctrl-C ends it)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            live.serve()
        return
    studies = read()
    path = write_report(studies, cfg["output"], cfg["published"])
    print("\n".join(_line(s) for s in studies))
    print(f"report in {path}")
    if cfg["image"]:
        from spikefront.tracking.pages.picture import write_picture

        print(f"front in {write_picture(path, cfg['image'])}")


def _line(records: StudyRecord) -> str:
    states = Counter(t["state"] for t in records["trials"])
    counts = ", ".join(f"{n} {state}" for state, n in states.items())
    return f"{records['study']}: {counts}; {len(records['front'])} points on the front"
