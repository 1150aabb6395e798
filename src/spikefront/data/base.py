"""What every data set shares: three parts, their loaders, and a validation part that tests never see."""

from __future__ import annotations

import inspect
import sys
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from sklearn.model_selection import train_test_split
from timm.data import Mixup
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from spikefront.data.order import ResumableLoader
from spikefront.errors import UserError, no_key

# what a data config tells the network, the trainer and a dry run
MODEL_KEYS = ("pooling", "event_mode", "epochs", "effective_batch", "train_samples")


def build_data(cfg: DictConfig, timesteps: int) -> ImageData:
    """The DataModule of a ``conf/data`` config; the network's ``timesteps`` decide how events are binned."""
    resolved = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    settings = {k: v for k, v in resolved.items() if k not in MODEL_KEYS}
    kind = get_object(settings["_target_"])
    known = _settings(kind) if isinstance(kind, type) else settings
    for key in settings:
        if not key.startswith("_") and key not in known:
            raise UserError(no_key(f"data.{key}", known))
    return instantiate({**settings, "timesteps": timesteps})


def _settings(kind: type) -> set[str]:
    """What a data set can be told: of its own, and of those it is made from as far as it hands on the rest."""
    found: set[str] = set()
    for base in kind.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
            found |= {p.name for p in parameters if p.kind is p.KEYWORD_ONLY or p.kind is p.POSITIONAL_OR_KEYWORD}
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                break
    return found - {"self"}


class ImageData(pl.LightningDataModule):
    """Base of all data sets: yields ``(images, class)`` batches, images ``(B, C, H, W)`` or ``(B, T, C, H, W)``.

    ``val_fraction`` of the training part, stratified by class and drawn with ``seed``, becomes the validation part that
    sweeps select on; with 0 the test part stands in for it.

    A subclass gives ``check()`` (is everything there? raise UserError, load nothing) and ``parts()``.

    Args:
        repeats: how often a training sample comes in a row, differently augmented (repeated augmentation,
            arXiv 1901.09335, section 3); an epoch stays as long.
        mixup: ``(images, classes) -> (images, probabilities)`` of each training batch, timm's ``Mixup``.
        mixup_off_epoch: from this epoch on batches are left as they are, but that their targets stay smoothed by
            ``mixup.label_smoothing`` with ``smooth_after_mixup``, as in timm.
        cut_polarities: cutmix of event frames cuts polarities and rows in place of rows and columns, as timm's does
            that is given them as they are (Max-Former's code): often less is mixed than the targets say.
        drop_last: leave out the last batch of an epoch of training if it isn't full.
        half_inputs: under mixed precision round images to float16 before the network sees them, in evaluation too.
        on_error: what a sample that can't be used does: ``raise`` ends the run, ``skip`` leaves it out and says so.
    """

    classes: Sequence[str] | None = None  # by their numbers, once they are known
    own = False  # whether it is a user's own folder, in which labels may be wrong
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
        repeats: int = 1,
        mixup: Mixup | None = None,
        mixup_off_epoch: int | None = None,
        smooth_after_mixup: bool = True,
        cut_polarities: bool = False,
        drop_last: bool = True,
        half_inputs: bool = False,
        on_error: str = "raise",
    ) -> None:
        super().__init__()
        if not 0 <= val_fraction < 1:
            raise UserError(f"data.val_fraction is {val_fraction}: use a share of the training part, 0 to below 1")
        if batch_size < 1:
            raise UserError(f"data.batch_size is {batch_size}: it must be at least 1")
        if repeats < 1:
            raise UserError(f"data.repeats is {repeats}: it must be at least 1")
        if mixup is not None and batch_size % 2:
            raise UserError(f"data.batch_size is {batch_size}: data.mixup mixes pairs, so it must be even")
        if on_error not in ("raise", "skip"):
            raise UserError(f"data.on_error is {on_error!r}: use raise or skip")
        self.name, self.channels, self.num_classes, self.image_size = name, channels, num_classes, image_size
        self.timesteps, self.batch_size, self.val_fraction = timesteps, batch_size, val_fraction
        self.num_workers, self.seed, self.repeats = num_workers, seed, repeats
        self.mixup, self.mixup_off_epoch, self.on_error = mixup, mixup_off_epoch, on_error
        self.smooth_after_mixup, self.drop_last, self.half_inputs = smooth_after_mixup, drop_last, half_inputs
        self.cut_polarities = cut_polarities
        self.at_once = 1  # training batches in one of an evaluation, which keeps no activations
        self._ready = False

    def check(self) -> None:
        """Raise UserError if the files aren't there; cheap."""

    @abstractmethod
    def parts(self) -> tuple[Dataset, Dataset, Dataset]:
        """Training, validation and test part."""

    def seen(self, train: bool) -> list[Any]:
        """What a sample goes through before the network sees it, in training or in evaluation, as it is built."""
        return []

    def described(self) -> dict[str, Any]:
        """What results and checkpoints say of a set that its name doesn't say: classes, split and more, JSON-ready."""
        return {}

    def shown(self, path: Path, known: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
        """A file of a user's, as a network trained on this set is shown it: when it was, and a batch of one.

        Args:
            known: what the network's checkpoint says of its set (``described``).

        Raises:
            UserError: it can't be read, or is nothing like this set's samples.
        """
        raise UserError(f"input={path}: the samples of data={self.name} are no files")

    def recall(self, known: Mapping[str, Any]) -> None:
        """Take over what a training of before found out about its data, as its checkpoint has it (``state_dict``)."""

    def state_dict(self) -> dict[str, Any]:
        return ({"classes": list(self.classes)} if self.classes else {}) | self.described()

    def kept_in(self, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
        """What ``state_dict`` was when that was written; Lightning keeps it under the class's name."""
        return checkpoint.get(type(self).__qualname__) or {}

    def sample_name(self, index: int) -> str:
        """A sample of the test part by name."""
        name = getattr(self.test_set, "name", None)
        return name(index) if callable(name) else f"test sample {index}"

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        then, now = (d.get("split") for d in (state_dict, self.described()))
        if then and now and then != now:
            print(f"spikefront: the data's split is {now}, not {then} as before: files came or went", file=sys.stderr)

    def fewer(self, images: Tensor, timesteps: int) -> Tensor:
        """A batch as a network of fewer timesteps is given it: an image is shown as often as one likes.

        Raises:
            UserError: these frames can't be made into so many.
        """
        return images

    def setup(self, stage: str | None = None) -> None:
        if not self._ready:
            self.train_set, self.val_set, self.test_set = self.parts()
            self._ready = True

    def held_out(self, labels: Any) -> tuple[list[int], list[int]]:
        """Indices of the training part that stay for training and those set aside for validation."""
        everything = list(range(len(labels)))
        if not self.val_fraction:
            return everything, []
        try:
            kept, held = train_test_split(
                everything, test_size=self.val_fraction, stratify=labels, random_state=self.seed, shuffle=True
            )
        except ValueError as error:
            raise UserError(
                f"data.val_fraction={self.val_fraction} of {len(everything)} samples can't hold every class ({error})"
            ) from error
        return sorted(kept), sorted(held)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        trainer = self.trainer
        if trainer is None:
            return batch
        if trainer.training and self.mixup is not None:
            images, target = batch
            batch = self._mixed(self.mixup, images, target, trainer.current_epoch)
        if self.half_inputs and str(trainer.precision).endswith("-mixed"):
            batch = batch[0].half(), batch[1]
        return batch

    def _mixed(self, mixup: Mixup, images: Tensor, target: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        mixup.mixup_enabled = self.mixup_off_epoch is None or epoch < self.mixup_off_epoch
        goes_on = mixup.mixup_enabled or (self.smooth_after_mixup and mixup.label_smoothing)
        if len(images) % 2 or not goes_on:  # pairs are mixed: an odd last batch stays as it is
            return images, target
        as_images = images if self.cut_polarities else images.flatten(1, -3)  # one draw for all timesteps
        mixed, target = mixup(as_images, target)
        return mixed.view_as(images), target

    def _loader(self, part: Dataset, train: bool) -> DataLoader:
        size = len(cast(Sized, part))
        return ResumableLoader(
            part,
            train=train,
            seed=torch.initial_seed(),  # the run's, not that of the split
            batch_size=self.batch_size * (1 if train else self.at_once),
            repeats=self.repeats if train else 1,
            drop_last=train and self.drop_last and size > self.batch_size,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            collate_fn=_usable if self.on_error == "skip" else None,
        )

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.train_set, train=True)

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.val_set, train=False)

    def test_dataloader(self) -> DataLoader:
        return self._loader(self.test_set, train=False)


def _usable(samples: list[Any]) -> Any:
    """Collates a batch without the samples that couldn't be used."""
    usable = [sample for sample in samples if sample is not None]
    if not usable:
        raise UserError(f"none of the {len(samples)} samples of a batch can be used")
    return default_collate(usable)
