"""Networks by name, and what is proved of any: ``create_model``, ``list_models``, ``audit``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from hydra.utils import instantiate
from torch import Tensor, nn

from spikefront.config import CONF, compose, override
from spikefront.energy.blind_spots import blind_spots
from spikefront.errors import in_a_line
from spikefront.nn.audit import Audit
from spikefront.nn.audits.checks import CHECKS, Check, examine
from spikefront.nn.audits.finding import not_tried
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


LONG = ("compiled", "onnx")  # which trace or export the network: tried where they are asked for
AUDITS: dict[str, Check] = {**CHECKS, "blind_spots": blind_spots}


def audit(
    model: nn.Module,
    batch: Tensor,
    checks: Sequence[str] | str | None = None,
    timesteps: int | None = None,
    time_first: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Audit:
    """Put the claims about a network to the test; ``model``, any ``nn.Module`` that gives logits, stays as it was.

    Whether it only adds where a spike is, answers whatever stands beside a sample in the batch, doesn't look ahead in
    time, keeps nothing between calls, and so on: docs/audit.md says what each check means. Each is tried on copies in
    double precision; those of a configuration on one that is driven hard (batch norms with the batch's statistics, a
    gain of 4 and a bias of 2), since a silent network would prove nothing.

    Args:
        batch: ``(B, C, H, W)`` images or ``(B, T, C, H, W)`` events, at most five of which are used.
        checks: names of ``AUDITS``; None: all but ``compiled`` and ``onnx``; ``"all"``.
        timesteps: T, by default ``model.timesteps``, or the events'.
        time_first: the network takes events as ``(T, B, C, H, W)``, and so stands the batch.
        progress: hears each check's name before it is made.

    Returns:
        What each check found (``findings``), and what the network computes with (``inputs``, ``multiplications``).

    Raises:
        UserError: an empty batch, one that the network doesn't take, a check that there is not.
    """
    every = checks is None or checks == "all"
    asked = list(AUDITS) if every else [checks] if isinstance(checks, str) else list(checks or ())
    long = [name for name in asked if name in LONG and checks is None]
    made = [name for name in asked if name not in long]
    found = examine(model, batch, made, AUDITS, timesteps, time_first, progress)
    found.findings += [not_tried(name, f"it takes a while: ask for it with checks=[{name}]") for name in long]
    return found
