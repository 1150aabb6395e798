"""A teacher's answers, kept where the same images come again in every epoch."""

from __future__ import annotations

from collections.abc import Sized
from functools import lru_cache
from typing import Any, cast

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader

from spikefront.data import ImageData
from spikefront.data.order import Seeded

MOST = 2**31  # bytes of answers that are kept at most
TRIED = 32  # samples that are drawn twice to see whether they are augmented


class AnswerCache:
    """Logits by the images that they answer.

    An image is known by its content alone, 128 bits of it, not by where it comes from: one that is augmented, mixed or
    another in any way is not found, and its batch is asked anew. So no answer is ever another image's (but for chance,
    2⁻⁶⁶ for two images).

    Nothing is written: a training that goes on asks for them again, in the same batches, and so gets the same ones.
    """

    def __init__(self) -> None:
        self._rows: dict[tuple[int, ...], int] = {}
        self._answers = torch.empty(0)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, keys: list[tuple[int, ...]], answers: Tensor) -> None:
        """Answers ``(N, classes)`` by the ``fingerprints`` of what was asked."""
        self._rows = {key: row for row, key in enumerate(keys)}
        self._answers = answers

    def find(self, images: Tensor) -> Tensor | None:
        """The answers to a batch, on its device; None unless all are known."""
        rows = [self._rows.get(key) for key in fingerprints(images)]
        if None in rows:
            return None
        if self._answers.device != images.device:
            self._answers = self._answers.to(images.device)
        return self._answers[rows]


def fingerprints(images: Tensor) -> list[tuple[int, ...]]:
    """128 bits of each of ``(B, …)`` images: two sums of their bits with random factors, modulo 2⁶⁴, where they are."""
    kind = {1: torch.int8, 2: torch.int16}.get(images.element_size(), torch.int32)
    bits = images.contiguous().flatten(1).view(kind).long()
    sums = [(bits * factors).sum(1) for factors in _factors(bits.shape[1], bits.device)]
    return list(map(tuple, torch.stack(sums, 1).tolist()))


@lru_cache(maxsize=4)
def _factors(size: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(-(2**63), 2**63 - 1, (2, size), generator=generator).to(device)


def why_not(trainer: pl.Trainer, data: ImageData, num_classes: int) -> str | None:
    """Why a teacher's answers can't be kept, in words; None if they can."""
    size = len(cast(Sized, data.train_set))
    passes = trainer.estimated_stepping_batches * trainer.accumulate_grad_batches
    if data.mixup is not None:
        return "data.mixup mixes the images"
    if augmented(data):
        return "the images are augmented"
    if passes <= trainer.num_training_batches or passes * data.batch_size * trainer.world_size <= size:
        return "no image comes twice"
    if size * num_classes * 4 > MOST:
        return f"those to {size:,} images would take more than {MOST // 2**30} GiB"
    return None


def augmented(data: ImageData) -> bool:
    """Whether some of the training part's samples differ from one draw to the next.

    Augmentation that acts too seldom to be seen here does no harm: what it made is not found among the answers.
    """
    part, size = Seeded(data.train_set), len(cast(Sized, data.train_set))
    tried = range(0, size, max(1, size // TRIED))
    return any(not torch.equal(*(torch.as_tensor(part[draw, index][0]) for draw in (1, 2))) for index in tried)


def filled(trainer: pl.Trainer, data: ImageData, teacher: Any) -> AnswerCache:
    """The answers to the whole training part, which processes share the asking of: one pass of the teacher over it."""
    size, strategy, precision = len(cast(Sized, data.train_set)), trainer.strategy, trainer.precision_plugin
    loader: Any = DataLoader(
        Seeded(data.train_set),
        batch_size=data.batch_size,
        sampler=[(0, index) for index in range(trainer.global_rank, size, trainer.world_size)],
        num_workers=data.num_workers,
        generator=torch.Generator(),  # the global one's state is the training's
    )
    keys, answers = [], []
    for batch in loader:
        images, _ = strategy.batch_to_device(precision.convert_input(batch))
        with precision.val_step_context():
            answers.append(teacher.ask(images))
        keys += fingerprints(images)
    mine: Any = keys, torch.cat(answers).cpu()
    parts = [mine]
    if dist.is_available() and dist.is_initialized():
        parts = [None] * dist.get_world_size()
        dist.all_gather_object(parts, mine)
    cache = AnswerCache()
    cache.add([key for some, _ in parts for key in some], torch.cat([some for _, some in parts]))
    return cache
