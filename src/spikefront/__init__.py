"""Spikefront: find the best spiking transformer for an energy budget."""

import lazy_loader

# The names are in the stub. PyTorch is loaded by what needs it: a sweep starts its workers before that.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
