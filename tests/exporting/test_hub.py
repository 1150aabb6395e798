"""Hubs: Hugging Face's client against a stand-in of its server, W&B's offline and against one of its."""

from __future__ import annotations

import huggingface_hub.constants
import pytest
import torch
import wandb
from pretend_hub import Hub

import spikefront
from spikefront.config import compose
from spikefront.errors import UserError
from spikefront.exporting import bundle
from spikefront.exporting.hub import push
from spikefront.exporting.origin import Origin


@pytest.fixture(scope="module")
def folder(checkpoint, tmp_path_factory):
    made = tmp_path_factory.mktemp("bundle")
    asked = [f"checkpoint={checkpoint}", "format=bundle", "measure=false", "output_dir=x"]
    origin = Origin(compose(asked, root="export"))
    bundle.write(origin.model(), origin.sample(), made, origin=origin)
    (made / "export.json").write_text("{}")
    return made


@pytest.fixture
def hub(monkeypatch, tmp_path):
    constants = huggingface_hub.constants
    with Hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 34)
        yield server


def alike(a, b) -> bool:
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return torch.equal(a(images), b(images))


def test_a_bundle_goes_to_hugging_face_and_comes_back(hub, folder):
    assert "from_pretrained('hf:me/net')" in push("hf:me/net", folder)
    assert set(hub.files["me/net"]) == {"model.safetensors", "config.yaml", "README.md"}
    assert hub.files["me/net"]["README.md"] == (folder / "README.md").read_bytes()
    assert alike(spikefront.from_pretrained("hf:me/net"), spikefront.from_pretrained(folder))
    with pytest.raises(UserError, match=r"hf:me/other can't be had from the Hugging Face Hub: .*Repository Not Found"):
        spikefront.from_pretrained("hf:me/other")


def test_without_a_network_it_is_one_line(monkeypatch, folder, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    for ask in (lambda: push("hf:me/far", folder), lambda: spikefront.from_pretrained("hf:me/far")):
        with pytest.raises(UserError) as told:
            ask()
        assert "\n" not in str(told.value) and "hf:me/far" in str(told.value)
    with pytest.raises(UserError, match="is not hf:<owner>/<name>"):
        spikefront.from_pretrained("hf:me")


def test_a_bundle_becomes_an_artifact_offline(monkeypatch, folder, tmp_path):
    wandb.setup()  # as what ran before in this process may have, elsewhere
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_DIR", raising=False)
    said = push("wandb:me/project/net", folder)
    assert said.startswith("logged offline: wandb sync ")
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    assert str(run) in said
