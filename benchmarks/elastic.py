"""The front of one elastic training against fronts of independent trainings, over CPU seconds, side by side.

    python benchmarks/elastic.py [arm ...] [--seeds 3] [--trials 40] [--json FILE] [--table]

Each arm is one `sweep` command with one worker on one thread, the same space (depth {1,2}, width {16,32,48,64}, T
{1,2,4}, threshold 0.4-1.4), digits with a third of the training part for validation, 8 epochs a trial: `tpe`, `front`
(TPE with the front pruner), `random`, and `elastic` (16 epochs for all, 400 slices evaluated, 8 fine-tuned for 4
epochs). All arms of a seed run one after the other. Reported: the hypervolume of the front with its anytime points
(validation part; reference accuracy 0 and the dearest trial's energy; energy as it is, and in decades down to a
thousandth), CPU seconds of the whole command, and when an arm reaches what `tpe` ends with. A trial's place on the
seconds' axis is its share of the arm's CPU seconds, by its own wall clock.

Not among the arms: Hydra's stock Optuna sweeper, which needs an environment of its own (benchmarks/sweep.py); it is
told neither of anytime points nor of energy's decades, and draws from the same samplers.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src")]

SPACE = (
    "model.depth=choice(1,2)",
    "model.dim=choice(16,32,48,64)",
    "model.timesteps=choice(1,2,4)",
    "neuron.threshold=interval(0.4,1.4)",
)
COMMON = ("data=digits", "data.val_fraction=0.3", "trainer=cpu", "trainer.max_epochs=8", "threads=1", "logger=none")
COMMON += ("callbacks.progress=null", "search.workers=1", "search.study=s")
ARMS = {
    "tpe": ("search/sampler=tpe",),
    "front": ("search/sampler=tpe", "search/pruner=front"),
    "random": ("search/sampler=random",),
    "elastic": ("search/engine=elastic", "search.finetune_epochs=4"),
}
SLICES = 400


def run(arm: str, seed: int, trials: int) -> dict[str, Any]:
    """Every complete trial's points with the CPU seconds by which they were known, and the command's."""
    from spikefront.sweeping.study.records import records
    from spikefront.sweeping.study.study import load

    with tempfile.TemporaryDirectory() as directory:
        budget = SLICES if arm == "elastic" else trials
        own = (f"seed={seed}", f"search.sampler.seed={seed}", f"search.dir={directory}", f"search.n_trials={budget}")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, str(ROOT / "src" / "sweep.py"), "-m", *COMMON, *SPACE, *ARMS[arm], *own]
        subprocess.run(command, check=True, cwd=directory, env={**os.environ, "OMP_NUM_THREADS": "1"})
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        found = records(load({"dir": directory, "study": "s", "storage": None})[0], volumes=False)
    done = sorted((t for t in found["trials"] if t["finished"]), key=lambda t: t["finished"])
    wall = np.cumsum([t["spent"].get("seconds", 0.0) for t in done])
    steps = []
    for trial, at in zip(done, wall * cpu / wall[-1], strict=True):
        points = [[p["accuracy"], p["energy_joules"]] for p in trial["anytime"]]
        if trial["state"] == "complete":
            steps.append({"at": float(at), "points": points, "final": [trial["values"]["energy"]]})
    return {"arm": arm, "seed": seed, "cpu": cpu, "trials": steps, "members": len(found["front"])}


def curve(run_: dict[str, Any], worst: float, decades: bool) -> list[tuple[float, float]]:
    """Hypervolume over CPU seconds."""
    from spikefront.analysis.pareto import hypervolume, non_dominated

    front, found = np.empty((0, 2)), []
    for step in run_["trials"]:
        new = np.array([[-a, max(np.log10(e / worst), -3.0) if decades else e / worst] for a, e in step["points"]])
        front = np.vstack([front, new])
        front = front[non_dominated(front)]
        found.append((step["at"], hypervolume(front, (0.0, 0.0 if decades else 1.0))))
    return found


def reached(found: list[tuple[float, float]], goal: float) -> float:
    return next((at for at, volume in found if volume >= goal), float("nan"))


def at(found: list[tuple[float, float]], seconds: float) -> float:
    return max((volume for when, volume in found if when <= seconds), default=0.0)


def told(values: list[float], form: str) -> str:
    return f"{np.mean(values):{form}}" + (f" ± {np.std(values, ddof=1):{form}}" if len(values) > 1 else "")


def table(lines: list[dict[str, Any]]) -> None:
    worst = max(e for r in lines for t in r["trials"] for e in t["final"])
    seeds = sorted(
        {r["seed"] for r in lines if r["arm"] == "elastic"} & {r["seed"] for r in lines if r["arm"] == "tpe"}
    )
    print(
        "| arm | seeds | CPU s | on the front | hypervolume | reaches tpe's after | in decades | reaches tpe's after |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    by = {(r["arm"], r["seed"]): r for r in lines}
    for arm in ARMS:
        own = [s for s in seeds if (arm, s) in by]
        if not own:
            continue
        cells = [told([by[arm, s]["cpu"] for s in own], ".0f"), told([by[arm, s]["members"] for s in own], ".0f")]
        for decades in (False, True):
            ends, when = [], []
            for s in own:
                mine, theirs = (curve(by[a, s], worst, decades) for a in (arm, "tpe"))
                ends.append(mine[-1][1])
                when.append(reached(mine, theirs[-1][1]) / by["tpe", s]["cpu"])
            there = [w for w in when if np.isfinite(w)]
            part = f"{np.median(there):.0%} of its seconds" if there else "never"
            cells += [
                told(ends, ".3f"),
                part + (f" ({len(there)} of {len(when)} seeds)" if len(there) < len(when) else ""),
            ]
        print(f"| {arm} | {len(own)} | {' | '.join(cells)} |")
    for decades in (False, True):
        more = []
        for s in seeds:
            seconds = min(by["elastic", s]["cpu"], by["tpe", s]["cpu"])
            mine, theirs = (at(curve(by[a, s], worst, decades), seconds) for a in ("elastic", "tpe"))
            more.append(mine / theirs - 1)
        if more:
            scale = "in decades" if decades else "as it is"
            print(
                f"\nafter equal seconds elastic has {told([100 * m for m in more], '+.1f')} % of tpe's, energy {scale}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="*", default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "elastic.jsonl")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    given.json.parent.mkdir(parents=True, exist_ok=True)

    def known() -> list[dict[str, Any]]:
        return [json.loads(line) for line in given.json.read_text().splitlines()] if given.json.is_file() else []

    done = {(r["arm"], r["seed"]) for r in known()}
    for seed in range(0 if given.table else given.seeds):
        for arm in given.arms:
            if (arm, seed) not in done:
                found = run(arm, seed, given.trials)
                with given.json.open("a") as file:
                    file.write(json.dumps(found) + "\n")
    table(known())


if __name__ == "__main__":
    main()
