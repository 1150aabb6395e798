"""Networks by name: ``create_model`` and what it can create."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from hydra.utils import instantiate

from spikefront.config import CONF, compose, override
from spikefront.errors import in_a_line
from spikefront.nn.network import SpikingNetwork

# Where models were published, by what their names are or end with; ImageNet is where all others were.
HOMES = {"sdt_tiny": "digits", "sdt_2_256": "cifar10", "_2_512": "cifar10", "_4_384": "cifar10", "_cifar": "cifar10"}
HOMES |= {"_2_256": "cifar10_dvs", "_event": "cifar10_dvs", "_gesture": "dvs128_gesture"}


def list_models(pattern: str = "*") -> list[str]:
    """Names that ``create_model`` and ``model=`` take, those that match a shell pattern such as ``"maxformer*"``.

    Beside these any ``sdt_<depth>_<dim>`` is one.
    """
    names = sorted(p.stem for p in (CONF / "model").glob("*.yaml") if p.stem != "staged")
    return [name for name in names if fnmatchcase(name, pattern)]


def home(name: str) -> str:
    """The data set a model was published on, whose resolution, channels, pooling and timesteps it gets."""
    return next((data for end, data in HOMES.items() if name.endswith(end)), "imagenet")


def create_model(
    name: str,
    *,
    data: str | None = None,
    num_classes: int | None = None,
    timesteps: int | None = None,
    overrides: Sequence[str] = (),
    **model: object,
) -> SpikingNetwork:
    """Build any ``conf/model/*.yaml``, or any ``sdt_<depth>_<dim>``, with random weights.

    Args:
        name: such as ``"sdt_8_384"`` or ``"maxformer_10_384"``, see ``list_models``.
        data: a name in ``conf/data``; gives resolution, channels, classes, default timesteps and pooling. Without one,
            the data set the model was published on, ImageNet for any other.
        overrides: Hydra overrides, ``["neuron=plif", "model.neurons.mlp.threshold=0.8"]``.
        **model: keys of the model config by name, ``mlp_ratio=2``.

    Raises:
        UserError: sizes that don't fit together, names and keys that there are not; in a line, as commands say it.
    """
    values = {"num_classes": num_classes, "timesteps": timesteps, **model}
    chosen = [
        f"model={name}",
        f"data={data or home(name)}",
        *(override(f"model.{key}", value) for key, value in values.items() if value is not None),
        *overrides,
    ]
    with in_a_line():
        made: SpikingNetwork = instantiate(compose(chosen).model)
    return made
