"""A small network that fires."""

import torch

from spikefront.commands.energy import settle
from spikefront.nn import SpikeDrivenTransformer


def network(seed=0, depth=2, dim=32, **settings):
    torch.manual_seed(seed)
    sizes = {"timesteps": 4, "in_channels": 1, "num_classes": 10, "image_size": 8, "pooling": "0010"}
    model = SpikeDrivenTransformer(depth, dim, **{**sizes, **settings})
    settle(model, torch.rand(16, 1, 8, 8))
    return model.eval()
