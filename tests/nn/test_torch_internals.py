"""What `nn/torch_internals.py` takes from PyTorch. If one of these fails, PyTorch changed: mend that module alone."""

from __future__ import annotations

import torch

from spikefront.nn.torch_internals import TorchDispatchMode, has_aliases, storage_of, version_of


def test_a_storage_is_told_by_its_views_and_no_other():
    for device in ("cpu", "meta"):
        a, b = torch.ones(4, device=device), torch.ones(4, device=device)
        assert storage_of(a) == storage_of(a.view(2, 2)) != storage_of(b)


def test_a_write_in_place_is_noticed():
    w = torch.nn.Parameter(torch.ones(2))
    before = version_of(w)
    with torch.no_grad():
        w.mul_(2)
    assert version_of(w) > before
    with torch.inference_mode():
        assert version_of(torch.ones(2)) == 0


def test_operations_that_write_or_view_are_told_from_those_that_make():
    aten = torch.ops.aten
    assert [has_aliases(f) for f in (aten.add.Tensor, aten.add_.Tensor, aten.view.default)] == [False, True, True]


def test_every_operation_passes_a_mode_and_says_its_name():
    seen = []

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    with Mode():
        torch.nn.Linear(2, 2)(torch.ones(1, 2)).sum().backward()
    assert {"addmm", "sum", "mm"} <= set(seen)
