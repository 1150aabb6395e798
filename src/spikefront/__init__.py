"""Spikefront: find the best spiking transformer for an energy budget."""

import sys
from pathlib import Path

try:
    import lazy_loader
except ModuleNotFoundError:
    if Path(sys.argv[0]).resolve().parent == Path(__file__).resolve().parents[1]:  # src/<verb>.py by another Python
        sys.exit(
            "spikefront: not installed for this Python: source .venv/bin/activate (which make setup makes), or call"
            " .venv/bin/python"
        )
    raise

# The names are in the stub. PyTorch is loaded by what needs it: a sweep starts its workers before that.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
