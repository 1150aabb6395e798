"""Networks by name: ``create_model`` and what it can create."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.utils import instantiate

from spikefront.config import compose
from spikefront.nn import SpikeDrivenTransformer

# The data set whose resolution, channels, pooling and timesteps a model gets when none is named.
HOME = {"sdt_tiny": "digits", "sdt_2_256": "cifar10", "sdt_2_512": "cifar10"}


def create_model(
    name: str,
    *,
    data: str | None = None,
    num_classes: int | None = None,
    timesteps: int | None = None,
    overrides: Sequence[str] = (),
    **model: Any,
) -> SpikeDrivenTransformer:
    """Build any ``conf/model/*.yaml``, or any ``sdt_<depth>_<dim>``, with random weights.

    Args:
        name: such as ``"sdt_8_384"``.
        data: a name in ``conf/data``; gives resolution, channels, classes, default timesteps and pooling. Without one,
            the data set the model was published on, ImageNet for any other.
        overrides: Hydra overrides, ``["neuron=plif", "model.neurons.mlp.threshold=0.8"]``.
        **model: keys of the model config by name, ``mlp_ratio=2``.

    Raises:
        UserError: sizes that don't fit together. Hydra's exceptions for unknown names.
    """
    values = {"num_classes": num_classes, "timesteps": timesteps, **model}
    cfg = compose(
        [
            f"model={name}",
            f"data={data or HOME.get(name, 'imagenet')}",
            *(f"model.{key}={value}" for key, value in values.items() if value is not None),
            *overrides,
        ]
    )
    return instantiate(cfg.model)
