"""One DataModule a data set."""

from spikefront.data.augmentation import EventAugmentation
from spikefront.data.base import ImageData, build_data
from spikefront.data.binning import Binning, to_frames
from spikefront.data.events import EventData
from spikefront.data.sets.cifar import CIFAR
from spikefront.data.sets.cifar10_dvs import CIFAR10DVS
from spikefront.data.sets.digits import Digits, DigitsDVS
from spikefront.data.sets.dvs128_gesture import DVS128Gesture
from spikefront.data.sets.event_folder import EventFolder
from spikefront.data.sets.image_folder import ImageFolder
from spikefront.data.sets.imagenet import ImageNet
from spikefront.data.sets.saccade_sets import NMNIST, NCaltech101

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
    "EventFolder",
    "ImageData",
    "ImageFolder",
    "ImageNet",
    "NCaltech101",
    "build_data",
    "to_frames",
]
