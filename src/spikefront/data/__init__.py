"""One DataModule a data set."""

from spikefront.data.augmentation import EventAugmentation
from spikefront.data.base import ImageData, build_data
from spikefront.data.binning import Binning, to_frames
from spikefront.data.cifar import CIFAR
from spikefront.data.digits import Digits, DigitsDVS
from spikefront.data.events import EventData
from spikefront.data.imagenet import ImageNet

__all__ = [
    "CIFAR",
    "Binning",
    "Digits",
    "DigitsDVS",
    "EventAugmentation",
    "EventData",
    "ImageData",
    "ImageNet",
    "build_data",
    "to_frames",
]
