"""Learning from a teacher: another network's answers beside the targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from torch import Tensor, nn

from spikefront import trust
from spikefront.errors import UserError
from spikefront.nn.checkpoints import configuration, load_checkpoint, read_checkpoint


class Teacher:
    """A trained network whose answers are learned: the loss becomes ``(1 - alpha) loss + alpha distance``.

    The distance is that of the logits' mean over time to the teacher's: with ``hard`` the cross-entropy with the class
    it chooses (arXiv 2012.12877, section 4), else ``tau²`` times the Kullback-Leibler divergence from its probabilities
    at temperature ``tau`` (arXiv 1503.02531, section 2). With a second classifier (``model.second_head``) the loss is
    the first one's and the distance the second's, as Meta-SpikeFormer is trained; else both are of the same.

    The teacher sees the very images that the network sees, augmented, mixed and normalised as they are. It is no part
    of what is trained: not of its checkpoints, nor of what processes exchange.

    Raises:
        UserError: a share or a temperature out of bounds.
    """

    def __init__(self, network: nn.Module, name: str, hard: bool = True, alpha: float = 0.5, tau: float = 1.0) -> None:
        if not 0 <= alpha <= 1:
            raise UserError(f"teacher.alpha is {alpha}: it is the teacher's share of the loss, from 0 to 1")
        if not tau > 0:
            raise UserError(f"teacher.tau is {tau}: a temperature must be above 0")
        if not isinstance(hard, bool):
            raise UserError(f"teacher.hard is {hard!r}: use true or false")
        self.network, self.name = network.eval().requires_grad_(False), name
        self.hard, self.alpha, self.tau = hard, float(alpha), float(tau)

    def __repr__(self) -> str:
        size = sum(p.numel() for p in self.network.parameters())
        how = "hard" if self.hard else f"soft, tau={self.tau:g}"
        return f"{self.name}, {size:,} parameters, {how}, {self.alpha:g} of the loss"

    @torch.no_grad()
    def answers(self, images: Tensor) -> Tensor:
        """Its logits ``(B, classes)``, on the device of the images."""
        weight = next(self.network.parameters())
        if weight.device != images.device:
            self.network.to(images.device)
        return self.network(images.to(weight.dtype))

    def distance(self, logits: Tensor, images: Tensor) -> Tensor:
        """How far ``logits`` ``(B, classes)`` are from its answers."""
        answers = self.answers(images).to(logits.dtype)
        if self.hard:
            return F.cross_entropy(logits, answers.argmax(-1))
        theirs, ours = (F.log_softmax(x / self.tau, -1) for x in (answers, logits))
        return self.tau**2 * F.kl_div(ours, theirs, reduction="batchmean", log_target=True)

    def beside(self, loss: nn.Module, heads: Tensor, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The whole loss of the classifiers' logits ``(classifiers, T, B, classes)``, and the distance in it."""
        distance = self.distance(heads[-1].mean(0), images)
        return (1 - self.alpha) * loss(heads[0], target) + self.alpha * distance, distance

    def check(self, sample: Tensor, num_classes: int) -> None:
        """Raise UserError unless it takes ``sample``, of one, and knows as many classes."""
        shape = tuple(sample.shape[1:])
        try:
            known = self.answers(sample).shape
        except Exception as error:
            raise UserError(f"{self.name} can't take samples of shape {shape}: {str(error).splitlines()[0]}") from error
        if known != (1, num_classes):
            raise UserError(f"{self.name} answers with {known[-1]} classes and the data has {num_classes}")


class TimmTeacher(Teacher):
    """A network of timm's with weights from a file; nothing is downloaded.

    Args:
        model: its name, as ``timm.list_models()`` has it.
        weights: a file under timm's own names, ``.safetensors`` or ``.pth``.
    """

    def __init__(
        self, model: str | None, weights: str | Path | None, num_classes: int, in_channels: int, **part: Any
    ) -> None:
        import timm

        if not model or ":" in model:
            raise UserError(f"teacher.model is {model}: give a name that timm.list_models() has")
        if not weights:
            raise UserError(f"teacher.weights is not given: nothing is downloaded, so give a file with {model}'s")
        try:
            network = timm.create_model(model, pretrained=False, num_classes=num_classes, in_chans=in_channels)
        except (RuntimeError, TypeError) as error:
            raise UserError(f"teacher.model={model}: {error}; timm.list_models() names all") from error
        super().__init__(load_checkpoint(network, weights), f"teacher.model={model}", **part)


class CheckpointTeacher(Teacher):
    """A network that ``train`` trained, built as its checkpoint's configuration says, of this package's classes."""

    def __init__(self, checkpoint: str | Path | None, **part: Any) -> None:
        if not checkpoint:
            raise UserError("teacher.checkpoint is not given: a file that train.py wrote")
        stored = configuration(read_checkpoint(checkpoint))
        if stored is None:
            raise UserError(f"teacher.checkpoint={checkpoint} was not written by train.py: it holds no configuration")
        trust.check(stored["model"], f"teacher.checkpoint={checkpoint}")
        network = instantiate({**stored["model"], "compile": False})
        super().__init__(load_checkpoint(network, checkpoint), f"teacher.checkpoint={checkpoint}", **part)
