"""CIFAR-10 and CIFAR-100: from where torchvision has them, and read by it."""

from __future__ import annotations

from collections.abc import Callable

from torch.utils.data import Dataset, Subset
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import check_integrity

from spikefront.data.download import Archive, fetch
from spikefront.data.images import Pictures
from spikefront.errors import UserError

SIZES = {"CIFAR10": 170498071, "CIFAR100": 169001437}  # of the archives, in bytes


class CIFAR(Pictures):
    """50,000 training and 10,000 test images of 32x32 pixels (Krizhevsky 2009), in their Python pickles.

    Args:
        dataset: torchvision's class, ``CIFAR10`` or ``CIFAR100``.
        download: get what is missing.
    """

    def __init__(self, *, dataset: type[CIFAR10], download: bool = True, **common: object) -> None:
        super().__init__(**common)  # type: ignore[arg-type]
        self.dataset, self.download = dataset, download

    def check(self) -> None:
        folder, name = self.root / self.dataset.base_folder, self.dataset.__name__
        files = [
            *self.dataset.train_list,
            *self.dataset.test_list,
            [self.dataset.meta["filename"], self.dataset.meta["md5"]],
        ]
        expected = ", ".join(file for file, _ in files)
        if not folder.is_dir():
            fetch(
                [Archive(self.dataset.url, self.dataset.filename, self.dataset.tgz_md5, size=SIZES.get(name, 0))],
                name,
                self.root,
                f"{expected} in {folder} (from {self.dataset.filename})",
                self.download,
            )
        cure = f"remove {folder} to download it again, or unpack {self.dataset.filename} there"
        for file, md5 in files:
            if not (folder / file).is_file():
                raise UserError(f"{folder / file} is missing ({name} has {expected} there): {cure}")
            if not check_integrity(str(folder / file), md5):
                raise UserError(f"{folder / file} is damaged (its MD5 is not the published {md5}): {cure}")

    def parts(self) -> tuple[Dataset, Dataset, Dataset]:
        training, evaluation = self.transforms()

        def images(train: bool, transform: Callable) -> CIFAR10:
            return self.dataset(str(self.root), train=train, transform=transform)

        train_set, test_set = images(True, training), images(False, evaluation)
        self.classes = list(train_set.classes)
        kept, held = self.held_out(train_set.targets)
        val_set = Subset(images(True, evaluation), held) if held else test_set
        return Subset(train_set, kept), val_set, test_set
