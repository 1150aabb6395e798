"""Train one spiking transformer: python src/train.py model=sdt_2_256 data=digits trainer=cpu"""

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from spikefront.commands.cli import entry
from spikefront.commands.memory import keep_freed_memory
from spikefront.config import override, places
from spikefront.start import importing, typed


@entry("train")
def main(cfg: DictConfig) -> None:
    """Train ``cfg``, or say under ``dry_run=true`` what that would cost and do."""
    keep_freed_memory()
    if cfg.dry_run:
        with importing():
            from spikefront.planning import outline, outlook, predict_cost
            from spikefront.training.devices import threads
            from spikefront.training.settings import check

        check(cfg)
        in_force = outline(cfg)
        with threads(cfg.get("threads")):
            print(cost := predict_cost(cfg))
        if (time := outlook(cfg, cost=cost)) is not None:
            in_force = {"in all": time} | in_force
        print("\n".join(f"{name:<12}{text}" for name, text in in_force.items()))
        return
    with importing():
        from pytorch_lightning.callbacks import LambdaCallback
        from pytorch_lightning.utilities import rank_zero_only

        from spikefront.planning import outlook
        from spikefront.training.preemption import preemptible
        from spikefront.training.result import summary
        from spikefront.training.run import say, train

    with preemptible(cfg, _again(str(cfg.output_dir))) as callbacks:
        try:
            time = rank_zero_only(outlook)(cfg, patient=False)
        except Exception:  # users' classes may not do without data; and what is wrong, the training says as well
            time = None
        foretold = LambdaCallback(on_fit_start=lambda *_: say(f"predicted: {time}", flush=True))
        say(summary(train(cfg, [*callbacks, foretold] if time else callbacks), cfg.output_dir))


def _again(directory: str) -> str:
    """The command that goes on with the run there."""
    running = HydraConfig.get()
    given = [o for o in running.overrides.task if not o.startswith("resume=")]
    return typed("train", *places(running), *given, "resume=auto", override("hydra.run.dir", directory))
