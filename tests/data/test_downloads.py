"""Data that arrive: from whichever address has all of it, never half, or one line that says how to fetch it by hand."""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from layouts import cifar10_dvs, n_caltech101, n_mnist

from spikefront.config import compose
from spikefront.data import build_data, download
from spikefront.errors import UserError

SETS = ("cifar10", "cifar100", "cifar10_dvs", "dvs128_gesture", "n_mnist", "n_caltech101")


def build(name: str, root: Path):
    return build_data(compose([f"data={name}", f"data.root={root}", "output_dir=x"]).data, timesteps=2)


@pytest.fixture
def web():
    """A server of ``files``: ``/whole/<name>`` gives one, ``/half/``, ``/empty/`` and ``/gone/`` misbehave."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _, how, name = self.path.split("/")
            asked.append(self.path)
            content = files[name]
            self.send_response({"empty": 202, "gone": 503}.get(how, 200))
            if how in ("whole", "half"):
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write({"whole": content, "half": content[: len(content) // 2]}.get(how, b""))

        def log_message(self, *_: object) -> None: ...

    files: dict[str, bytes] = {}
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield files, f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


@pytest.fixture
def digits(web, tmp_path, monkeypatch):
    """N-MNIST whose archives the server has: ``digits("half", "whole")`` is the set whose first address misbehaves so,
    whose mirror doesn't."""
    files, url, _ = web
    for folder in ("Train", "Test"):
        made = shutil.make_archive(tmp_path / folder, "zip", n_mnist(tmp_path / f"made {folder}") / "NMNIST", folder)
        files[f"{folder.lower()}.zip"] = Path(made).read_bytes()

    def addressed(first: str, *mirrors: str):
        data = build("n_mnist", tmp_path / "set")
        archives = [
            replace(
                archive,
                url=f"{url}/{first}/{archive.name}",
                md5=hashlib.md5(files[archive.name]).hexdigest(),
                mirrors=[f"{url}/{how}/{archive.name}" for how in mirrors],
            )
            for archive in data.archives
        ]
        monkeypatch.setattr(type(data), "archives", archives)
        return data

    return addressed


@pytest.mark.parametrize("first", ["half", "empty", "gone"])
def test_an_address_that_fails_or_gives_half_a_file_is_passed_over(digits, web, capfd, first):
    data = digits(first, "whole")
    data.check()
    assert len(data.recordings()) == 60
    assert web[2] == [f"/{how}/{name}.zip" for name in ("train", "test") for how in (first, "whole")]
    assert capfd.readouterr().err.count("spikefront: downloading") == 4
    data.check()
    assert len(web[2]) == 4  # what is there isn't asked for again


def test_nothing_is_left_where_no_address_has_all_of_it(digits, tmp_path):
    data = digits("gone", "half", "empty")
    with pytest.raises(UserError) as caught:
        data.check()
    said = str(caught.value)
    assert "\n" not in said
    for what in (
        "Service Unavailable",
        "bytes that aren't the archive's",
        "gave 0 bytes",
        "by hand: ",
        "train.zip",
        "test.zip",
    ):
        assert what in said, said
    assert [p.name for p in (tmp_path / "set").rglob("*") if p.is_file()] == [".N-MNIST.lock"]


@pytest.mark.parametrize("lies", [b"", b"PK half of it"])
def test_half_a_file_that_lies_there_is_fetched_anew(digits, tmp_path, capfd, lies):
    data = digits("whole")
    place = tmp_path / "set" / "NMNIST"
    place.mkdir(parents=True)
    (place / "train.zip").write_bytes(lies)
    (place / ".train.zip.1-ab.tmp").write_bytes(lies)  # of a process that was killed
    data.check()
    assert (
        f"train.zip has {len(lies)} bytes that aren't the archive's (MD5): fetching it anew" in capfd.readouterr().err
    )
    assert len(data.recordings()) == 60
    assert sorted(p.name for p in place.iterdir()) == ["Test", "Train", "test.zip", "train.zip"]


def test_what_is_put_there_by_hand_is_unpacked_without_a_network(digits, web, tmp_path):
    files, _, asked = web
    place = tmp_path / "set" / "NMNIST"
    place.mkdir(parents=True)
    for name, content in files.items():
        (place / name).write_bytes(content)
    data = digits("gone")
    data.check()
    assert len(data.recordings()) == 60 and not asked


def test_half_unpacked_is_not_there(digits, tmp_path, monkeypatch):
    """A full disk while an archive is unpacked: the same command unpacks it anew."""
    unpack = download.extract_archive

    def full(path: str, place: str) -> None:
        unpack(path, place)
        next(Path(place).rglob("*.bin")).unlink()
        raise OSError("No space left on device")

    data = digits("whole")
    monkeypatch.setattr(download, "extract_archive", full)
    with pytest.raises(UserError, match="No space left"):
        data.check()
    assert data.folder() is None
    monkeypatch.setattr(download, "extract_archive", unpack)
    data.check()
    assert len(data.recordings()) == 60


@pytest.mark.parametrize("name", ["cifar10_dvs", "n_caltech101"])
def test_archives_within_an_archive_are_unpacked(web, tmp_path, monkeypatch, name):
    files, url, _ = web
    made, inner = tmp_path / "made", tmp_path / "inner"
    make = cifar10_dvs if name == "cifar10_dvs" else n_caltech101
    for folder in next(make(made).iterdir()).iterdir():
        shutil.make_archive(inner / folder.name, "zip", folder.parent, folder.name)
    data = build(name, tmp_path / "set")
    (archive,) = data.archives
    files[archive.name] = Path(shutil.make_archive(tmp_path / "whole", "zip", inner)).read_bytes()
    fresh = replace(archive, url=f"{url}/whole/{archive.name}", md5=hashlib.md5(files[archive.name]).hexdigest())
    monkeypatch.setattr(type(data), "archives", [fresh])
    data.check()
    assert len(data.recordings()) == (60 if name == "cifar10_dvs" else 1010)
    assert [p.name for p in (tmp_path / "set").rglob("*.zip*")] == [archive.name]


@pytest.mark.parametrize("name", SETS)
def test_what_cannot_be_downloaded_is_said_with_address_size_checksum_and_place(tmp_path, monkeypatch, name):
    def unreachable(request, **_):
        asked.append(request.full_url)
        raise OSError("no network")

    asked: list[str] = []
    monkeypatch.setattr(download, "urlopen", unreachable)
    with pytest.raises(UserError, match="no network") as caught:
        build(name, tmp_path).check()
    said = str(caught.value)
    assert "\n" not in said
    places = re.findall(r"(https://\S+) \((?:[\d.]+ [kMG]B, )?MD5 ([0-9a-f]{32})\) as (\S+?)[,;]", said)
    assert places and asked[0] == places[0][0]
    assert all(Path(path).is_relative_to(tmp_path) for _, _, path in places)
    if "figshare" in said:  # what gives programs no bytes gives them to a browser
        assert asked[1].startswith("https://api.figshare.com/v2/file/download/")
        assert re.search(r"\((?:[\d.]+ [kMG]B), MD5", said)
