"""Train one spiking transformer: python src/train.py model=sdt_2_256 data=digits trainer=cpu"""

from spikefront.commands.train import main

if __name__ == "__main__":
    main()
