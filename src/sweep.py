"""Search for the best accuracy-energy trade-offs: python src/sweep.py -m hparams_search=timesteps"""

from spikefront.sweeping.worker import template

if __name__ == "__main__":
    template.begin_ahead()  # before this process's own imports

    from spikefront.commands.sweep import main

    main()
