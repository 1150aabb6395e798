"""What every data set shares: three parts, their loaders, and a validation part that tests never see."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sized
from typing import Any, cast

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, Dataset

from spikefront.data.order import ResumableLoader
from spikefront.errors import UserError

MODEL_KEYS = ("pooling", "event_mode", "epochs")  # of a data config: recommendations for the network and the trainer


def build_data(cfg: DictConfig, timesteps: int) -> ImageData:
    """The DataModule of a ``conf/data`` config; the network's ``timesteps`` decide how events are binned."""
    settings = {k: v for k, v in cfg.items() if k not in MODEL_KEYS}
    return instantiate({**settings, "timesteps": timesteps})


class ImageData(pl.LightningDataModule):
    """Base of all data sets: yields ``(images, class)`` batches, images ``(B, C, H, W)`` or ``(B, T, C, H, W)``.

    ``val_fraction`` of the training part, stratified by class and drawn with ``seed``, becomes the validation part that
    sweeps select on; with 0 the test part stands in for it.

    A subclass gives ``check()`` (is everything there? raise UserError, load nothing) and ``parts()``.
    """

    train_set: Dataset
    val_set: Dataset
    test_set: Dataset

    def __init__(
        self,
        *,
        name: str,
        channels: int,
        num_classes: int,
        image_size: int,
        timesteps: int,
        batch_size: int,
        val_fraction: float = 0.0,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= val_fraction < 1:
            raise UserError(f"data.val_fraction is {val_fraction}: use a share of the training part, 0 to below 1")
        if batch_size < 1:
            raise UserError(f"data.batch_size is {batch_size}: it must be at least 1")
        self.name, self.channels, self.num_classes, self.image_size = name, channels, num_classes, image_size
        self.timesteps, self.batch_size, self.val_fraction = timesteps, batch_size, val_fraction
        self.num_workers, self.seed = num_workers, seed
        self._ready = False

    def check(self) -> None:
        """Raise UserError if the files aren't there; cheap."""

    @abstractmethod
    def parts(self) -> tuple[Dataset, Dataset, Dataset]:
        """Training, validation and test part."""

    def setup(self, stage: str | None = None) -> None:
        if not self._ready:
            self.train_set, self.val_set, self.test_set = self.parts()
            self._ready = True

    def held_out(self, labels: Any) -> tuple[list[int], list[int]]:
        """Indices of the training part that stay for training and those set aside for validation."""
        everything = list(range(len(labels)))
        if not self.val_fraction:
            return everything, []
        kept, held = train_test_split(
            everything, test_size=self.val_fraction, stratify=labels, random_state=self.seed, shuffle=True
        )
        return sorted(kept), sorted(held)

    def _loader(self, part: Dataset, train: bool) -> DataLoader:
        size = len(cast(Sized, part))
        return ResumableLoader(
            part,
            train=train,
            seed=torch.initial_seed(),  # the run's, not that of the split
            batch_size=self.batch_size,
            drop_last=train and size > self.batch_size,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
        )

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.train_set, train=True)

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.val_set, train=False)

    def test_dataloader(self) -> DataLoader:
        return self._loader(self.test_set, train=False)
