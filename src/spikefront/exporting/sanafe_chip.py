"""A network, mapped, on a chip that SANA-FE simulates (Boyle et al., IEEE TCAD 2025, doi 10.1109/TCAD.2025.3537971).

Its licence is GPL-3.0: it is imported nowhere here. A script is written that runs it, in a process of its own.

Every neuron of the NIR graph is one of the chip's, masks and pools of spikes too, which keep no potential. A spike
arrives a step after it was fired, so a layer works ``depth`` steps after the first; where a shortcut overtakes others,
relays fire a spike anew at each step between. Everything real (the image's currents, biases) is the weight of one input
neuron a layer, which fires at that layer's T steps alone, so nothing works before; each costs what a synapse does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from torch import Tensor, nn

from spikefront.config import compose
from spikefront.energy import Chip
from spikefront.energy.costs import at_width
from spikefront.errors import UserError
from spikefront.exporting.linear_parts import Linear, flat
from spikefront.exporting.nir_graph import graph_of
from spikefront.files import write_atomically

NEURONS, CORES, TILES, WIDTH = 1024, 4, 32, 8  # neurons a core, cores a tile, tiles, tiles a row
NEVER = 1e6  # a threshold
UNIT = 2.0**16  # what 1 is on the chip: what is left of a potential is rounded to 1/64
# Of Davies et al., "Loihi", IEEE Micro 38(1), 2018, table 2: seconds, and joules a message, which our chips don't know.
LOIHI = {"synapse": 3.5e-9, "neuron": 8.4e-9, "message": 2.1e-9, "east": 4.1e-9, "north": 6.5e-9, "sync": 465e-9}
MESSAGE, EAST, NORTH = 1.7e-12, 3.0e-12, 4.0e-12

RUN = '''"""Runs what stands beside it in SANA-FE (pip install sanafe): energy, latency and logits into result.json."""
import csv, json, pathlib, sanafe

here = pathlib.Path(__file__).parent
facts = json.loads((here / "sanafe.json").read_text())
chip_of = sanafe.load_arch(here / "architecture.yaml")
chip = sanafe.SpikingChip(chip_of)
chip.load(sanafe.load_net(here / "network.yaml", chip_of))
potentials, spikes = here / "potentials.csv", here / "spikes.csv"
done = chip.sim(facts["steps"], potential_trace=str(potentials), spike_trace=str(spikes))
*_, last = csv.DictReader(potentials.open())
logits = [float(last[f"neuron output.{i}"]) / facts["timesteps"] / facts["unit"] for i in range(facts["classes"])]
told = {key: done[key] for key in ("energy", "spikes", "neurons_updated", "neurons_fired", "packets_sent")}
joules, seconds = done["energy"]["total"], done["sim_time"]
(here / "result.json").write_text(json.dumps({"joules": joules, "seconds": seconds, "logits": logits, **told}))
print(f"{joules * 1e6:.3g} µJ, {seconds * 1e3:.3g} ms, class {logits.index(max(logits))}: result.json")
'''


@dataclass
class Group:
    """Neurons that are alike: their ``place`` in the graph, what they do, and how many steps after the image."""

    place: str
    size: int
    threshold: float
    leak: float
    depth: int
    edges: list[tuple[str, np.ndarray]]  # by source, (its size, size)
    currents: np.ndarray
    relay: bool = False

    @property
    def name(self) -> str:
        return self.place.replace(".", "_")


def write(model: nn.Module, sample: Tensor, directory: Path, energy: str | Chip = "chip_8bit") -> dict[str, Any]:
    """Write ``network.yaml``, with mapping and the first image of ``sample``, ``architecture.yaml`` and ``run.py``.

    ``python run.py`` leaves ``result.json``: joules, seconds, and the logits of that image.

    Args:
        sample: ``(B, C, H, W)`` images.
        energy: a chip whose memory costs one figure: joules of additions, memory and neurons are its.

    Returns:
        ``neurons``, ``relays`` among them, ``synapses``, ``currents`` that arrive beside spikes, ``cores``, ``steps``
        that the chip works, ``timesteps``, ``classes``, and the ``convention`` of its joules.

    Raises:
        UserError: a part that has no node (see ``nir_graph``), a pool of potentials, events, a chip too small for it.
    """
    chip: Any = instantiate(compose([f"energy={energy}"]).energy) if isinstance(energy, str) else energy
    if not isinstance(chip, Chip) or not chip.flat:
        raise UserError(f"format=sanafe: energy={energy} has no one figure for its memory; take one such as chip_8bit")
    if sample.dim() != 4:
        raise UserError("format=sanafe: takes images, whose currents are the same at every timestep, not events")
    graph = graph_of(model, tuple(sample.shape[1:]))
    if graph.custom:
        raise UserError(f"format=sanafe: {graph.custom[0]} pools potentials, which no neuron does: use another pooling")
    timesteps = int(model.timesteps)  # type: ignore[arg-type]
    linear = Linear(*flat(graph.nir, graph.nodes, graph.edges))
    cores_of(linear.sizes)  # before its matrices are made
    groups = [*relayed(groups_of(linear, sample[0]))]
    sizes = [g.size for g in groups]
    facts: dict[str, Any] = {
        "neurons": sum(sizes),
        "relays": sum(g.size for g in groups if g.relay),
        "synapses": sum(int(np.count_nonzero(m)) for g in groups for _, m in g.edges),
        "currents": sum(sizes) * timesteps,
        "cores": cores_of(sizes),
        "timesteps": timesteps,
        "unit": UNIT,
        "steps": max(g.depth for g in groups) + timesteps + 1,
        "classes": groups[-1].size,
        "convention": chip.convention,
    }
    directory.mkdir(parents=True, exist_ok=True)
    write_atomically(directory / "network.yaml", "\n".join(network_lines(groups, timesteps)) + "\n")
    write_atomically(directory / "architecture.yaml", "\n".join(architecture_lines(chip, len(groups))) + "\n")
    write_atomically(directory / "run.py", RUN)
    write_atomically(directory / "sanafe.json", json.dumps(facts, indent=2) + "\n")
    told = f"{facts['neurons']:,} neurons, {facts['relays']:,} of them relays, on {facts['cores']} cores"
    return {**facts, "lines": [f"{told}; python run.py there gives joules, seconds and logits of one image"]}


def cores_of(sizes: list[int]) -> int:
    """How many cores groups of these sizes fill, and the input neurons. Raises UserError: more than there are."""
    cores = 1 + sum(-(-size // NEURONS) for size in sizes)
    if cores > TILES * CORES:
        raise UserError(f"format=sanafe: the network fills {cores} cores of {TILES * CORES}: take a smaller one")
    return cores


def groups_of(linear: Linear, image: Tensor) -> Iterable[Group]:
    """Every neuron that a graph has, and the output, whose potentials add up the logits, in the order they work."""
    depth: dict[str, int] = {}
    for place in linear.firing:
        matrices = [(s, linear.between(s, place)) for s in linear.sources(place)]
        depth[place] = 1 + max((depth[s] for s, _ in matrices), default=-1)
        gain, threshold = linear.gain(place), linear.threshold(place, NEVER)
        currents = linear.currents(place, image)
        leak = 1.0 if place == "output" else 1 - gain if linear.leaks(place) else linear.kept(place)
        yield Group(place, currents.size, threshold / gain, leak, depth[place], matrices, currents)


def relayed(groups: Iterable[Group]) -> Iterable[Group]:
    """The groups, with relays before whom a spike would reach too early."""
    known: dict[str, Group] = {}
    for group in groups:
        edges = []
        for source, matrix in group.edges:
            at = known[source]
            for step in count(at.depth + 1):
                if step == group.depth:
                    break
                place = f"{source}.at{step}"
                if place not in known:
                    edge = [(at.place, np.eye(at.size))]
                    known[place] = Group(place, at.size, 0.5, 0.0, step, edge, np.zeros(at.size), relay=True)
                    yield known[place]
                at = known[place]
            edges.append((at.place, matrix))
        group.edges = edges
        known[group.place] = group
        yield group


def network_lines(groups: list[Group], timesteps: int) -> Iterable[str]:
    yield "network:\n  name: spikefront\n  groups:"
    for g in groups:
        log = "log_potential: true" if g.place == "output" else "log_spikes: true"
        settings = f"threshold: {UNIT * g.threshold!r}, leak_decay: {g.leak!r}, reset: 0.0, {log}"
        yield f"    - name: {g.name}\n      attributes: [{settings}]"
        yield f"      neurons:\n        - 0..{g.size - 1}: []"
    yield "    - name: currents\n      attributes: []\n      neurons:"
    for i, g in enumerate(groups):
        yield f"        - {i}: [spikes: {[0] * g.depth + [1] * timesteps}]"
    yield "  edges:"
    for i, g in enumerate(groups):
        for j, current in enumerate(g.currents.tolist()):
            yield f"    - currents.{i} -> {g.name}.{j}: [weight: {UNIT * current!r}]"
        for source, matrix in g.edges:
            name = source.replace(".", "_")
            for a, b in zip(*(at.tolist() for at in np.nonzero(matrix)), strict=True):
                weight = UNIT * float(matrix[a, b])
                yield f"    - {name}.{a} -> {g.name}.{b}: [weight: {weight!r}]"
    yield "mappings:"
    for i in range(len(groups)):
        yield f'  - currents.{i}: [core: 0.0, soma: "inputs[{i}]"]'
    cores = count(1)
    for g in groups:
        for first in range(0, g.size, NEURONS):
            core = next(cores)
            last = min(first + NEURONS, g.size) - 1
            yield f"  - {g.name}.{first}..{last}: [core: {core // CORES}.{core % CORES}, soma: neurons]"


def architecture_lines(chip: Chip, inputs: int) -> Iterable[str]:
    """A mesh of 32 tiles of 4 cores; an addition reads a weight and its potential, and writes that, as in ``Chip``."""
    potential, add = 2 * chip.access(1, chip.potential_bits), at_width("energy.add", chip.add, chip.potential_bits)
    leak = at_width("energy.multiply", chip.multiply, chip.potential_bits) if chip.leak else 0.0
    yield "architecture:\n  name: mesh\n  attributes:"
    yield f"    topology: mesh\n    width: {WIDTH}\n    height: {TILES // WIDTH}\n    link_buffer_size: 16"
    yield f"    sync_model: fixed\n    latency_sync: {LOIHI['sync']!r}"
    yield f"  tile:\n    - name: tile[0..{TILES - 1}]\n      attributes:"
    for sides, joules, seconds in ((("north", "south"), NORTH, "north"), (("east", "west"), EAST, "east")):
        for side in sides:
            yield f"        energy_{side}_hop: {joules!r}\n        latency_{side}_hop: {LOIHI[seconds]!r}"
    yield f"      core:\n        - name: core[0..{CORES - 1}]"
    yield f"          attributes:\n            buffer_position: soma\n            max_neurons_supported: {NEURONS}"

    def unit(name: str, model: str | None = None, **costs: float) -> str:
        lines = [f"            - name: {name}\n              attributes:"]
        lines += [f"                model: {model}"] if model else []
        return "\n".join([*lines, *(f"                {key}: {value!r}" for key, value in costs.items())])

    yield "          axon_in:"
    yield unit("arriving", energy_message_in=0.0, latency_message_in=LOIHI["message"])
    yield "          synapse:"
    weight = chip.access(1, chip.weight_bits)
    time = LOIHI["synapse"]
    yield unit("weights", "current_based", energy_process_spike=add + weight + potential, latency_process_spike=time)
    yield "          dendrite:"
    yield unit("sums", "accumulator", energy_update=0.0, latency_update=0.0)
    yield "          soma:"
    events = ("access_neuron", "update_neuron", "spike_out")
    costs = {f"{what}_{event}": 0.0 for event in events for what in ("energy", "latency")}
    spent = {"energy_update_neuron": add + leak + potential, "latency_update_neuron": LOIHI["neuron"]}
    yield unit("neurons", "leaky_integrate_fire", **{**costs, **spent, "energy_spike_out": chip.access(1, 1)})
    yield unit(f"inputs[0..{inputs - 1}]", "input", **costs)
    yield "          axon_out:"
    yield unit("leaving", energy_message_out=MESSAGE, latency_message_out=LOIHI["message"])
