"""Training: ``train(cfg) -> Result`` is a pure function of its config, and nothing else trains."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
