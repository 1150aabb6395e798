"""ImageNet-1K from its usual folders."""

from __future__ import annotations

from pathlib import Path

from timm.data import create_transform
from torch.utils.data import Dataset, Subset
from torchvision.datasets import ImageFolder

from spikefront.data.base import ImageData
from spikefront.errors import UserError


class ImageNet(ImageData):
    """``<root>/train/<class>/*.JPEG`` and ``<root>/val/<class>/*.JPEG``; the official validation part is the test."""

    def __init__(self, *, root: str, crop_pct: float = 0.95, **common: object) -> None:
        super().__init__(**common)  # type: ignore[arg-type]
        self.root, self.crop_pct = Path(root), crop_pct

    def check(self) -> None:
        missing = [str(self.root / part) for part in ("train", "val") if not (self.root / part).is_dir()]
        if missing:
            raise UserError(
                f"ImageNet is not at {self.root.absolute()}: expected train/<class>/*.JPEG and val/<class>/*.JPEG"
                " there; set data.root=/path/to/imagenet or IMAGENET_ROOT"
            )

    def parts(self) -> tuple[Dataset, Dataset, Dataset]:
        size = self.image_size
        evaluation = create_transform(size, crop_pct=self.crop_pct, interpolation="bicubic")
        training = create_transform(size, is_training=True, interpolation="bicubic")
        train_set = ImageFolder(str(self.root / "train"), training)
        test_set = ImageFolder(str(self.root / "val"), evaluation)
        kept, held = self.held_out(train_set.targets)
        if not held:
            return train_set, test_set, test_set
        return Subset(train_set, kept), Subset(ImageFolder(str(self.root / "train"), evaluation), held), test_set
