"""The verb ``export`` as a user runs it, and what it wrote, read back."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from examples import few
from huggingface_hub import ModelCard

import spikefront
from spikefront.config import CONF, compose
from spikefront.data import build_data
from spikefront.errors import UserError
from spikefront.exporting import FORMATS
from spikefront.exporting.delivery import chosen
from spikefront.nn.checkpoints import load_checkpoint


@pytest.fixture(scope="module")
def digits():
    """Images and classes of the validation and the test part."""
    data = build_data(compose(["data=digits", "output_dir=x"]).data, timesteps=4)
    data.setup()
    batches = [batch for loader in (data.val_dataloader(), data.test_dataloader()) for batch in loader]
    return torch.cat([images for images, _ in batches]), torch.cat([classes for _, classes in batches])


def export(script, checkpoint, folder, *more: str) -> tuple[dict, str]:
    code, out, err = script(
        "export", f"checkpoint={checkpoint}", f"directory={folder}", f"hydra.run.dir={folder}-run", *more
    )
    assert code == 0, err
    return json.loads((folder / "export.json").read_text()), out


def test_a_bundle_is_the_network_with_what_one_must_know(script, checkpoint, tmp_path, digits):
    said, out = export(script, checkpoint, tmp_path / "bundle", "format=bundle")
    assert set(said["files"]) == {"model.safetensors", "config.yaml", "README.md"} and "README.md" in out
    model = spikefront.from_pretrained(tmp_path / "bundle")
    trained = load_checkpoint(spikefront.create_model("sdt_tiny", data="digits"), checkpoint).eval()
    images, classes = digits
    with torch.no_grad():
        assert torch.equal(model(images), trained(images))
        right = (model(images[144:]).argmax(-1) == classes[144:]).double().mean()
    assert model.classes == [str(i) for i in range(10)] and not model.training
    result = json.loads((checkpoint.parents[1] / "result.json").read_text())
    for source in (
        said["figures"]["test"],
        yaml.safe_load((tmp_path / "bundle/config.yaml").read_text())["figures"]["test"],
    ):
        assert source["accuracy"] == pytest.approx(result["accuracy"]) == pytest.approx(float(right))
        assert source["energy_joules"] == pytest.approx(result["energy_joules"])


def test_without_a_directory_it_lies_in_that_of_the_run(script, checkpoint, tmp_path):
    more = [f"hydra.run.dir={tmp_path}/run", "format=bundle", "measure=false"]
    code, out, err = script("export", f"checkpoint={checkpoint}", *more)
    assert code == 0 and f"{tmp_path}/run/bundle/config.yaml" in out, err
    assert (tmp_path / "run" / "bundle" / "export.json").is_file()


def test_the_card_is_one_that_hugging_face_reads(script, checkpoint, tmp_path):
    said, _ = export(script, checkpoint, tmp_path / "bundle", "format=bundle")
    card = ModelCard.load(tmp_path / "bundle" / "README.md")
    assert card.data.library_name == "spikefront" and card.data.datasets == ["digits"]
    values = {r.metric_type: r.metric_value for r in card.data.eval_results}
    assert values["accuracy"] == said["figures"]["test"]["accuracy"]
    assert said["figures"]["convention"] in card.text and "(batch, 1, 8, 8)" in card.text


def test_without_data_nothing_is_measured(script, checkpoint, tmp_path):
    said, _ = export(script, checkpoint, tmp_path / "bundle", "format=bundle", "measure=false")
    assert said["figures"] is None and "not measured" in (tmp_path / "bundle/README.md").read_text()
    assert spikefront.from_pretrained(tmp_path / "bundle").timesteps == 4


def test_weights_without_a_configuration_bring_model_and_data(script, checkpoint, tmp_path, digits):
    bare = tmp_path / "bare.pth"
    model = load_checkpoint(spikefront.create_model("sdt_tiny", data="digits"), checkpoint).eval()
    torch.save(model.state_dict(), bare)
    export(script, bare, tmp_path / "bundle", "format=bundle", "model=sdt_tiny", "data=digits", "trainer=cpu")
    with torch.no_grad():
        assert torch.equal(spikefront.from_pretrained(tmp_path / "bundle")(digits[0][:9]), model(digits[0][:9]))


@pytest.mark.parametrize("format", few(["int8", "int4"]))
def test_integers_have_their_figures_beside_those_of_floats(script, checkpoint, tmp_path, digits, format):
    said, out = export(script, checkpoint, tmp_path / "whole", f"format={format}")
    assert said["exact"]["equal"] == said["exact"]["of"] == 37 and said["exact"]["bits"] <= 32
    images, classes = digits
    model = spikefront.from_pretrained(tmp_path / "whole")
    with torch.no_grad():
        right = (model(images).argmax(-1) == classes).double()
    accuracy = {
        name: (144 * f["validation"]["accuracy"] + 360 * f["test"]["accuracy"]) / 504
        for name, f in said["figures"].items()
    }
    assert float(right.mean()) == pytest.approx(accuracy[format])  # what was stored is what was measured
    assert accuracy[format] > accuracy["float"] - (0.02 if format == "int8" else 0.15)
    energy = {name: f["test"]["energy_joules"] for name, f in said["figures"].items()}
    assert 0 < energy[format] < energy["float"] and "chip_8bit" in out
    size = said["files"]["model.safetensors"]
    assert size < (200_000 if format == "int8" else 120_000)


@pytest.mark.slow
def test_eight_bits_cost_less_than_a_point(script, tmp_path):
    from conftest import SHORT
    from spikefront.training.run import train

    trained = train(compose([*SHORT, "trainer.max_epochs=20", f"output_dir={tmp_path}/run"]))
    said, _ = export(script, trained.checkpoint, tmp_path / "whole", "format=int8")
    accuracy = {
        name: (144 * f["validation"]["accuracy"] + 360 * f["test"]["accuracy"]) / 504
        for name, f in said["figures"].items()
    }
    assert accuracy["float"] > 0.9 and abs(accuracy["int8"] - accuracy["float"]) < 0.01


def test_help_names_every_format_and_each_says_what_it_writes():
    told = (CONF / "export.yaml").read_text(encoding="utf-8")
    for name in FORMATS:
        write, _ = chosen(name)
        assert write.__doc__ and f"{name} " in told.split("Formats")[1].replace(",", " "), name


def test_what_a_user_can_mend_is_one_line(script, checkpoint, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("kept")
    damaged = tmp_path / "damaged.ckpt"
    damaged.write_bytes(checkpoint.read_bytes()[:5000])
    for given, line in (
        (["format=bundel"], "did you mean 'bundle'?"),
        (["format=bundle", "options={opset: 9}"], "options.opset: format=bundle has no such option"),
        (["format=bundle", f"checkpoint={damaged}"], "it is damaged"),
        (["format=bundle", f"checkpoint={tmp_path}/none.ckpt"], "is not a file"),
        (["format=bundle", f"directory={tmp_path}/full"], "is not empty"),
        (["format=bundle", f"directory={tmp_path}/full/file/deep"], "File exists"),
        (["format=bundle", "member={model.depth: 1}"], "not of an elastic training"),
        (["format=bundle", "push=hf:me"], "write hf:<owner>/<name>"),
        (["format=torch", "push=hf:me/it"], "a hub takes what from_pretrained reads"),
        (["format=int8", "measure=false"], "needs samples"),
        (["format=int8", "options={calibration: 0}"], "options.calibration=0"),
    ):
        where = [] if any(g.startswith("directory") for g in given) else [f"directory={tmp_path}/new"]
        own = [] if any(g.startswith("checkpoint") for g in given) else [f"checkpoint={checkpoint}"]
        code, _, err = script("export", f"hydra.run.dir={tmp_path}/run", *own, *where, *given)
        assert code == 1 and line in err and len(err.strip().splitlines()) == 1, (given, err)
        assert not (tmp_path / "new").exists()  # whole or not at all
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["file"]


def test_a_bundle_runs_nothing(script, checkpoint, tmp_path):
    export(script, checkpoint, tmp_path / "bundle", "format=bundle", "measure=false")
    config = tmp_path / "bundle" / "config.yaml"
    kept = config.read_text()
    for strange, said in (
        ("spikefront.nn.LIF", None),
        ("os.system", "would run os.system"),
    ):
        config.write_text(kept.replace("spikefront.nn.LIF", strange))
        if said is None:
            spikefront.from_pretrained(tmp_path / "bundle")
        else:
            with pytest.raises(UserError, match=said):
                spikefront.from_pretrained(tmp_path / "bundle")
    config.write_text(kept.replace("name: digits", "name: ${oc.env:HOME}"))
    with pytest.raises(UserError, match="reads what is here"):
        spikefront.from_pretrained(tmp_path / "bundle")
    config.write_text("model: [")
    with pytest.raises(UserError, match="can't be read"):
        spikefront.from_pretrained(tmp_path / "bundle")
    with pytest.raises(UserError, match="no folder"):
        spikefront.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(UserError, match="it has no model"):
        spikefront.from_pretrained(tmp_path)
