"""Conventions, baselines and formats: figures that can be checked by hand."""

from __future__ import annotations

import csv
import io
import json
import math

import numpy as np
import pytest
import torch
from networks import network

from spikefront.energy import Chip, EnergyReport, LayerCount, Paper, measure_energy, render
from spikefront.errors import UserError


def layer(kind="spikes", rates=(0.1, 0.3), potential=1000.0, **fields):
    spikes = np.array(rates) * 10
    values = {"name": "x", "group": "mlp", "input_shape": (10,), "ceiling": 10.0, "inputs": 10.0, "outputs": 100.0}
    return LayerCount(kind=kind, spikes=spikes, potential=potential, parameters=1000, **{**values, **fields})


def test_paper():
    assert Paper().joules(layer()).tolist() == pytest.approx([0.9e-10, 2.7e-10])
    image = layer("analog", static=True)
    assert Paper().joules(image).tolist() == pytest.approx([4.6e-9, 4.6e-9])
    assert Paper(first_layer="once").joules(image).tolist() == pytest.approx([4.6e-9, 0])
    events = layer("analog", static=False)
    assert Paper(first_layer="once").joules(events).tolist() == pytest.approx([4.6e-9, 4.6e-9])
    assert "once" in Paper(first_layer="once").convention


def test_memory_energy_is_interpolated_over_size():
    chip = Chip("c", {32: 0.1e-12}, {32: 3.1e-12}, {8192: 10e-12, 32768: 20e-12, 1048576: 100e-12})
    assert chip.access(2048, 32) == pytest.approx(10e-12)
    assert chip.access(5120, 32) == pytest.approx(15e-12)
    assert chip.access(10**9, 32) == pytest.approx(100e-12)
    assert chip.access(2048 * 4, 8) == pytest.approx(2.5e-12)


def test_widths():
    chip = Chip("c", {8: 1e-12, 32: 4e-12}, {8: 2e-12, 32: 9e-12}, 0.0, weight_bits=8, potential_bits=16, leak=False)
    assert chip.joules(layer()).sum() == pytest.approx(400 * 4e-12)
    assert chip.joules(layer("neuron")).sum() == pytest.approx(0.4 * 1000 * 4e-12)
    with pytest.raises(UserError, match=r"energy\.add has no width of 64"):
        Chip("c", {8: 1e-12}, {8: 1e-12}, 0.0, potential_bits=64)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"first_layer": "twice"}, "per_timestep or once"),
        ({"rate": 1.5}, "between 0 and 1"),
        ({"e_ac": 0.9}, r"0\.9e-12 if you mean picojoules"),
        ({"e_mac": 4.6}, r"4\.6e-12 if you mean picojoules"),
        ({"e_ac": -1e-12}, "e_ac"),
        ({"e_mac": 4.6}, "e_mac"),
    ],
)
def test_impossible_conventions(settings, message):
    with pytest.raises(UserError, match=message):
        Paper(**settings)


def test_an_assumed_rate_replaces_the_measured_ones():
    report = measure_energy(network(), torch.rand(2, 1, 8, 8), Paper(rate=0.2))
    assert report.firing_rate == pytest.approx(0.2)
    potential = sum(x.potential for x in report.layers if x.kind in ("spikes", "pool", "attention"))
    first = next(x for x in report.layers if x.kind == "analog")
    assert report.total_joules == pytest.approx(4 * (0.9e-12 * 0.2 * potential + 4.6e-12 * first.potential))
    assert "0.2 assumed" in report.convention


def test_baselines_by_hand():
    operator = layer("attention", rates=(0.5, 0.5), potential=3 * 16 * 8, tokens=16, width=8, ceiling=10.0)
    report = EnergyReport([layer(), operator], Paper(), 1)
    ann, quantised = report.baselines()["ann"], report.baselines()["quantised"]
    assert ann["total_joules"] == pytest.approx(4.6e-12 * (1000 + 2 * 16 * 16 * 8))
    assert ann["attention_operator_ratio"] == pytest.approx(4.6 * 2 * 256 * 8 / (0.9 * 2 * 0.5 * 384))
    assert quantised["bits"] == math.ceil(math.log2(3))
    mac = 0.9e-12 + 3.7e-12 * 2 / 32
    assert quantised["total_joules"] == pytest.approx(mac * (1000 + 2 * 16 * 16 * 8))
    even = quantised["break_even_rate"]
    at_even = EnergyReport([layer(), operator], Paper(rate=min(even, 1.0)), 1)
    assert even <= 1 or at_even.total_joules < quantised["total_joules"]
    assert report.attention["summed_rate"] == pytest.approx(1.5)


def test_break_even_rate_breaks_even():
    report = measure_energy(network(), torch.rand(2, 1, 8, 8))
    quantised = report.baselines()["quantised"]
    assert 0 < quantised["break_even_rate"] < 1
    even = EnergyReport(report.layers, Paper(rate=quantised["break_even_rate"]), 1)
    assert even.total_joules == pytest.approx(quantised["total_joules"])


def test_totals_agree_with_each_other():
    report = measure_energy(network(), torch.rand(4, 1, 8, 8))
    rows = report.rows()
    assert sum(r["joules"] for r in rows) == pytest.approx(report.total_joules)
    assert sum(report.groups.values()) == pytest.approx(report.total_joules)
    assert report.anytime_joules[-1] == pytest.approx(report.total_joules)
    assert sum(r["share"] for r in rows) == pytest.approx(1)
    assert list(report.groups) == ["embedding", "attention projections", "attention operator", "mlp", "head"]


@pytest.mark.parametrize("form", ["table", "json", "csv", "markdown", "latex"])
def test_every_format_holds_every_layer_and_the_convention(form):
    report = measure_energy(network(), torch.rand(4, 1, 8, 8))
    text = render(report.to_dict(), form)
    for row in report.rows():
        assert (row["name"].replace("_", r"\_") if form == "latex" else row["name"]) in text
    assert report.convention.split(",")[0] in text
    if form == "json":
        record = json.loads(text)
        assert record["total_joules"] == report.total_joules
        assert {"rows", "convention", "baseline"} <= record.keys()
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        assert sum(float(r["joules"]) for r in rows) == pytest.approx(report.total_joules)
    if form == "latex":
        assert text.count("{") == text.count("}") and "×" not in text


def test_unknown_format():
    with pytest.raises(UserError, match="markdown"):
        render(EnergyReport([layer()], Paper(), 1), "mardown")
