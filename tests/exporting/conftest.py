"""A network that every test of this folder takes out: trained for a moment, once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock

from spikefront.config import compose
from spikefront.training.run import train

SHORT = [
    "model=sdt_tiny",
    "data=digits",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "logger=none",
    "callbacks.progress=null",
]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """Of all processes that test this folder the first trains it."""
    shared = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent
    folder, done = shared / "trained", shared / "trained.txt"
    with FileLock(shared / "trained.lock"):
        if not done.exists():
            found = train(compose([*SHORT, f"output_dir={folder}"])).checkpoint
            assert found is not None
            done.write_text(str(found), encoding="utf-8")
    return Path(done.read_text(encoding="utf-8"))
