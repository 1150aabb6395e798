"""Optuna's own tests of storages, over those that a sweep opens: our lock of the journal, our settings of SQLite."""

from __future__ import annotations

import pytest
from optuna.testing.pytest_storages import StorageTestCase

from spikefront.sweeping.study.storage import open_storage


class TestStorage(StorageTestCase):
    @pytest.fixture(params=["journal:///{}/s.log", pytest.param("sqlite:///{}/s.db", marks=pytest.mark.slow)])
    def storage(self, request, tmp_path):
        return open_storage(request.param.format(tmp_path))
