"""A W&B view of one or several studies: python src/workspace.py <entity>/<project> <study> …"""

from spikefront.commands.workspace import main

if __name__ == "__main__":
    main()
