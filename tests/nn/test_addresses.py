"""Every address of a checkpoint leads to a local file, whole, or to one line."""

from __future__ import annotations

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
import yaml
from hydra.utils import get_method
from safetensors.torch import save_file

import spikefront
from spikefront.errors import UserError
from spikefront.nn import addresses
from spikefront.nn.addresses import ELSEWHERE, local
from spikefront.nn.checkpoints import configuration, read_checkpoint


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKEFRONT_CACHE", str(tmp_path / "cache"))
    addresses._kept.cache_clear()
    yield tmp_path / "cache"
    addresses._kept.cache_clear()


@pytest.fixture
def web(tmp_path):
    """A directory, its address, and what was asked of it."""
    folder, asked = tmp_path / "web", []
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def small():
    return spikefront.create_model("sdt_1_16", data="digits")


def test_a_download_is_verified_kept_and_never_half(cache, web):
    folder, url, asked = web
    first, then = small(), small()
    torch.save({"state_dict": first.state_dict()}, folder / "a.pth")
    digest = hashlib.sha256((folder / "a.pth").read_bytes()).hexdigest()
    address = f"{url}/a.pth#sha256={digest}"
    spikefront.load_checkpoint(then, address)
    assert torch.equal(then.head.weight, first.head.weight) and len(asked) == 1
    kept = local(address)
    assert kept.is_relative_to(cache) and kept.name == "a.pth"
    addresses._kept.cache_clear()
    assert local(address) == kept and len(asked) == 1
    kept.write_bytes(b"half")  # what a disk may do
    addresses._kept.cache_clear()
    assert local(address).read_bytes() == (folder / "a.pth").read_bytes() and len(asked) == 2


def test_another_file_than_was_asked_for_is_refused_and_not_kept(cache, web):
    folder, url, _ = web
    (folder / "a.pth").write_bytes(b"x")
    for address, says in (
        (f"{url}/a.pth", "say what it must be"),
        (f"{url}/a.pth#sha256=12", "say what it must be"),
        (f"{url}/a.pth#md5={'0' * 64}", "say what it must be"),
        (f"{url}/a.pth#sha256={'0' * 64}", "is not what was asked for: invalid hash value"),
        (f"{url}/b.pth#sha256={'0' * 64}", r"can't be downloaded \(.*[Nn]ot found.*by hand: put it to "),
    ):
        with pytest.raises(UserError, match=says):
            local(address)
    assert not [p for p in cache.rglob("*") if p.is_file() and p.name != ".lock"]


def test_a_bundle_is_a_checkpoint_with_its_configuration(tmp_path):
    first, then = small(), small()
    save_file(first.state_dict(), tmp_path / "model.safetensors")
    assert configuration(read_checkpoint(str(tmp_path))) is None
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": {"dim": 16}}))
    spikefront.load_checkpoint(then, tmp_path)
    assert torch.equal(then.head.weight, first.head.weight)
    assert configuration(read_checkpoint(tmp_path)) == {"model": {"dim": 16}}


@pytest.mark.parametrize("file", [None, "nested/a.pth"])
@pytest.mark.parametrize("revision", ["main", "v1"])
def test_the_hub_is_read_from_its_cache_offline(cache, tmp_path, monkeypatch, file, revision):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    place = tmp_path / "hub/models--me--net"
    snapshot = place / "snapshots" / ("0" * 40)
    (snapshot / "nested").mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / revision).write_text("0" * 40)
    first, then = small(), small()
    save_file(first.state_dict(), snapshot / "model.safetensors")
    torch.save(first.state_dict(), snapshot / "nested/a.pth")
    address = "hf:me/net" + (f"/{file}" if file else "") + (f"@{revision}" if revision != "main" else "")
    spikefront.load_checkpoint(then, address)
    assert torch.equal(then.head.weight, first.head.weight)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("hf:me/absent", r"^hf:me/absent can't be had from the Hugging Face Hub: .+"),
        ("hf:me/absent/a.pth@v1", r"^hf:me/absent/a.pth@v1 can't be had"),
        ("hf:absent", r"is not hf:<owner>/<name>"),
        ("trial:x", r"is not trial:<study>/<number>"),
        ("trial:x/1", r"no study 'x'"),
        ("nowhere.ckpt", "is not a file; give the path of a .pth, .*hf:<owner>/<name>"),
    ],
)
def test_what_is_not_there_is_said_in_a_line(cache, tmp_path, monkeypatch, address, says):
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=says) as refused:
        read_checkpoint(address)
    assert "\n" not in str(refused.value)


def test_a_file_comes_before_an_address_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(small().state_dict(), "hf:me")
    assert read_checkpoint("hf:me")


def test_what_opens_addresses_elsewhere_is_there():
    assert all(callable(get_method(name)) for name in ELSEWHERE.values())
