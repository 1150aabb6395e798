from __future__ import annotations

import pytest
from pretended import Sweep


@pytest.fixture
def make_sweep(tmp_path):
    return lambda *overrides, **options: Sweep(tmp_path, "search/sampler=random", *overrides, **options)
