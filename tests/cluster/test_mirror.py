"""A folder's files at an address: of one moment, whole or not at all, whatever the store and the network do."""

from __future__ import annotations

import json
import os
import shutil
import threading

import pytest
from pretend_s3 import KEY, SECRET

from spikefront.cluster import mirror as mirrors
from spikefront.cluster import stores
from spikefront.cluster.mirror import MANIFEST, OWN, Mirror, NotOurs
from spikefront.cluster.stores import Away
from spikefront.errors import UserError


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(mirrors, "PAUSES", (0.05, 0.1))


@pytest.fixture(params=["file", "memory", pytest.param("gs", marks=pytest.mark.slow)])
def address(request, tmp_path):
    if request.param == "gs":
        request.getfixturevalue("pretend_gcs")
        return "gs://bucket/there"
    return f"{request.param}://{tmp_path}/there"


class Machine:
    """One of several, with a folder of its own."""

    def __init__(self, tmp_path, name, address, owner="study"):
        self.alive = True
        self.folder = tmp_path / name / "00000"
        self.mirror = Mirror(self.folder, address, owner, lambda: self.alive)

    def leave(self, **files):
        for name, content in files.items():
            path = self.folder / name.replace("__", "/").replace("_ckpt", ".ckpt")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".x").write_bytes(content)
            path.with_suffix(".x").replace(path)

    def has(self):
        return {p.relative_to(self.folder).as_posix(): p.read_bytes() for p in self.folder.rglob("*")
                if p.is_file() and p.name != OWN}  # fmt: skip


def test_another_machine_gets_what_the_first_left(tmp_path, address):
    a, b = (Machine(tmp_path, name, address) for name in "ab")
    a.mirror.fetch()  # nothing there yet
    a.leave(checkpoints__last_ckpt=b"1", wandb__run=b"rows", result=b"{}")
    a.mirror.settle()
    b.leave(checkpoints__last_ckpt=b"of an earlier study", stale=b"x")
    b.mirror.fetch()
    assert b.has() == a.has() == {"checkpoints/last.ckpt": b"1", "wandb/run": b"rows", "result": b"{}"}
    b.leave(checkpoints__last_ckpt=b"22")
    (b.folder / "wandb/run").unlink()
    b.mirror.settle()
    a.mirror.fetch()
    assert a.has() == {"checkpoints/last.ckpt": b"22", "result": b"{}"}


def test_what_is_further_here_stays_while_nobody_else_has_written(tmp_path, address):
    a, b = (Machine(tmp_path, name, address) for name in "ab")
    a.leave(last_ckpt=b"1")
    a.mirror.settle()
    a.leave(last_ckpt=b"2")  # and killed before it was sent
    a.mirror.fetch()
    assert a.has() == {"last.ckpt": b"2"}
    b.mirror.fetch()
    b.leave(last_ckpt=b"3")
    b.mirror.settle()
    a.mirror.fetch()
    assert a.has() == {"last.ckpt": b"3"}


def test_killed_while_it_sends_it_leaves_the_files_of_the_moment_before(tmp_path, address, monkeypatch):
    a, b = (Machine(tmp_path, name, address) for name in "ab")
    a.leave(best_ckpt=b"b1", last_ckpt=b"l1")
    a.mirror.settle()
    sent, opened = [], stores.opened

    def dying(address):
        files, root = opened(address)
        put = files.put_file

        def die(here, there, **more):
            put(here, there, **more)
            sent.append(there)
            raise PermissionError("killed")

        patch.setattr(files, "put_file", die)
        return files, root

    a.leave(best_ckpt=b"b2", last_ckpt=b"l2")
    with monkeypatch.context() as patch, pytest.raises(Away):
        patch.setattr(mirrors, "opened", dying)
        a.mirror.settle()
    assert len(sent) == 1  # the one is there, the other isn't
    b.mirror.fetch()
    assert b.has() == {"best.ckpt": b"b1", "last.ckpt": b"l1"}


def test_whoever_lost_the_trial_writes_no_manifest_and_removes_nothing_of_the_next_one(tmp_path, address):
    a, b, c = (Machine(tmp_path, name, address) for name in "abc")
    a.leave(best_ckpt=b"best", last_ckpt=b"1")
    a.mirror.settle()
    b.mirror.fetch()
    b.leave(last_ckpt=b"2")  # the best is as it was: that of the first machine
    b.mirror.settle()
    a.alive = False
    a.leave(best_ckpt=b"other", last_ckpt=b"9")
    with pytest.raises(NotOurs):
        a.mirror.settle()
    c.mirror.fetch()
    assert c.has() == {"best.ckpt": b"best", "last.ckpt": b"2"}


def test_at_its_end_nothing_is_left_that_nobody_names(tmp_path, address):
    a = Machine(tmp_path, "a", address)
    for i in range(3):
        a.leave(last_ckpt=b"%d" % i)
        a.mirror.push()
    a.mirror.settle()
    files, root = stores.opened(address)
    files.pipe_file(f"{root}/last.ckpt.of-a-dead-one", b"x")
    a.mirror.sweep_up()
    assert len(files.find(root)) == 2  # the manifest and the checkpoint
    assert not list(a.folder.parent.glob(".00000.*"))


def test_an_earlier_study_of_the_same_name_is_another_one(tmp_path, address):
    a, b = Machine(tmp_path, "a", address), Machine(tmp_path, "b", address, owner="later")
    a.leave(trial=b"{}")
    a.mirror.settle()
    b.mirror.fetch()
    assert b.has() == {}


@pytest.mark.parametrize("name", ["../../x", "/etc/x"])
def test_a_forged_manifest_writes_nowhere_else(tmp_path, address, name):
    a = Machine(tmp_path, "a", address)
    told = {"object": "o", "size": 1, "sha256": "0"}
    stores.write(f"{address}/o", b"x")
    stores.write(f"{address}/{MANIFEST}", json.dumps({"owner": "study", "id": "1", "files": {name: told}}).encode())
    with pytest.raises(Away, match="a file elsewhere"):
        a.mirror.fetch()


def test_a_file_that_is_not_what_the_manifest_says_is_refused(tmp_path, address):
    a, b = (Machine(tmp_path, name, address) for name in "ab")
    a.leave(last_ckpt=b"whole")
    a.mirror.settle()
    files, root = stores.opened(address)
    (found,) = (p for p in files.find(root) if "last.ckpt" in p)
    files.pipe_file(found, b"hole!")
    with pytest.raises(Away, match=r"last.ckpt is not what its manifest"):
        b.mirror.fetch()
    assert b.has() == {}
    stores.write(f"{address}/{MANIFEST}", b'{"own')
    with pytest.raises(Away, match="damaged"):
        b.mirror.fetch()


def test_training_does_not_wait_for_a_slow_store(tmp_path, address, monkeypatch):
    a = Machine(tmp_path, "a", address)
    files, _ = stores.opened(address)
    put, gate = type(files).put_file, threading.Event()

    def slow(self, *given, **more):
        assert gate.wait(20)
        put(self, *given, **more)

    monkeypatch.setattr(type(files), "put_file", slow)
    for i in range(5):
        a.leave(last_ckpt=b"%d" % i)
        a.mirror.push()
    gate.set()
    a.mirror.settle()
    b = Machine(tmp_path, "b", address)
    b.mirror.fetch()
    assert b.has() == {"last.ckpt": b"4"}


def test_a_store_that_is_away_ends_no_training_and_is_said_once(tmp_path, capsys):
    a = Machine(tmp_path, "a", f"file://{tmp_path}/there")
    (tmp_path / "there").write_text("a file where a folder should be")
    for _ in range(3):
        a.leave(last_ckpt=b"1")
        a.mirror.push()
        a.mirror._last.exception()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "the trial goes on" in said and str(tmp_path) in said
    with pytest.raises(Away, match=r"^file://"):
        a.mirror.settle(0)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("ftp://me:hunter2@host/x", "holds a password"),
        ("simplecache::s3://b/x", "give a path or an address"),
        ("nothing://b/x", "give a path or an address"),
        ("s3://b/../x", "give a path or an address"),
    ],
)
def test_addresses_that_are_none(address, why):
    with pytest.raises(UserError, match=why) as refused:
        stores.check(address)
    assert "hunter2" not in str(refused.value)


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch):
    def missing(*_, **__):
        raise ImportError("Please install s3fs")

    monkeypatch.setattr("fsspec.core.get_filesystem_class", missing)
    with pytest.raises(Away, match=r"pip install 'spikefront\[s3\]'"):
        stores.read("s3://bucket/x")


class TestOnS3:
    """moto's server, which is slow, fails and drops connections."""

    @pytest.fixture
    def s3(self, pretend_s3):
        return pretend_s3

    @pytest.fixture
    def address(self):
        return "s3://bucket/sweep/trials/00000"

    def pair(self, tmp_path, address):
        return [Machine(tmp_path, name, address) for name in "ab"]

    def test_there_and_back(self, s3, tmp_path, address):
        a, b = self.pair(tmp_path, address)
        content = os.urandom(300_000)
        for i in range(3):
            a.leave(checkpoints__last_ckpt=content + b"%d" % i, result=b"{}")
            a.mirror.settle()
        b.mirror.fetch()
        assert b.has() == a.has()
        assert not [asked for asked in s3.seen if "list-type" in asked]
        a.mirror.sweep_up()
        assert len(stores.opened(address)[0].find(address)) == 3

    @pytest.mark.parametrize("fault", [0.7, (503, "SlowDown"), (500, "InternalError"), "drop"])
    @pytest.mark.parametrize("what", ["PUT", "GET"])
    def test_faults_on_the_way(self, s3, tmp_path, address, fault, what):
        a, b = self.pair(tmp_path, address)
        s3.faults += [(lambda asked: asked.startswith(what), fault)] * 2
        a.leave(best_ckpt=os.urandom(100_000), last_ckpt=os.urandom(100_000))
        a.mirror.settle()
        b.mirror.fetch()
        assert b.has() == a.has()
        assert s3.faults == []

    def test_a_connection_that_drops_in_the_middle_of_a_part(self, s3, tmp_path, address, monkeypatch):
        import s3fs.core

        a, b = self.pair(tmp_path, address)
        monkeypatch.setattr(s3fs.core, "calculate_chunksize", lambda *_, **__: 5 * 2**20)
        a.leave(last_ckpt=os.urandom(12 * 2**20))
        s3.faults += [(lambda asked: "partNumber=2" in asked, "drop")] * 2
        a.mirror.settle()
        b.mirror.fetch()
        assert b.has() == a.has()
        assert s3.faults == [] and sum("partNumber=2" in asked for asked in s3.seen) >= 3

    def test_a_part_that_never_arrives_leaves_the_checkpoint_before(self, s3, tmp_path, address, monkeypatch):
        import s3fs.core

        a, b = self.pair(tmp_path, address)
        a.leave(last_ckpt=b"before")
        a.mirror.settle()
        monkeypatch.setattr(s3fs.core, "calculate_chunksize", lambda *_, **__: 5 * 2**20)
        a.leave(last_ckpt=os.urandom(12 * 2**20))
        s3.faults += [(lambda asked: "partNumber=2" in asked, (400, "BadDigest"))] * 50
        with pytest.raises(Away, match="can't be reached"):
            a.mirror.settle(0)
        b.mirror.fetch()
        assert b.has() == {"last.ckpt": b"before"}

    def test_what_is_wrong_is_said_in_a_line_without_credentials(self, s3):
        with pytest.raises(Away, match="is the bucket there") as missing:
            stores.write("s3://no-such-bucket/x/storage.url", b"x")
        s3.faults += [(lambda asked: True, (403, "InvalidAccessKeyId"))] * 20
        with pytest.raises(Away, match="give credentials that may read and write") as refused:
            stores.write("s3://bucket/x/storage.url", b"x")
        s3.faults.clear()
        for error in (missing, refused):
            said = str(error.value)
            assert "\n" not in said and KEY not in said and SECRET not in said

    def test_without_credentials(self, s3, monkeypatch):
        import fsspec

        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        with pytest.raises(Away, match="give credentials that may read and write"):
            stores.write("s3://bucket/x/storage.url", b"x")


def test_the_cache_can_be_thrown_away(tmp_path, address):
    a = Machine(tmp_path, "a", address)
    a.leave(last_ckpt=b"1")
    a.mirror.settle()
    shutil.rmtree(a.folder)
    a.mirror.fetch()
    assert a.has() == {"last.ckpt": b"1"}
