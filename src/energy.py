"""The energy table of one network: python src/energy.py model=sdt_8_512 data=imagenet checkpoint=official.pth.tar"""

import sys

from omegaconf import DictConfig

from spikefront.cli import entry


@entry("measure")
def main(cfg: DictConfig) -> None:
    from spikefront.energy import render
    from spikefront.training.measure import measure

    report = measure(cfg)
    print(render(report, cfg.format))
    if cfg.format != "table":
        for note in report.notes:
            print(f"note: {note}", file=sys.stderr)
    if report.activity is not None:
        from spikefront.tracking.activity import write_activity

        path = write_activity(report.to_dict(), report.activity, f"{cfg.output_dir}/activity.html")
        print(f"figures in {path}", file=sys.stdout if cfg.format == "table" else sys.stderr)


if __name__ == "__main__":
    main()
