"""Losses on per-timestep logits ``(T, B, classes)``; targets are classes ``(B,)`` or probabilities ``(B, classes)``."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class CrossEntropy(nn.Module):
    """Cross-entropy of the logits' mean over time."""

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, steps: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(steps.mean(0), target, label_smoothing=self.label_smoothing)


class TET(nn.Module):
    """Temporal efficient training (arXiv 2202.11946): ``(1 - lambda) mean_t CE(out_t) + lambda MSE(out, mean)``."""

    def __init__(self, lambda_mse: float = 1e-3, mean: float = 1.0, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.lambda_mse, self.mean, self.label_smoothing = lambda_mse, mean, label_smoothing

    def forward(self, steps: Tensor, target: Tensor) -> Tensor:
        targets = target.expand(steps.shape[0], *target.shape).flatten(0, 1)
        ce = F.cross_entropy(steps.flatten(0, 1), targets, label_smoothing=self.label_smoothing)
        return (1 - self.lambda_mse) * ce + self.lambda_mse * (steps - self.mean).square().mean()
