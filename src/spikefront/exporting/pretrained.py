"""``from_pretrained``: a network from a bundle, wherever that lies."""

from __future__ import annotations

from pathlib import Path

from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from spikefront import trust as trusted
from spikefront.errors import UserError, in_a_line
from spikefront.exporting.hub import fetched
from spikefront.nn.addresses import CONFIG, WEIGHTS
from spikefront.nn.checkpoints import bundle_configuration, load_checkpoint, read_checkpoint
from spikefront.nn.fixed.keeping import restored


def from_pretrained(address: str | Path, *, trust: bool = False) -> nn.Module:
    """A network with its weights, in evaluation mode, from a bundle that ``export`` wrote (``bundle, int8, int4``).

    Its ``classes`` are the classes' names, where they are known; its ``about`` is all that ``config.yaml`` says.

    Args:
        address: a folder; ``hf:<owner>/<name>[@revision]``; ``wandb:<entity>/<project>/<artifact>[:<alias>]``.
        trust: the bundle's configuration may name any class, and so run any code (SECURITY.md).

    Raises:
        UserError: no such bundle, one that is damaged, or whose configuration would run what it shouldn't.
    """
    folder = fetched(str(address))
    for name in (WEIGHTS, CONFIG):
        if not (folder / name).is_file():
            raise UserError(f"{address} is no bundle: it has no {name}; python src/export.py format=bundle writes one")
    about = bundle_configuration(folder, f"bundle {address}")
    if not trust:
        trusted.check(about, f"bundle {address}", "trust")
    with in_a_line(f"bundle {address}: "):
        model: nn.Module = instantiate(OmegaConf.create(about["model"]))
    if "integers" in about:
        model = restored(model, read_checkpoint(folder / WEIGHTS), about["integers"], str(address))
    else:
        load_checkpoint(model, folder / WEIGHTS)
    vars(model).update(classes=about.get("classes"), about=about)
    return model.eval()
