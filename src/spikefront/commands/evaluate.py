"""Evaluate a trained network: python src/evaluate.py checkpoint=outputs/train/…/checkpoints/best.ckpt"""

from omegaconf import DictConfig

from spikefront.commands.cli import entry
from spikefront.commands.memory import keep_freed_memory
from spikefront.start import importing


@entry("evaluate")
def main(cfg: DictConfig) -> None:
    """Print what ``spikefront.training.evaluate`` finds."""
    with importing():
        from spikefront.tracking.wandb.project import checkpoint_path
        from spikefront.training.evaluation import evaluate
        from spikefront.training.result import summary
        from spikefront.training.run import say

    keep_freed_memory()
    cfg.checkpoint = checkpoint_path(cfg.checkpoint)
    say(summary(evaluate(cfg), cfg.output_dir))
