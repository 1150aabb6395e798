"""The published families' golden cases as networks of this project, by composing what a user would."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import torch
from hydra.utils import instantiate

from spikefront.config import compose
from spikefront.nn.families.layouts import LAYOUTS
from spikefront.nn.families.names import Layout
from spikefront.nn.families.sdt import SpikeDrivenTransformer
from spikefront.nn.network import SpikingNetwork

GOLDEN = Path(__file__).parents[1] / "golden" / "families"
spec = importlib.util.spec_from_file_location("families_fill", GOLDEN / "fill.py")
assert spec and spec.loader
golden = importlib.util.module_from_spec(spec)
spec.loader.exec_module(golden)
CASES = sorted(p.stem for p in GOLDEN.glob("*.json"))


def record(case: str) -> dict:
    return json.loads((GOLDEN / f"{case}.json").read_text())


def overrides(case: str, c: dict) -> list[str]:
    """The command line of a golden case: ``c`` is its ``config``."""
    sizes = {"timesteps": c["T"], "in_channels": c["c"], "num_classes": c["k"], "image_size": c["img"]}
    out = [f"model.{key}={value}" for key, value in sizes.items()]
    family, _, shape = case.rpartition("_")

    def stages(key, values, first=1):
        return [f"model.stages.s{i}.{key}={value}" for i, value in enumerate(values, first)]

    if family in ("maxformer", "qkformer", "ms_qkformer"):
        name = family if shape == "imagenet" else case
        out += [f"model.dim={c['D']}"]
        if "h" in c and shape == "imagenet":
            out += [*stages("heads", [c["h"]] * 3), f"model.stages.s3.depth={c['L'] - 3}"]
    elif family in ("spikformer", "spikingformer"):
        name = case if case in ("spikformer_cifar", "spikformer_event", "spikingformer_event") else family
        pooling = "0011" if shape == "cifar" else "1111"
        out += [f"model.dim={c['D']}", f"model.pooling='{pooling}'", f"neuron.tau={c.get('tau', 2.0)}"]
        out += [*stages("heads", [c["h"]]), *stages("depth", [c["L"]])]
    elif case.startswith("spikingresformer"):
        name = family if shape == "imagenet" else "spikingresformer_cifar"
        out += [f"model.dim={c['dims'][2]}", f"neuron={c['neuron']}"]
        for key, values in (("dim", c["dims"]), ("heads", c["heads"]), ("depth", c["depths"])):
            out += stages(key, values)
        out += stages("mlp.group", [c["group"]] * 3)
    elif case.startswith("statten"):
        name = "statten"
        out += [f"model.dim={c['D']}", f"model.depth={c['L']}", f"model.num_heads={c['h']}"]
        out += [f"model.pooling='{c['pool']}'", f"model.event_mode={c['dvs']}"]
    else:
        d = c["dims"]
        names = {"sdt_v2": "metaspikformer", "sdt_v3_large": "e_spikeformer_large", "sdt_v3": "e_spikeformer"}
        name = next(ours for theirs, ours in names.items() if case.startswith(theirs))
        name += {"sdt_v3_event": "_event"}.get(case, "_base" if c.get("choice") == "base" else "")
        out += [f"model.dim={d[2]}", *stages("dim", [d[0] // 2, *d])]
        if "choice" in c:
            out += [f"model.stages.s4.depth={c['L']}", f"neuron.levels={c['levels']}"]
        if c.get("kd"):
            out += ["model.second_head=spikes"]
    return [f"model={name}", "data=cifar10", *out]


def published(case: str) -> dict[str, torch.Tensor]:
    """The case's weights under the published names."""
    r = record(case)
    kinds = {name: torch.int64 if name.endswith("num_batches_tracked") else torch.float64 for name in r["state_dict"]}
    empty = {name: torch.zeros(shape, dtype=kinds[name]) for name, shape in r["state_dict"].items()}
    return golden.fill(empty, **r["fill"])


def build(case: str, *more: str) -> SpikingNetwork:
    return instantiate(compose([*overrides(case, record(case)["config"]), *more]).model).double()


def layout(case: str, model: SpikingNetwork) -> Layout:
    """Under which layout the published weights of a case are those of ``model``."""
    state = published(case)
    fitting = [each for each in LAYOUTS if each.ours(model.state_dict(), state) is not None]
    assert len(fitting) == 1, [each.name for each in fitting]
    return fitting[0]


def load(case: str, model: SpikingNetwork) -> Layout | None:
    """Give ``model`` the published weights; under which layout, None where the names are ours."""
    if isinstance(model, SpikeDrivenTransformer):
        model.load_state_dict(published(case))
        return None
    found = layout(case, model)
    model.load_state_dict(found.ours(model.state_dict(), published(case)))
    return found


def inputs(case: str) -> torch.Tensor:
    kind, *arguments = record(case)["input"]
    return getattr(golden, kind)(*arguments)
