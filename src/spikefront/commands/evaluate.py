"""Evaluate a trained network: python src/evaluate.py checkpoint=outputs/train/…/checkpoints/best.ckpt"""

import json

from omegaconf import DictConfig

from spikefront.commands.cli import entry
from spikefront.commands.memory import keep_freed_memory
from spikefront.start import importing

ANSWERS = "answers.json"


@entry("evaluate")
def main(cfg: DictConfig) -> None:
    """Print what ``spikefront.training.evaluate`` finds, or what the network says of ``input``."""
    with importing():
        from spikefront.files import write_atomically
        from spikefront.nn.addresses import local
        from spikefront.training.answers import answers
        from spikefront.training.evaluation import evaluate
        from spikefront.training.result import summary
        from spikefront.training.run import say

    keep_freed_memory()
    cfg.checkpoint = str(local(cfg.checkpoint))
    if cfg.input is not None:
        found = answers(cfg)
        say("\n".join(map(str, found)))
        write_atomically(f"{cfg.output_dir}/{ANSWERS}", json.dumps([d.to_dict() for d in found], indent=2) + "\n")
        return
    say(summary(evaluate(cfg), cfg.output_dir))
