"""A bundle wherever a checkpoint is asked for, and what can't be one, in a line."""

from __future__ import annotations

import json

import pytest
from test_export import export

from spikefront.config import compose
from spikefront.errors import UserError
from spikefront.exporting.delivery import export as deliver
from spikefront.files import writing_folder
from spikefront.nn.checkpoints import read_checkpoint


@pytest.fixture(scope="module")
def bundle(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "bundle"
    asked = [f"checkpoint={checkpoint}", "format=bundle", "measure=false", f"directory={folder}", "output_dir=x"]
    deliver(compose(asked, root="export"))
    return folder


def test_a_bundle_is_evaluated_and_exported_again(script, checkpoint, bundle, tmp_path):
    code, _, err = script("evaluate", f"checkpoint={bundle}", f"hydra.run.dir={tmp_path}")
    assert code == 0, err
    found, trained = (json.loads((d / "result.json").read_text()) for d in (tmp_path, checkpoint.parents[1]))
    assert found["accuracy"] == trained["accuracy"]
    assert found["energy_joules"] == pytest.approx(trained["energy_joules"])
    said, _ = export(script, bundle, tmp_path / "again", "format=bundle", "measure=false")
    assert "model.safetensors" in said["files"]


@pytest.mark.slow
def test_integers_are_no_checkpoint(script, checkpoint, tmp_path):
    export(script, checkpoint, tmp_path / "int8", "format=int8")
    with pytest.raises(
        UserError, match=r"int8 is of integers, which spikefront\.from_pretrained alone reads: give the"
    ):
        read_checkpoint(tmp_path / "int8")


@pytest.mark.parametrize(
    ("config", "why"),
    [("model: [a\n b: {", "config.yaml can't be read"), ("", "says nothing of a model"), ("a: 1", "says nothing")],
)
def test_a_damaged_configuration_is_named(bundle, tmp_path, config, why):
    (tmp_path / "model.safetensors").write_bytes((bundle / "model.safetensors").read_bytes())
    (tmp_path / "config.yaml").write_text(config)
    with pytest.raises(UserError, match=why) as told:
        read_checkpoint(tmp_path)
    assert "\n" not in str(told.value) and str(tmp_path) in str(told.value)


def test_a_place_that_is_no_folder_is_refused_before_anything_is_made(tmp_path):
    (tmp_path / "file").write_text("kept")
    for place, why in ((tmp_path / "file", "is a file"), (tmp_path / "file" / "x", "can't be written")):
        with pytest.raises(UserError, match=why), writing_folder(place):
            pytest.fail("nothing may be made")
    assert (tmp_path / "file").read_text() == "kept"
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with writing_folder(tmp_path / "link") as folder:
        (folder / "a").write_text("1")
    assert (tmp_path / "real" / "a").is_file() and (tmp_path / "link").is_symlink()
