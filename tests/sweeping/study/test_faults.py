"""A database that fails under its workers: restarted, its connections cut, its disk full."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
import traceback
from functools import partial
from pathlib import Path

import postgresql
import psycopg
import pytest
from pretended import OPTIONS, Sweep, pretend
from system import small_disk
from test_accounting import check_exact

from spikefront.commands.sweep import sweep
from spikefront.errors import UserError
from spikefront.sweeping.study.storage import storage_errors, url

FULL = "No space left on device"
SMALL = {"min_wal_size": "2MB", "max_wal_size": "8MB", "shared_buffers": "8MB"}


class Restless(Sweep):
    """A sweep whose workers begin again when their database has ended them; what they say of it is kept."""

    def run_through(self, faults, look):
        """Run to the end.

        Args:
            faults: pairs of how many trials ``look`` tells of, and what then happens.
        """
        faults = list(faults)

        def launch(workers):
            processes = [self.start(w) for w in workers]
            deadline = time.monotonic() + 1500
            while any(p.exitcode != 0 for p in processes) and time.monotonic() < deadline:
                time.sleep(0.05)
                if faults and look() >= faults[0][0]:
                    faults.pop(0)[1]()
                for i, process in enumerate(processes):
                    if process.exitcode not in (None, 0):
                        processes[i] = self.start(workers[i])
            for process in processes:
                process.kill()
            assert [p.exitcode for p in processes] == [0] * len(processes)

        sweep(self.cfg(), [*self.overrides, *self.space], lambda group: OPTIONS.get(group, []), launch)
        assert not faults

    def _work(self, overrides, life):
        with (Path(self.cfg().search.dir) / f"said.{os.getpid()}").open("w") as sys.stderr:
            try:
                with storage_errors(url(self.cfg().search)):
                    super()._work(overrides, life)
            except UserError as error:
                print(error, file=sys.stderr)
                sys.exit(1)
            except BaseException:
                traceback.print_exc()
                sys.exit(2)


class Database:
    """A server on a small disk, and what can happen to it."""

    def __init__(self, directory, disk):
        self.server, self._disk = postgresql.started(directory, **SMALL), disk

    def finished(self):
        with contextlib.suppress(psycopg.OperationalError):
            return self.server.ask("SELECT count(*) FROM trials WHERE state = 'COMPLETE'")[0][0]
        return 0

    def cut(self):
        assert self.server.cut() > 0

    def restart(self):
        self.server.stop()
        time.sleep(2)
        self.server.start()

    def fill(self):
        filler = self._disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))
        deadline = time.monotonic() + 60
        before = self.server.log.read_text().count(FULL)
        while self.server.log.read_text().count(FULL) == before:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(2)
        filler.unlink()
        if not self.server.running():  # it ends where it can't write what it would recover from
            self.server.start()


LONG = pytest.mark.skipif("SPIKEFRONT_LOAD" not in os.environ, reason="some ten minutes long: SPIKEFRONT_LOAD=1")


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.parametrize(("trials", "rounds"), [(100, 1), pytest.param(600, 3, marks=LONG)])
def test_a_database_that_fails_under_load_loses_nothing(tmp_path, trials, rounds):
    """One that is restarted, whose connections are cut and whose disk is full; each worker says so in a line."""
    with (
        tempfile.TemporaryDirectory(prefix="spikefront-faults-") as place,
        small_disk(Path(place, "data"), "120m") as d,
    ):
        database = Database(Path(place), d)
        options = [f"search.n_trials={trials}", "search.workers=4", "search.heartbeat=1"]
        options += ["search/sampler=random", f"search.storage={database.server.url}"]
        search = Restless(tmp_path, *options, train=partial(pretend, seconds=0.4))
        happens = rounds * [database.cut, database.restart, database.fill, database.cut, database.restart]
        faults = [(trials * (i + 1) // (len(happens) + 2), what) for i, what in enumerate(happens)]
        try:
            search.run_through(faults, database.finished)
            check_exact(search, tmp_path, trials, 0)
        finally:
            database.server.stop()
    said = [file.read_text().splitlines() for file in tmp_path.glob("said.*")]
    assert all(line.startswith("the study's storage postgresql://") for lines in said for line in lines)
    assert any(said) and max(map(len, said)) <= len(happens)  # a line each time at most
