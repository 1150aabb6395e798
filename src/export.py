"""Take a trained network out: python src/export.py checkpoint=outputs/train/…/checkpoints/best.ckpt format=bundle"""

from spikefront.commands.export import main

if __name__ == "__main__":
    main()
