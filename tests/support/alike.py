"""Whether two states are the same to the last bit, and where they aren't."""

from __future__ import annotations

import torch


def assert_equal(a, b, path="", nan=False):
    """Of tensors, dicts, sequences and whatever can be compared.

    Args:
        nan: one NaN in a tensor is the same as another.
    """
    if isinstance(a, torch.Tensor):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=nan, msg=path)
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_equal(a[key], b[key], f"{path}/{key}", nan)
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{path}/{i}", nan)
    else:
        assert a == b, path
