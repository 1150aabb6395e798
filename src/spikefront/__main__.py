"""``python -m spikefront``: the installed command, which also imports modules from the current directory."""

from spikefront.commands.verbs import run

if __name__ == "__main__":
    run()
