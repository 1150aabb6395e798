"""Evaluate a trained network: python src/evaluate.py checkpoint=outputs/train/…/checkpoints/best.ckpt"""

from omegaconf import DictConfig

from spikefront.cli import entry


@entry("evaluate")
def main(cfg: DictConfig) -> None:
    from spikefront.tracking.wandb_project import checkpoint_path
    from spikefront.training.run import evaluate, summary

    cfg.checkpoint = checkpoint_path(cfg.checkpoint)
    print(summary(evaluate(cfg), cfg.output_dir))


if __name__ == "__main__":
    main()
