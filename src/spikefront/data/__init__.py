"""One DataModule a data set."""

import lazy_loader

# The names are in the stub. What only reads recordings and pictures waits for no PyTorch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
