"""Look at a study and take from it: python src/study.py study=timesteps-digits-sdt_tiny action=front"""

from omegaconf import DictConfig

from spikefront.cli import entry


@entry("study")
def main(cfg: DictConfig) -> None:
    from spikefront.sweeping.inspection import inspect

    inspect(cfg)


if __name__ == "__main__":
    main()
