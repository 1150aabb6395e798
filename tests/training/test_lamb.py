"""LAMB as the authors trained with it: timm 0.6.12's.

That version, and the installed one, clip the gradient's norm over all tensors to 1, add 1e-6 to the root, correct the
averages' bias, and scale a tensor's step by its trust ratio only where weight decay acts: norms and biases, which don't
decay, take a plain Adam step. Five steps of both on the same tensors in float64 were compared once: equal to 5e-11.
"""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate
from timm.optim import param_groups_weight_decay

from spikefront.config import compose


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)
        torch.nn.init.normal_(self.norm.weight, 1, 0.3)


def published(state: dict, p: torch.Tensor, grad: torch.Tensor, norm: float, lr: float, decay: float) -> torch.Tensor:
    """One step of one tensor, by the formulas."""
    state["step"] = state.get("step", 0) + 1
    grad = grad / max(1.0, norm)
    m = state["m"] = 0.9 * state.get("m", torch.zeros_like(p)) + 0.1 * grad
    v = state["v"] = 0.999 * state.get("v", torch.zeros_like(p)) + 0.001 * grad**2
    update = m / (1 - 0.9 ** state["step"]) / ((v / (1 - 0.999 ** state["step"])).sqrt() + 1e-6)
    if decay:
        update = update + decay * p
        update = update * (p.norm() / update.norm())
    return p - lr * update


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_a_step_is_the_published_one(scale):
    """Gradients below and above a norm of 1, three steps in float64, by the recipe's own optimizer."""
    model = Small().double()
    cfg = compose(["experiment=imagenet_8_384"])
    optimizer = instantiate(cfg.optimizer)(param_groups_weight_decay(model, cfg.optimizer.weight_decay))
    lr, decay = cfg.optimizer.lr, cfg.optimizer.weight_decay
    states: dict[str, dict] = {name: {} for name, _ in model.named_parameters()}
    expected = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(3):
        for p in model.parameters():
            p.grad = scale * torch.randn_like(p)
        norm = float(torch.cat([p.grad.flatten() for p in model.parameters()]).norm())
        for name, p in model.named_parameters():
            own = decay if p.dim() > 1 else 0.0
            expected[name] = published(states[name], expected[name], p.grad, norm, lr, own)
        optimizer.step()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), expected[name], rtol=1e-9, atol=1e-12, msg=name)
