"""``figures=true``: what one sample makes fire, and the page that shows it."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from examples import few
from networks import network
from PIL import Image

from spikefront.api import create_model
from spikefront.commands.energy import measure, settle
from spikefront.config import compose
from spikefront.energy import EnergyMeter
from spikefront.energy.firing import activity
from spikefront.errors import UserError
from spikefront.tracking.pages.firing_page import (
    attention_figure,
    layers_figure,
    picture,
    raster_figure,
    write_activity,
)

TINY = ["logger=none", "model.depth=2", "model.dim=16", "samples=8", "figures=true"]


@pytest.fixture(scope="module")
def measured():
    return measure(compose(TINY, root="measure"))


def test_activity_is_what_the_network_does():
    """Spikes, maps and open channels against the tensors themselves."""
    model, sample = network(), torch.rand(1, 1, 8, 8)
    meter = EnergyMeter(model)
    with torch.inference_mode(), meter.recording():
        model(sample)
    meter.remove()
    seen = {}
    attn = model.block[1].attn
    hooks = [
        attn.q_lif.register_forward_hook(lambda m, a, out: seen.update(q=out)),
        attn.talking_heads_lif.register_forward_hook(lambda m, a, out: seen.update(mask=out)),
        attn.op.register_forward_hook(lambda m, a, out: seen.update(out=out)),
    ]
    with torch.inference_mode():
        model(sample)
    for hook in hooks:
        hook.remove()
    found = activity(model, sample, meter.counts(), units=10**6)
    by_name = {n["name"]: n for n in found["neurons"]}
    assert np.array(by_name["block.1.attn.q_lif"]["spikes"]).tolist() == seen["q"].flatten(1).tolist()
    block = found["attention"][1]
    assert block["name"] == "block.1.attn.op" and list(block["maps"]) == ["q", "k", "v", "leaves"]
    assert np.allclose(block["maps"]["leaves"], seen["out"].mean((0, 1, 2)), atol=1e-6)
    assert np.allclose(block["open"], seen["mask"].flatten(1).mean(1), atol=1e-6)
    assert np.array(block["maps"]["leaves"]).max() > 0
    assert not any(m._forward_hooks for m in model.modules())


def test_figures_show_the_figures(measured):
    record = measured.to_dict()
    heat, *bars = layers_figure(record).data
    assert [[r is None for r in line] for line in heat.z] == [
        [row["firing_rate_per_timestep"] is None] * record["timesteps"] for row in record["rows"]
    ]
    assert sum(sum(bar.x) for bar in bars) == pytest.approx(record["total_joules"])
    raster = raster_figure(measured.activity).data[0]
    fired = sum(sum(map(sum, n["spikes"])) for n in measured.activity["neurons"])
    assert sum(v for line in raster.z for v in line if v is not None) == fired > 0
    maps = [trace for trace in attention_figure(measured.activity).data if trace.type == "heatmap"]
    assert len(maps) == 2 * 4 and list(maps[3].z) == measured.activity["attention"][0]["maps"]["leaves"]


@pytest.mark.parametrize(
    "attention",
    few(["sdsa1", "sdsa2", "sdsa3", "ssa", "qkta", "dssa", "statten", "e_sdsa", "softmax", "dwc3", "none"], 6),
)
def test_every_attention_and_events(attention, tmp_path):
    model = create_model("sdt_1_16", data="digits_dvs", overrides=[f"attention={attention}"])
    events = torch.randint(0, 3, (2, model.timesteps, 2, 16, 16)).float()
    settle(model, events)
    meter = EnergyMeter(model)
    with torch.inference_mode(), meter.recording():
        model.eval()(events)
    report = meter.report()
    page = write_activity(report.to_dict(), activity(model, events[:1], report.layers), tmp_path / "a.html").read_text()
    figures = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])["figures"]
    assert ("attention" in figures) == (attention not in ("none", "softmax", "dwc3"))


def test_picture():
    image = np.zeros((3, 4, 6))
    image[0, 1, 2] = 2.0
    pixels = Image.open(io.BytesIO(base64.b64decode(picture(image.tolist()).partition(",")[2])))
    assert pixels.size == (6 * 16, 4 * 16) and pixels.getpixel((2 * 16 + 3, 16 + 3)) == (255, 0, 0)


def test_page_from_the_command_line(script, tmp_path):
    code, out, err = script("energy", *TINY, "format=json", f"hydra.run.dir={tmp_path}")
    assert code == 0 and json.loads(out)["samples"] == 8  # standard output stays the table's
    path = re.search(r"figures in (\S+)", err)[1]
    page = (tmp_path / "activity.html").read_text()
    assert path == str(tmp_path / "activity.html") and "random weights" in page
    assert not re.search(r'(?:src|href)="(?!data:)', page.partition("<script>")[0]), "the page needs another file"


def test_assumed_rates_have_no_figures():
    with pytest.raises(UserError, match=r"energy\.rate"):
        measure(compose([*TINY, "energy.rate=0.2"], root="measure"))
