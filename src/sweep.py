"""Search for the best accuracy-energy trade-offs: python src/sweep.py -m hparams_search=timesteps"""

from spikefront.commands.sweep import main

if __name__ == "__main__":
    main()
