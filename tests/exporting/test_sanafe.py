"""SANA-FE runs what we write, in a process of its own: the network's spikes and logits, energy beside our chip's."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from networks import network
from sklearn.datasets import load_digits

import spikefront
from spikefront.config import compose
from spikefront.energy import measure_energy
from spikefront.errors import UserError
from spikefront.exporting.sanafe_chip import write
from spikefront.nn import LIF

nir = pytest.importorskip("nir", reason="needs the extra 'nir': pip install -c constraints.txt -e '.[nir]'")
import nir_run  # noqa: E402

from spikefront.exporting import nir_graph  # noqa: E402

REASON = "needs the extra 'sanafe', GPL-3.0: pip install -c constraints.txt -e '.[sanafe]'"
CHIP = instantiate(compose(["energy=chip_8bit"]).energy)


def small(**settings):
    settings = {"depth": 1, "dim": 16, "neuron": partial(LIF, threshold=0.5), **settings}
    return network(**settings).double()


@pytest.fixture(scope="module")
def image():
    return torch.tensor(load_digits().images[:1, None] / 16)


@pytest.fixture(scope="module")
def ran(tmp_path_factory, image):
    """The network, what was told, what SANA-FE said, and the spikes of every neuron by NIR's equations."""
    if importlib.util.find_spec("sanafe") is None:
        pytest.skip(REASON)
    model, home = small(), tmp_path_factory.mktemp("chip")
    told = write(model, image, home)
    subprocess.run([sys.executable, home / "run.py"], check=True, capture_output=True, timeout=120)
    nir_graph.write(model, image, home)
    _, spikes = nir_run.run(nir.read(home / "network.nir"), image.expand(4, *image.shape), nir_graph.DT)
    return model, told, json.loads((home / "result.json").read_text()), spikes, home


def test_logits_are_the_networks(ran, image):
    model, told, said, _, _ = ran
    with torch.no_grad():
        logits = model(image)[0]
    assert logits.any() and told["classes"] == 10
    assert torch.allclose(torch.tensor(said["logits"], dtype=logits.dtype), logits, atol=1e-6)


def test_every_neuron_fires_when_it_should(ran):
    """A layer's spikes at step t are seen ``depth`` steps later, masks and pools included."""
    *_, spikes, home = ran
    fired: dict[str, dict[int, set[int]]] = {}
    with (home / "spikes.csv").open() as file:
        for row in csv.DictReader(file):
            name, number = row["neuron"].split(".")
            fired.setdefault(name, {}).setdefault(int(row["timestep"]), set()).add(int(number))
    compared = 0
    for place, ours in spikes.items():
        theirs = fired.get(place.replace(".", "_"), {})
        expected = [set(step.flatten().nonzero().flatten().tolist()) for step in ours]
        assert bool(theirs) == any(expected), place
        if not theirs:
            continue
        start = min(theirs) - next(t for t, step in enumerate(expected) if step)
        assert [theirs.get(start + t, set()) for t in range(4)] == expected, place
        assert set(theirs) <= set(range(start, start + 4)), place
        compared += 1
    assert compared >= 12 and fired["block_0_attn_sdsa1_masked"]


def test_energy_is_that_of_its_events_and_stands_beside_our_chips(ran, image):
    model, told, said, _, home = ran
    synapse = CHIP.add[32] + CHIP.access(1, 8) + 2 * CHIP.access(1, 32)
    energy, ours = said["energy"], measure_energy(model, image, CHIP)
    assert said["joules"] == pytest.approx(sum(v for k, v in energy.items() if k != "total"), rel=1e-9)
    fanout: dict[str, int] = {}
    with (home / "network.yaml").open() as file:
        for line in file:
            if " -> " in line and not (source := line.split()[1]).startswith("currents."):
                fanout[source] = fanout.get(source, 0) + 1
    with (home / "spikes.csv").open() as file:
        events = sum(fanout.get(row["neuron"], 0) for row in csv.DictReader(file))
    events += told["currents"]
    assert energy["synapse"] == pytest.approx(events * synapse, rel=1e-9)
    assert said["neurons_updated"] >= told["neurons"] * told["timesteps"]  # and again while a potential decays
    assert told["convention"] == ours.convention
    spiking = sum(
        j.sum() for x, j in zip(ours.layers, map(CHIP.joules, ours.layers), strict=True) if x.kind == "spikes"
    )
    assert 1 < energy["synapse"] / float(spiking) < 20  # a stream's readers each add up all that was ever added to it
    assert 0 < said["seconds"] < 1e-2


def test_its_licence_stays_outside():
    texts = {p: p.read_text(encoding="utf-8") for p in Path(spikefront.__file__).parent.rglob("*.py")}
    assert not [p for p, text in texts.items() if re.search(r"^\s*(import|from) sanafe", text, re.M)]
    assert not {"sanafe", "sanafecpp"} & set(sys.modules)


@pytest.mark.parametrize(
    ("settings", "options", "said"),
    [
        ({"pooling": "0001"}, {}, r"patch_embed\.maxpool3 pools potentials"),
        ({}, {"energy": "neuromorphic"}, "one figure for its memory"),
        ({"dim": 512}, {}, "cores of 128"),
    ],
    ids=["pool", "memory", "size"],
)
def test_what_cannot_be_mapped_is_said_in_a_line(tmp_path, image, settings, options, said):
    with pytest.raises(UserError, match=said) as error:
        write(small(**settings), image, tmp_path, **options)
    assert "\n" not in str(error.value) and not (tmp_path / "network.yaml").exists()


def test_events_are_refused(tmp_path):
    with pytest.raises(UserError, match="not events"):
        write(small(), torch.rand(1, 4, 1, 8, 8), tmp_path)
