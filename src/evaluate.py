"""Evaluate a trained network: python src/evaluate.py checkpoint=outputs/train/…/checkpoints/best.ckpt"""

from spikefront.commands.evaluate import main

if __name__ == "__main__":
    main()
