"""Which sample comes when and how it is augmented: a function of seed, epoch and position, and of nothing else.

Not of the number of processes that share an epoch, nor of the loader's workers, nor of whether the run was interrupted:
2 processes with batches of 8 see what 1 process with batches of 16 sees, and a resumed epoch goes on where it stopped.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sized
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset, get_worker_info
from torch.utils.data.distributed import DistributedSampler

from spikefront.errors import UserError


class Order(DistributedSampler):
    """Each epoch's permutation, this process's share of it, from where a resumed epoch goes on.

    Training drops what doesn't divide by the number of processes (every process must take as many steps) and yields
    ``(draw, index)`` for ``Seeded``; evaluation yields each index once, so shares may differ by one sample.

    Args:
        repeats: how often a sample comes, its copies beside each other (repeated augmentation, arXiv 1901.09335); an
            epoch stays as long.
    """

    def __init__(self, part: Dataset, train: bool, seed: int, repeats: int = 1) -> None:
        world, rank = (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
        super().__init__(part, world, rank, shuffle=train, seed=seed)
        size = len(cast(Sized, part))
        if not train and size < world:
            raise UserError(f"{size} samples to evaluate can't be shared by {world} processes: lower trainer.devices")
        self.train, self.repeats, self.start = train, repeats, 0
        self.num_samples = max(1, size // world) if train else len(range(rank, size, world))
        self.total_size = self.num_samples * world if train else size

    def __iter__(self) -> Iterator[Any]:
        mine = range(self.rank, self.total_size, self.num_replicas)
        if not self.train:
            yield from mine
            return
        size = len(cast(Sized, self.dataset))
        order = torch.randperm(size, generator=torch.Generator().manual_seed(_mix(self.seed, self.epoch))).tolist()
        for position in mine[self.start :]:
            yield _mix(self.seed, self.epoch, position), order[position // self.repeats % size]

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.start = 0
        super().set_epoch(epoch)


class Seeded(Dataset):
    """A training part whose random augmentations are drawn afresh from each draw's own seed."""

    def __init__(self, part: Dataset) -> None:
        self.part = part

    def __len__(self) -> int:
        return len(cast(Sized, self.part))

    def __getitem__(self, key: tuple[int, int]) -> Any:
        draw, index = key
        if get_worker_info() is not None:  # a loader's process, whose generators nobody else uses
            _seed(draw)
            return self.part[index]
        before = torch.get_rng_state(), random.getstate(), np.random.get_state()
        try:
            _seed(draw)
            return self.part[index]
        finally:
            torch.set_rng_state(before[0])
            random.setstate(before[1])
            np.random.set_state(before[2])


class ResumableLoader(DataLoader):
    """A DataLoader that knows how many of the epoch's batches it has given and can go on from there.

    ``state_dict`` and ``load_state_dict`` are what Lightning saves and restores with a checkpoint.
    """

    def __init__(
        self, part: Dataset, train: bool, seed: int, batch_size: int, repeats: int = 1, **settings: Any
    ) -> None:
        self.order, self.size, self.given = Order(part, train, seed, repeats), batch_size, 0
        super().__init__(
            Seeded(part) if train else part,
            batch_size=batch_size,
            sampler=self.order,
            # draws the loader's own base seed; not from the global generator, whose state a resumed run has restored
            generator=torch.Generator().manual_seed(_mix(seed)),
            **settings,
        )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self.given = self.order.start // self.size
        try:
            for batch in super().__iter__():
                self.given += 1
                yield batch
        except UserError as error:  # of a loader's process it comes with the traceback there
            raise UserError(str(error).rpartition("UserError: ")[2].strip()) from error
        self.order.start = 0

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.order.epoch, "batches": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.order.epoch = state["epoch"]
        self.order.start = state["batches"] * self.size


def _mix(*numbers: int) -> int:
    """One well-mixed 63-bit number from several (splitmix64's finaliser, chained)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1


def _seed(draw: int) -> None:
    torch.default_generator.manual_seed(draw)
    random.seed(draw)
    np.random.seed(draw & 0xFFFFFFFF)
