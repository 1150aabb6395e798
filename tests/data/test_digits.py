"""The embedded digits: a split that is the same for everyone, a validation part that the test never sees."""

from __future__ import annotations

import numpy as np
import torch

from spikefront.config import compose
from spikefront.data import build_data
from spikefront.data.sets.digits import digits_split


def digits(*overrides):
    data = build_data(compose(["data=digits", *overrides]).data, timesteps=4)
    data.setup()
    return data


def test_the_split_is_fixed_and_stratified():
    _, labels, train, test = digits_split()
    assert (len(train), len(test)) == (1437, 360)
    assert not set(train) & set(test)
    assert np.bincount(labels[test]).min() >= 34
    assert test[:5].tolist() == digits_split()[3][:5].tolist()


def test_validation_comes_out_of_training_and_follows_the_seed():
    a, b, none = digits("data.seed=0"), digits("data.seed=1"), digits("data.val_fraction=0")
    assert (len(a.train_set), len(a.val_set), len(a.test_set)) == (1293, 144, 360)
    assert not torch.equal(a.val_set.tensors[0], b.val_set.tensors[0])
    assert torch.equal(a.test_set.tensors[0], b.test_set.tensors[0])
    assert len(none.train_set) == 1437
    assert none.val_set is none.test_set


def test_images_are_resized_to_what_the_network_reads():
    assert digits("data.image_size=16").test_set[0][0].shape == (1, 16, 16)
