"""What can only be seen on a CUDA device. Without one Triton's interpreter runs the same bodies on small tensors."""

from __future__ import annotations

import pytest
import torch

from spikefront.nn.kernels import launches

CUDA = torch.cuda.is_available()


def pytest_collection_modifyitems(config, items):
    here = [item for item in items if "tests/gpu" in str(item.path)]
    for item in here:
        item.add_marker(pytest.mark.gpu)
        if not CUDA and item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
        elif not CUDA and not launches.INTERPRETED:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, or TRITON_INTERPRET=1 to be rehearsed"))


@pytest.fixture(autouse=True)
def exact():
    """Products in whole float32, and the same every time."""
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    torch.manual_seed(0)


@pytest.fixture
def device():
    return "cuda" if CUDA else "cpu"
