"""Search for the best accuracy-energy trade-offs: python src/sweep.py -m hparams_search=timesteps"""

from omegaconf import DictConfig

from spikefront.cli import entry


@entry("sweep")
def main(cfg: DictConfig) -> None:
    from hydra.core.hydra_config import HydraConfig

    from spikefront.errors import UserError
    from spikefront.sweeping.worker import Worker

    if not cfg.search.worker:
        raise UserError("a sweep needs -m: python src/sweep.py -m hparams_search=timesteps")
    Worker(cfg, HydraConfig.get().overrides.task).run()


if __name__ == "__main__":
    main()
