"""Look at a study and take from it: python src/study.py study=timesteps-digits-sdt_tiny action=front"""

from spikefront.commands.study import main

if __name__ == "__main__":
    main()
