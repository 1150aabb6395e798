"""Optuna's own tests of storages, over those that a sweep opens: our lock of the journal, our statements of SQL."""

from __future__ import annotations

import pytest
from optuna.testing.pytest_storages import StorageTestCase

from spikefront.sweeping.study.storage import open_storage

FILES = {"journal": "journal:///{}/s.log", "sqlite": "sqlite:///{}/s.db"}
MARKS = {"sqlite": [pytest.mark.slow], **{k: [pytest.mark.slow, pytest.mark.system] for k in ("postgresql", "mariadb")}}


class TestStorage(StorageTestCase):
    @pytest.fixture(params=["journal", *(pytest.param(kind, marks=marks) for kind, marks in MARKS.items())])
    def storage(self, request, tmp_path, database):
        kind = request.param
        return open_storage(FILES[kind].format(tmp_path) if kind in FILES else database(kind))
