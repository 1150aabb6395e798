"""Write the accuracy-energy page of one or several studies: python src/report.py study=demo output=report.html"""

from omegaconf import DictConfig

from spikefront.cli import entry


@entry("report")
def main(cfg: DictConfig) -> None:
    from spikefront.sweeping.sources import read_study
    from spikefront.tracking.report import report

    report(cfg, read_study)


if __name__ == "__main__":
    main()
