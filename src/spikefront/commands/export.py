"""Take a trained network out: python src/export.py checkpoint=outputs/train/…/checkpoints/best.ckpt format=bundle

For a colleague, a hub, another runtime or a chip's tool chain: docs/deploy.md.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from spikefront.commands.cli import entry
from spikefront.commands.memory import keep_freed_memory
from spikefront.exporting import module_of
from spikefront.start import importing


@entry("export")
def main(cfg: DictConfig) -> None:
    """Write the network as ``format``, and print what was written and what is to be known of it."""
    module_of(str(cfg.format))  # before what takes seconds to import
    with importing():
        from spikefront.exporting.delivery import export
        from spikefront.nn.addresses import local

    keep_freed_memory()
    cfg.checkpoint = str(local(cfg.checkpoint))
    cfg.directory = cfg.directory or f"{cfg.output_dir}/{cfg.format}"
    said = export(cfg)
    for line in said.get("lines", []):
        print(line)
    for name, size in said["files"].items():
        print(f"{Path(cfg.directory) / name}   {size:,} bytes")
