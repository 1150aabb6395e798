"""A network that every test of this folder takes out: trained for a moment, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from spikefront.config import compose
from spikefront.training.run import train

SHORT = [
    "model=sdt_tiny",
    "data=digits",
    "trainer=cpu",
    "trainer.max_epochs=3",
    "logger=none",
    "callbacks.progress=null",
]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    found = train(compose([*SHORT, f"output_dir={folder}"])).checkpoint
    assert found is not None
    return Path(found)
