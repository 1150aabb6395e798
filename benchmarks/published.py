"""Whether the published ImageNet energies, parameters and operation counts fit together: the figures of docs/energy.md.

Builds the five models of arXiv 2307.01694's table without memory for their weights, counts their operations, and solves
the paper's formula for the mean firing rate that gives the published energy. Takes seconds; needs no data.

python benchmarks/published.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml
from hydra.utils import instantiate

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from spikefront.config import compose  # noqa: E402
from spikefront.energy import Paper  # noqa: E402
from spikefront.energy.report import EnergyReport  # noqa: E402
from spikefront.planning.prediction import counted  # noqa: E402
from spikefront.planning.rehearsal import META  # noqa: E402

MODELS = ("8_384", "6_512", "8_512", "10_512", "8_768")
CONVENTIONS = ("once", "per_timestep")
LAYERS = ("analog", "spikes", "unclassified")  # what the paper's formula sums; operators and pools are a part in 300


def published() -> dict[str, dict]:
    """Parameters and joules as the paper's table has them."""
    table = yaml.safe_load((ROOT / "src/spikefront/tracking/published.yaml").read_text(encoding="utf-8"))
    entries = {entry["name"]: entry for entry in table["imagenet"]}
    return {name: entries[f"SDT {name.replace('_', '-')}"] for name in MODELS}


def report(name: str, *overrides: str) -> tuple[EnergyReport, int]:
    """All neurons firing at every timestep, and the number of parameters."""
    cfg = compose([f"model=sdt_{name}", "data=imagenet", *overrides])
    with META:
        model = instantiate(cfg.model)
    return counted(model, cfg, 1.0, set()), sum(p.numel() for p in model.parameters())


def macs(found: EnergyReport) -> float:
    """Multiply-accumulates of one timestep, all neurons firing: convolutions and linear layers."""
    return sum(layer.potential for layer in found.layers if layer.kind in LAYERS)


def energy(found: EnergyReport, rate: float, first_layer: str) -> float:
    """Joules of the convolutions and linear layers, all firing at ``rate``."""
    cost = Paper(first_layer=first_layer)
    return sum(float(cost.joules(x.at_rate(rate)).sum()) for x in found.layers if x.kind in LAYERS)


def implied(found: EnergyReport, joules: float, first_layer: str) -> float:
    """The firing rate, the same in all layers, at which ``energy`` is ``joules``."""
    silent = energy(found, 0.0, first_layer)
    return (joules - silent) / (energy(found, 1.0, first_layer) - silent)


def main() -> None:
    table = published()
    first = {name: report(name) for name in MODELS}
    print("| model | parameters | published | G MAC a timestep | published mJ | rate, first layer once | T times |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    rates: dict[tuple[str, str], float] = {}
    for name, (found, parameters) in first.items():
        for convention in CONVENTIONS:
            rates[name, convention] = implied(found, table[name]["energy"], convention)
        cells = [f"{rates[name, c]:.3f}" for c in CONVENTIONS]
        print(
            f"| {name} | {parameters:,} | {table[name]['parameters'] / 1e6:.2f} M | {macs(found) / 1e9:.2f} |"
            f" {table[name]['energy'] * 1e3:.2f} | {' | '.join(cells)} |"
        )
    print(
        "\n| model | first layer, mJ: once | T times | share of the published energy | T times |\n|---|--:|--:|--:|--:|"
    )
    for name, (found, _) in first.items():
        analog = found.layers[0].potential * found.cost.e_mac  # type: ignore[attr-defined]
        steps, joules = found.timesteps, table[name]["energy"]
        print(
            f"| {name} | {analog * 1e3:.3f} | {steps * analog * 1e3:.3f} |"
            f" {analog / joules:.0%} | {steps * analog / joules:.0%} |"
        )
    print("\n| one more block | parameters, published | here | G MAC | mJ, published | firing rate in that block |")
    print("|---|--:|--:|--:|--:|--:|")
    added: list[float] = []
    for shallow, deep in (("6_512", "8_512"), ("8_512", "10_512")):
        (a, few), (b, many) = first[shallow], first[deep]
        blocks = int(deep.split("_")[0]) - int(shallow.split("_")[0])
        joules = (table[deep]["energy"] - table[shallow]["energy"]) / blocks
        added.append(joules)
        operations = (macs(b) - macs(a)) / blocks
        rate = joules / (0.9e-12 * b.timesteps * operations)
        listed = (table[deep]["parameters"] - table[shallow]["parameters"]) / blocks
        print(
            f"| {shallow} to {deep} | {listed / 1e6:.3f} M | {(many - few) / blocks:,.0f} | {operations / 1e9:.3f} |"
            f" {joules * 1e3:.3f} | {rate:.3f} |"
        )
    (wide, _), (base, _) = first["8_768"], first["8_512"]
    print(f"\n8-768 against 8-512: operations x {macs(wide) / macs(base):.3f}", end="")
    print(f", published energy x {table['8_768']['energy'] / table['8_512']['energy']:.3f}")
    for size in (224, 288):
        found, _ = report("8_768", f"data.image_size={size}")
        once, every = (implied(found, table["8_768"]["energy"], c) for c in CONVENTIONS)
        print(f"8-768 at {size}: {macs(found) / 1e9:.2f} G MAC, rate {once:.3f} once, {every:.3f} T times")
    rate = rates["8_512", "once"]
    print(f"\nwidth 512 at the firing rate of 8-512 ({rate:.3f}, first layer once): ", end="")
    print(", ".join(f"{n} {energy(first[n][0], rate, 'once') * 1e3:.2f} mJ" for n in ("6_512", "8_512", "10_512")))
    print("\nleft for the embedding behind its first layer and the head, if all blocks cost what an added one does:")
    for name, joules in (("6_512", added[0]), ("8_512", added[0]), ("8_512", added[1]), ("10_512", added[1])):
        left = table[name]["energy"] - int(name.split("_")[0]) * joules
        once, every = (left - energy(first[name][0], 0.0, c) for c in CONVENTIONS)
        found = first[name][0]
        rest = macs(found) - int(name.split("_")[0]) * operations - found.layers[0].potential
        rates_left = [x / (0.9e-12 * found.timesteps * rest) for x in (once, every)]
        print(
            f"{name}, {joules * 1e3:.3f} mJ a block, {left * 1e3:.2f} left: {once * 1e3:+.2f} mJ once,"
            f" {every * 1e3:+.2f} mJ T times, a rate of {rates_left[0]:+.3f}, {rates_left[1]:+.3f}"
        )


if __name__ == "__main__":
    main()
