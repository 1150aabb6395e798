"""What a network really does: python src/audit.py checkpoint=outputs/train/<time>/checkpoints/best.ckpt"""

from spikefront.commands.audit import main

if __name__ == "__main__":
    main()
