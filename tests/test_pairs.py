"""Every two of the features that can stand beside each other, on a network that trains in a moment.

Each row is a sweep of two trials whose study is then continued for one more, its first trial evaluated with early exit
from its checkpoint, and its page written; pairwise coverage (allpairspy) puts every two options of two features into
some row.
"""

from __future__ import annotations

import json
import math

import pytest
from allpairspy import AllPairs
from optuna.trial import TrialState
from pretended import Sweep

from spikefront.sweeping.study import accounts
from spikefront.sweeping.study.records import records
from spikefront.tracking.pages.front_table import front_table, write_front_html
from spikefront.training import train

TINY = [
    "trainer=cpu",
    "trainer.max_epochs=2",
    "trainer.limit_train_batches=2",
    "trainer.limit_val_batches=2",
    "trainer.limit_test_batches=1",
    "data.batch_size=16",
    "callbacks.energy.every=1",
    "search.workers=1",
]
MIXUP = "{_target_: timm.data.Mixup, mixup_alpha: 0.5, label_smoothing: 0, num_classes: 10}"
FEATURES: dict[str, dict[str, list[str]]] = {
    "data": {"digits": ["data=digits"], "events": ["data=digits_dvs", "model.timesteps=2"]},
    "family": {
        "sdt": ["model=sdt_1_16"],
        "maxformer": ["model=maxformer_cifar", "model.dim=32"],
        "qkformer": ["model=qkformer_cifar", "model.dim=32"],
        "spikingresformer": ["model=spikingresformer_cifar", "model.dim=32", "model.stages.s1.dim=16"],
        "e_spikeformer": ["model=e_spikeformer", "model.dim=32", "model.stages.s4.depth=1"],
    },
    "neuron": {
        "its own": [],
        "plif": ["neuron=plif"],
        "ilif": ["neuron=ilif"],
        "external": ["neuron=spikingjelly/lif"],
    },
    "loss": {
        "cross entropy": [],
        "tet": ["loss=tet"],
        "penalty": ["loss.energy_weight=1"],
        "budget": ["loss.energy_weight=1", "loss.energy_budget=1e-9"],
    },
    "callbacks": {"default": [], "quiet": ["callbacks=quiet"], "ema": ["callbacks=ema"]},
    "precision": {"32": [], "bf16": ["trainer.precision=bf16-mixed"]},
    "drop_path": {"no": [], "yes": ["model.drop_path=0.2"]},
    "mixup": {"no": [], "yes": [f"+data.mixup={MIXUP}", "+data.mixup_off_epoch=null"]},
    "latency": {"no": [], "dense": ["latency=dense"], "sparse": ["latency=sparse"], "auto": ["latency=auto"]},
    "training": {"dense": [], "sparse": ["model.sparse=true"], "recomputed": ["model.checkpoint_blocks=true"]},
    "logger": {"none": ["logger=none"], "csv": ["logger=csv"], "wandb": ["logger=wandb", "logger.mode=offline"]},
    "sampler": {s: [f"search/sampler={s}"] for s in ("tpe", "random", "grid", "nsga2", "qmc")},
    "pruner": {"no": [], "front": ["search/pruner=front"], "median": ["search/pruner=median"]},
    "seeds": {"one": [], "two": ["search.seeds=2"]},
    "constraint": {
        "no": [],
        "yes": ["search.constraints.parameters=1e6", "+search.constraints={neuron.threshold: '< 0.35'}"],
    },
    "warm": {"no": [], "csv": ["search.warm_start={}/known.csv"]},
    "storage": {"sqlite": [], "journal": ["search.storage=journal://{}/study.log"]},
}
SPACE = ["neuron.threshold=choice(0.1,0.2,0.3,0.4)", "optimizer.lr=choice(1e-3,1e-2)"]


ROWS = [dict(zip(FEATURES, row, strict=True)) for row in AllPairs([list(options) for options in FEATURES.values()])]
SHORT = 1  # of them in `make test`


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(
            row,
            id=f"{i}-" + "-".join(row.values()).replace(" ", "_"),
            marks=[] if i < SHORT else pytest.mark.slow,
        )
        for i, row in enumerate(ROWS)
    ],
)
def test_every_two_features_work_together(row, tmp_path, script):
    if row["neuron"] == "external":
        pytest.importorskip("spikingjelly")
    (tmp_path / "known.csv").write_text("neuron.threshold,optimizer.lr,accuracy,energy\n0.2,0.001,0.3,1e-8\n")
    chosen = [o.replace("{}", str(tmp_path)) for key, option in row.items() for o in FEATURES[key][option]]
    for trials in (2, 3):
        search = Sweep(tmp_path, *TINY, *chosen, f"search.n_trials={trials}", space=SPACE, train=train)
        search.run_here()
        now = accounts.account(search.study())
        said = [(t.number, t.state.name, t.user_attrs.get("reason")) for t in search.study().trials]
        assert not now.failed and len(now.finished) == trials, said
        assert now.known == (row["warm"] == "csv")
    found = records(search.study(), importance=True)
    complete = [t for t in found["trials"] if t["state"] == "complete" and not t["known"]]
    assert complete and all(math.isfinite(v) for t in complete for v in t["values"].values())
    assert all(t["values"]["energy"] > 0 and len(t["seeds"]) == (2 if row["seeds"] == "two" else 0) for t in complete)
    assert len({str(t["params"]) for t in complete}) == len(complete)
    assert all(0 < t["metrics"]["latency"] < 1 for t in complete)
    assert front_table(found) and write_front_html(found, tmp_path / "front.html").stat().st_size > 10_000
    assert not [t for t in search.study().trials if t.state == TrialState.RUNNING]
    checkpoints = sorted((tmp_path / "s/trials").glob("*/**/best.ckpt"))
    assert bool(checkpoints) == (row["callbacks"] != "quiet")
    if checkpoints:
        output = tmp_path / "evaluated"
        arguments = [f"checkpoint={checkpoints[0]}", "accelerator=cpu", "confidence=[0.5]", f"hydra.run.dir={output}"]
        code, _, err = script("evaluate", *arguments, "+overrides.trainer.limit_test_batches=1")
        assert code == 0, err
        result = json.loads((output / "result.json").read_text())
        assert 0 <= result["accuracy"] <= 1 and result["energy_joules"] > 0
