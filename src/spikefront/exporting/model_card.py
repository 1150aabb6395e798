"""A model card: Hugging Face's front matter, then what a reader must know before using the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml


def card(about: Mapping[str, Any]) -> str:
    """The card's text.

    Args:
        about: what a bundle's ``config.yaml`` holds.
    """
    front = {"library_name": "spikefront", "tags": ["spiking-neural-network"]}
    return f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# {about['data']['name']}\n"
