"""One DataModule a data set."""

from spikefront.data.base import ImageData, build_data
from spikefront.data.digits import Digits
from spikefront.data.imagenet import ImageNet

__all__ = ["Digits", "ImageData", "ImageNet", "build_data"]
