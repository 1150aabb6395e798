"""Train one spiking transformer: python src/train.py model=sdt_2_256 data=digits trainer=cpu"""

from omegaconf import DictConfig

from spikefront.cli import entry


@entry("train")
def main(cfg: DictConfig) -> None:
    if cfg.dry_run:
        from spikefront.energy import predict_cost

        print(predict_cost(cfg))
        return
    from spikefront.training.preemption import preemptible
    from spikefront.training.run import say, summary, train

    with preemptible(cfg) as callbacks:
        say(summary(train(cfg, callbacks), cfg.output_dir))


if __name__ == "__main__":
    main()
