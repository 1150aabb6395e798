"""``sweeps/wandb.yaml`` under W&B's own scheduler and agent, as far as these go without their server."""

from __future__ import annotations

import optuna
import pytest
import wandb
import yaml
from standin import ENTITY, StandIn

from spikefront.config import ROOT

SHORT = ("trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=1", "callbacks=quiet")


@pytest.fixture
def sweep():
    from wandb.sdk.sweeps.sweep_info import SweepInfo  # takes seconds, which others need not wait

    config = yaml.safe_load((ROOT / "sweeps" / "wandb.yaml").read_text(encoding="utf-8"))
    return SweepInfo("s1", "s1", ENTITY, "p", config, "controller")


def test_its_scheduler_proposes_what_train_takes_and_learns_from_the_runs_of_its_agents(
    sweep, script, tmp_path, monkeypatch
):
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args
    from wandb.sdk.sweeps.run_state import RunState
    from wandb.sdk.sweeps.scheduler.optimizer import RunWithMetrics
    from wandb.sdk.sweeps.scheduler.optuna import build_optuna_optimizer

    optimizer = build_optuna_optimizer(sweep)
    (proposed,) = optimizer.ask_n_runs(1)
    arguments = create_sweep_command_args({"args": proposed.config.wire_dict()})["args_no_hyphens"]
    given = sweep.config["command"][3:-1] + arguments
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")  # as its agent starts a run
    monkeypatch.setenv("WANDB_RUN_ID", "r1")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.delenv("WANDB_MODE")
    with StandIn() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        wandb.teardown()
        code, out, err = script("train", *given, *SHORT, "logger.project=p", f"hydra.run.dir={tmp_path}")
        wandb.teardown()
    assert code == 0, out + err
    assert list(server.runs) == ["r1"]  # else the scheduler would wait for ever
    run = server.runs["r1"]
    told = RunWithMetrics(proposed.config, RunState.FINISHED, "r1", run["summary"], [])
    optimizer.tell_run(proposed.run_id, told)
    (trial,) = optimizer.study.trials
    assert trial.state == optuna.trial.TrialState.COMPLETE
    assert trial.values == [run["summary"]["accuracy"], run["summary"]["energy"]] and trial.values[1] > 0
    assert [d.name for d in optimizer.study.directions] == ["MAXIMIZE", "MINIMIZE"]
