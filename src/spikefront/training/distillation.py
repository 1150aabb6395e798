"""Learning from a teacher: another network's answers beside the targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from spikefront.data import ImageData
from spikefront.errors import UserError
from spikefront.training.answer_cache import AnswerCache, filled, why_not
from spikefront.training.rate_matching import RateMatching
from spikefront.units import amount


class Teacher:
    """A trained network whose answers are learned: the loss becomes ``(1 - alpha) loss + alpha distance``.

    The distance is that of the logits' mean over time to the teacher's: with ``hard`` the cross-entropy with the class
    it chooses (arXiv 2012.12877, section 4), else ``tau²`` times the Kullback-Leibler divergence from its probabilities
    at temperature ``tau`` (arXiv 1503.02531, section 2). With ``per_timestep`` it is the mean of the distances of each
    timestep's logits (arXiv 2503.03144). With a second classifier (``model.second_head``) the loss is the first one's
    and the distance the second's, as Meta-SpikeFormer is trained; else both are of the same. ``rate_weight`` adds as
    many times the distance of firing rates (``RateMatching``).

    The teacher sees the very images that the network sees, augmented and mixed as they are. It infers: its norms are
    frozen, no gradient is kept, and under mixed precision it is as mixed. It is no part of what is trained: not of its
    checkpoints, nor of what processes exchange.

    Args:
        network: ``images -> logits (B, classes)``.
        name: of the setting that chose it, for messages.
        rate_layers: see ``RateMatching``.
        size: side in pixels to which its images are resized; None: as they are.
        mean, std: what its images are normalised with, a channel each, where the network's are with others; None: the
            same.
        cache: keep its answers where no image is augmented (``AnswerCache``).

    Raises:
        UserError: a share, a temperature, a weight or a size out of bounds.
    """

    def __init__(
        self,
        network: nn.Module,
        name: str,
        hard: bool = True,
        alpha: float = 0.5,
        tau: float = 1.0,
        per_timestep: bool = False,
        rate_weight: float = 0.0,
        rate_layers: Mapping[str, str] | None = None,
        size: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        cache: bool = True,
    ) -> None:
        if not 0 <= alpha <= 1:
            raise UserError(f"teacher.alpha is {alpha}: it is the teacher's share of the loss, from 0 to 1")
        if not tau > 0:
            raise UserError(f"teacher.tau is {tau}: a temperature must be above 0")
        for key, value in (("hard", hard), ("per_timestep", per_timestep), ("cache", cache)):
            if not isinstance(value, bool):
                raise UserError(f"teacher.{key} is {value!r}: use true or false")
        if size is not None and not (isinstance(size, int) and size > 0):
            raise UserError(f"teacher.size is {size!r}: give the side of its images in pixels, or null for ours")
        if (mean is None) != (std is None):
            raise UserError("teacher.mean and teacher.std belong together: give both, a number a channel, or neither")
        self.network, self.name = network.eval().requires_grad_(False), name
        self.hard, self.alpha, self.tau = hard, float(alpha), float(tau)
        self.per_timestep, self.size, self.cache = per_timestep, size, cache
        self.normalised, self.given = (mean, std), ((0.0,), (1.0,))
        self.rates = RateMatching(rate_weight, rate_layers) if rate_weight else None
        self.known: AnswerCache | None = None
        self.macs: float | None = None
        self.share: float | None = None

    def __repr__(self) -> str:
        size = sum(p.numel() for p in self.network.parameters())
        cost = f"{size:,} parameters"
        if self.macs is not None:
            cost += f", {amount(self.macs)} multiply-accumulates a sample"
        if self.share is not None:
            cost += f" ({self.share:.0%} of a step's)"
        how = "hard" if self.hard else f"soft, tau={self.tau:g}"
        seen = f", shown {self.size}x{self.size} pixels" * (self.size is not None)
        each = ", each timestep" * self.per_timestep
        rates = f", {self.rates}" if self.rates is not None else ""
        return f"{self.name}, {cost}{seen}, {how}{each}, {self.alpha:g} of the loss{rates}"

    def answers(self, images: Tensor) -> Tensor:
        """Its logits ``(B, classes)``, on the device of the images: known ones, or ``ask``'s."""
        known = self.known.find(images) if self.known is not None else None
        return self.ask(images) if known is None else known

    @torch.no_grad()
    def ask(self, images: Tensor) -> Tensor:
        """What its network says now; in evaluation mode, without gradients, under whatever autocast is on."""
        weight = next(self.network.parameters())
        if weight.device != images.device:
            self.network.to(images.device)
        return self.network(self._shown(images).to(weight.dtype))

    def _shown(self, images: Tensor) -> Tensor:
        """Images ``(B, …, C, H, W)`` as it knows them: of its size, under its normalisation."""
        if self.size is not None and images.shape[-2:] != (self.size, self.size):
            flat = images.flatten(0, -4)
            resized = F.interpolate(flat, (self.size, self.size), mode="bilinear", antialias=True)
            images = resized.unflatten(0, images.shape[:-3])
        mean, std = self.normalised
        if mean is not None and std is not None:
            ours, theirs = ([images.new_tensor(tuple(v))[:, None, None] for v in p] for p in (self.given, (mean, std)))
            images = (images * ours[1] + ours[0] - theirs[0]) / theirs[1]
        return images

    def distance(self, logits: Tensor, answers: Tensor) -> Tensor:
        """How far ``logits`` ``(B, classes)`` are from its ``answers`` of the same shape."""
        answers = answers.to(logits.dtype)
        if self.hard:
            return F.cross_entropy(logits, answers.argmax(-1))
        theirs, ours = (F.log_softmax(x / self.tau, -1) for x in (answers, logits))
        return self.tau**2 * F.kl_div(ours, theirs, reduction="batchmean", log_target=True)

    def remember(self, trainer: pl.Trainer) -> None:
        """Before a training: keep its answers to all images, if these come as they are; says so, or why not."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not self.cache or not isinstance(data, ImageData):
            return
        reason = "firing rates are matched" if self.rates else why_not(trainer, data, data.num_classes)
        self.known = filled(trainer, data, self) if reason is None else None
        kept = f"the teacher was asked once: {len(self.known or ()):,} answers are kept"
        rank_zero_only(print)(kept if reason is None else f"the teacher is asked at each step: {reason}", flush=True)

    @contextmanager
    def watching(self, network: nn.Module) -> Iterator[None]:
        """Context of the network's forward pass, whose firing rates are kept if they are to be matched."""
        if self.rates is None:
            yield
            return
        with self.rates.watching(network, ours=True):
            yield

    def beside(
        self, loss: nn.Module, heads: Tensor, images: Tensor, target: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The whole loss of the classifiers' logits ``(classifiers, T, B, classes)``, and the distances in it."""
        if self.rates is None:
            answers = self.answers(images)
        else:
            with self.rates.watching(self.network, ours=False):
                answers = self.ask(images)
        learning = heads[-1]
        if self.per_timestep:
            distance = self.distance(learning.flatten(0, 1), answers.repeat(len(learning), 1))
        else:
            distance = self.distance(learning.mean(0), answers)
        parts, whole = {"distillation": distance}, (1 - self.alpha) * loss(heads[0], target) + self.alpha * distance
        if self.rates is not None:
            parts["rate_distance"] = self.rates.distance()
            whole = whole + self.rates.weight * parts["rate_distance"]
        return whole, parts

    def check(self, sample: Tensor, num_classes: int, given: tuple[Any, Any] = (None, None)) -> None:
        """Try it on ``sample``, of one, and count its operations.

        Args:
            given: mean and standard deviation that samples are normalised with; None where they are not.

        Raises:
            UserError: it can't take the sample, knows another number of classes, or is normalised for other channels.
        """
        shape = tuple(sample.shape[1:])
        self.given = given[0] or (0.0,), given[1] or (1.0,)
        for key, values in zip(("mean", "std"), self.normalised, strict=True):
            if values is not None and len(values) not in (1, shape[-3]):
                raise UserError(f"teacher.{key} has {len(values)} numbers and the images have {shape[-3]} channels")
        try:
            with FlopCounterMode(display=False) as counted:
                known = self.ask(sample).shape
        except Exception as error:
            cure = "" if self.size is not None else "; teacher.size=… resizes what it is shown"
            why = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"{self.name} can't take samples of shape {shape}: {why}{cure}") from error
        if known != (1, num_classes):
            raise UserError(f"{self.name} answers with {known[-1]} classes and the data has {num_classes}")
        self.macs = counted.get_total_flops() / 2

    def meet(self, student: nn.Module, sample: Tensor) -> None:
        """Find what it shares with the network that is trained: layers whose rates are matched, and a step's cost.

        A step is taken for three passes of the network, as its backward pass computes twice what a pass does.

        Raises:
            UserError: rates to be matched of layers that there are not, or of a network that can't be watched.
        """
        if self.rates is not None:
            self.rates.fit(student, self.network, sample, self._shown(sample))
        training = student.training
        with FlopCounterMode(display=False) as counted, torch.no_grad():
            student.eval()(sample.to(next(student.parameters()).dtype))
        student.train(training)
        if self.macs:
            self.share = self.macs / (self.macs + 3 * counted.get_total_flops() / 2)
