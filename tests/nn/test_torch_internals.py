"""What `nn/torch_internals.py` takes from PyTorch. If one of these fails, PyTorch changed: mend that module alone."""

from __future__ import annotations

import torch
from torch import nn

from spikefront.nn.torch_internals import (
    FakeTensor,
    TorchDispatchMode,
    convolve_without_bias,
    copies,
    function_mode,
    has_aliases,
    is_redirected,
    storage_of,
    version_of,
    watched,
    watched_backward,
)


def test_a_storage_is_told_by_its_views_and_no_other():
    for device in ("cpu", "meta"):
        a, b = torch.ones(4, device=device), torch.ones(4, device=device)
        assert storage_of(a) == storage_of(a.view(2, 2)) != storage_of(b)


def test_the_mode_that_calls_pass_through_can_be_entered_again():
    class Doubling(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {})) * 2 if func is torch.exp else func(*args, **(kwargs or {}))

    with Doubling():
        mode = function_mode()
    one = torch.zeros(1)
    with function_mode():
        assert torch.exp(one) == 1
    with mode:
        assert torch.exp(one) == 2


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


def test_hooks_are_seen_whatever_they_look_at():
    module = nn.Linear(2, 2)
    assert not watched(module) and not watched_backward(module)
    ways = [module.register_forward_hook, module.register_forward_pre_hook]
    ways += [nn.modules.module.register_module_forward_hook, nn.modules.module.register_module_forward_pre_hook]
    for register in ways:
        handle = register(lambda *_: None)
        assert watched(module)
        handle.remove()
        assert not watched(module)
    module.register_full_backward_hook(lambda *_: None)
    assert watched_backward(module)


def test_modes_and_stand_ins_redirect_operations():
    x = torch.ones(2)
    assert not is_redirected(x)
    with torch._subclasses.FakeTensorMode() as mode:
        assert is_redirected(x)
    fake = mode.from_tensor(x)
    assert type(fake) is FakeTensor and is_redirected(fake)


def test_a_convolution_keeps_its_padding_without_its_bias():
    conv, x = nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), torch.randn(1, 2, 5, 5)
    expected = conv(x) - conv.bias.view(1, -1, 1, 1)
    torch.testing.assert_close(convolve_without_bias(conv, x), expected)


def test_copies_share_nothing():
    tensors = [torch.ones(2), torch.ones(3)]
    made = copies(tensors)
    assert all(torch.equal(a, b) and storage_of(a) != storage_of(b) for a, b in zip(tensors, made, strict=True))
