"""What a folder of recordings or pictures holds, before training: python src/data.py ~/gestures"""

from spikefront.commands.data import main

if __name__ == "__main__":
    main()
