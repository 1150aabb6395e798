"""Train one spiking transformer: python src/train.py model=sdt_2_256 data=digits trainer=cpu"""

from omegaconf import DictConfig

from spikefront.cli import entry


@entry("train")
def main(cfg: DictConfig) -> None:
    from spikefront.training.run import summary, train

    print(summary(train(cfg), cfg.output_dir))


if __name__ == "__main__":
    main()
