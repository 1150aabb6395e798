"""One DataModule a data set."""

from spikefront.data.augmentation import EventAugmentation
from spikefront.data.base import ImageData, build_data
from spikefront.data.binning import Binning, to_frames
from spikefront.data.cifar import CIFAR
from spikefront.data.cifar10_dvs import CIFAR10DVS
from spikefront.data.digits import Digits, DigitsDVS
from spikefront.data.dvs128_gesture import DVS128Gesture
from spikefront.data.events import EventData
from spikefront.data.imagenet import ImageNet
from spikefront.data.saccade_sets import NMNIST, NCaltech101

__all__ = [
    "CIFAR",
    "CIFAR10DVS",
    "NMNIST",
    "Binning",
    "DVS128Gesture",
    "Digits",
    "DigitsDVS",
    "EventAugmentation",
    "EventData",
    "ImageData",
    "ImageNet",
    "NCaltech101",
    "build_data",
    "to_frames",
]
