"""A model card: Hugging Face's front matter, then what a reader must know before using the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from spikefront.units import joules


def card(about: Mapping[str, Any]) -> str:
    """The card's text.

    Args:
        about: what a bundle's ``config.yaml`` holds.
    """
    name = _name(about)
    front = {
        "library_name": "spikefront",
        "pipeline_tag": "image-classification",
        "tags": ["spiking-neural-network", "spiking-transformer", "spikefront"],
        "datasets": [about["data"]["name"]],
        "metrics": ["accuracy"],
    }
    if figures := about.get("figures"):
        front["model-index"] = [{"name": name, "results": [_result(about, figures)]}]
    head = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    parts = [f"---\n{head}---\n\n# {name}", _figures(about), USE, _input(about), _provenance(about)]
    return "\n\n".join(parts) + "\n"


USE = """## Use

```python
import spikefront

model = spikefront.from_pretrained("this folder, hf:<owner>/<name> or wandb:<entity>/<project>/<artifact>")
logits = model(images)  # (batch, classes); per_step=True: (T, batch, classes)
```"""


def _name(about: Mapping[str, Any]) -> str:
    model = about["model"]
    kind = str(model["_target_"]).rpartition(".")[2]
    width = f"{model['depth']}-{model['dim']}" if "depth" in model else str(model.get("dim", ""))
    bits = f", {about['integers']['bits']}-bit integers" if "integers" in about else ""
    return f"{kind} {width}, T = {model['timesteps']}, on {about['data']['name']}{bits}"


def _result(about: Mapping[str, Any], figures: Mapping[str, Any]) -> dict[str, Any]:
    test, data = figures["test"], about["data"]["name"]
    energy = {"type": "energy_joules", "name": f"energy a sample ({figures['convention']})"}
    return {
        "task": {"type": "image-classification"},
        "dataset": {"name": data, "type": data, "split": "test"},
        "metrics": [{"type": "accuracy", "value": test["accuracy"]}, {**energy, "value": test["energy_joules"]}],
    }


def _figures(about: Mapping[str, Any]) -> str:
    figures = about.get("figures")
    if not figures:
        return "Accuracy and energy were not measured when this was exported."
    rows = ["| part | samples | accuracy | energy a sample | firing rate |", "|---|--:|--:|--:|--:|"]
    for part in ("validation", "test"):
        f = figures[part]
        spent = joules(f["energy_joules"])
        rows.append(f"| {part} | {f['samples']} | {f['accuracy']:.4f} | {spent} | {f['firing_rate']:.3f} |")
    steps = [f"| {p['t']} | {p['accuracy']:.4f} | {joules(p['energy_joules'])} |" for p in figures["test"]["anytime"]]
    early = ["Stopping after t timesteps, on the test part:", "", "| t | accuracy | energy |", "|--:|--:|--:|", *steps]
    convention = f"Energy is counted from measured spikes under the convention *{figures['convention']}*."
    return "\n".join([*rows, "", convention, "", *early])


def _input(about: Mapping[str, Any]) -> str:
    data, model = about["data"], about["model"]
    size = f"{data['channels']}, {data['image_size']}, {data['image_size']}"
    frames = f"(batch, {model['timesteps']}, {size}), a frame of events a timestep"
    lines = ["## Input and classes", "", f"- takes `{frames if data.get('binning') else f'(batch, {size})'}`"]
    lines += [f"- before that: `{step}`" for step in about.get("preprocessing") or []]
    if classes := about.get("classes"):
        lines.append(f"- {len(classes)} classes: {', '.join(classes[:20])}{' …' if len(classes) > 20 else ''}")
    return "\n".join(lines)


def _provenance(about: Mapping[str, Any]) -> str:
    lines = ["## Where it is from", "", f"- trained on {about['data']['name']}, seed {about['seed']}"]
    if about.get("member"):
        lines.append(f"- a member of an elastic training: `{about['member']}`")
    commit = f", commit {about['commit']}" if about.get("commit") else ""
    return "\n".join([*lines, f"- exported by spikefront {about['spikefront']}{commit}"])
