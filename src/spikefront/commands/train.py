"""Train one spiking transformer: python src/train.py model=sdt_2_256 data=digits trainer=cpu"""

from omegaconf import DictConfig

from spikefront.commands.cli import entry
from spikefront.commands.memory import keep_freed_memory
from spikefront.start import importing


@entry("train")
def main(cfg: DictConfig) -> None:
    """Train ``cfg``, or say under ``dry_run=true`` what that would cost."""
    keep_freed_memory()
    if cfg.dry_run:
        with importing():
            from spikefront.planning import predict_cost
            from spikefront.training.settings import check

        check(cfg)
        print(predict_cost(cfg))
        return
    with importing():
        from spikefront.training.preemption import preemptible
        from spikefront.training.result import summary
        from spikefront.training.run import say, train

    with preemptible(cfg) as callbacks:
        say(summary(train(cfg, callbacks), cfg.output_dir))
