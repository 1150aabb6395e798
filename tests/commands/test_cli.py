"""Errors a user can cause: one line that names the thing and the way out, exit code 1, nothing written."""

from __future__ import annotations

import gc
import os
import shlex
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from examples import few
from hydra.core.utils import setup_globals
from omegaconf import OmegaConf

from hydra_plugins.spikefront_configs import OwnDirectory
from spikefront import start
from spikefront.commands.cli import explain
from spikefront.config import compose
from spikefront.start import SPINS

MISTAKES = {
    "model=sdt_tinny": ("model=sdt_tinny does not exist", "did you mean 'sdt_tiny'"),
    "data=digit": ("data=digit does not exist", "'digits'"),
    "modle.dim=3": ("no configuration key 'modle'", "'model'"),
    "model.dimm=3": ("no configuration key 'model.dimm'", "'dim'"),
    "model.dim=[": ("can't read the argument 'model.dim=['", "quote", """'model.dim="["'"""),
    "ckpt_path=x.ckpt": ("no configuration key 'ckpt_path'", "resume=", "checkpoint="),
    "train=False": ("no configuration key 'train'", "evaluate"),
    "tags=[a]": ("no configuration key 'tags'", "logger.tags="),
    "paths.output_dir=x": ("no configuration key 'paths'", "hydra.run.dir="),
    "model.dim": ("can't read the argument 'model.dim'", "has no '='; write key=value"),
    "runs/best.ckpt": ("has no '='; write checkpoint=runs/best.ckpt",),
    "model.dim=interval(1)": ("missing a required argument: 'end'",),
    "model.dim=choice(null,x)": ("NoneType is incompatible with",),
    "data.root=/a,b": ("several values need -m", """'data.root="/a,b"'"""),
    "model.dim=60": ("model.dim is 60", "model.num_heads=8"),
    "model.num_heads=3": ("model.dim is 64", "model.num_heads=3"),
    "model=sdt_1_12": ("model.dim is 12", "model.num_heads=8"),
    "model.timesteps=0": ("model.timesteps is 0", "at least 1"),
    "model.timesteps=2.5": ("model.timesteps is 2.5", "whole number"),
    "model.pooling='1111'": ("image side 8", "fewer stages"),
    "model.pooling=012": ("model.pooling", "four digits"),
    "neuron.threshold=-1": ("neuron.threshold is -1", "above 0"),
    "neuron.tau=0.5": ("neuron.tau is 0.5", "at least 1"),
    "neuron.reset=gentle": ("neuron.reset is 'gentle'", "hard"),
    "energy.first_layer=twice": ("energy.first_layer is 'twice'", "once"),
    "data.val_fraction=1.5": ("data.val_fraction is 1.5", "share"),
    "data.batch_size=0": ("data.batch_size is 0", "at least 1"),
    "resume=nowhere.ckpt": ("nowhere.ckpt is not a file", "give the path"),
    "model.neurons.body.threshold=1": ("no configuration key 'model.neurons.body'", "model.neurons"),
    "+train=False": ("no configuration key 'train': train always trains", "nothing reads it"),
    "++tags.mine=1": ("no configuration key 'tags': logger.tags=", "nothing reads it"),
    "+sead=1": ("no configuration key 'sead'; did you mean 'seed'", "nothing reads it"),
    "+sead=a@b": ("no configuration key 'sead'; did you mean 'seed'", "nothing reads it"),
    "+search.n_trials=1": ("no configuration key 'search'", "nothing reads it"),
    "+schedule.warm_up=3": ("no configuration key 'schedule.warm_up'; did you mean 'warmup_lr'", "nothing reads it"),
    "+recipe.flips=1": ("no configuration key 'recipe.flips'; did you mean 'flip'", "nothing reads it"),
    "+callbacks.patience=3": ("callbacks.patience is 3", "_target_"),
    "+optimizer.momentum=0.9": ("unexpected keyword argument 'momentum'", "building 'optimizer'"),
    "+optimizer.betas=abc": ("building 'optimizer'",),
    "attention@model.stages.s9.mixer=dwc5": ("nothing stands at 'attention@model.", "options: attention"),
    "attention=statten model.timesteps=3": ("model.timesteps is 3", "a multiple of 2"),
    "model=maxformer_cifar attention@model.stages.s9.mixer=dwc5": ("did you mean 'attention@model.stages.s", ".mixer'"),
    "model=maxformer_cifar model.stages.s2.depth=0": ("model.stages.s2.depth is 0", "at least 1"),
    "dry_run=true init=nowhere.ckpt": ("checkpoint nowhere.ckpt is not a file", "give the path"),
    "dry_run=abc": ("dry_run is abc", "true or false"),
    "+model.neurons.body.threshold=1": ("model.neurons has body", "embedding, attention, mlp, head"),
}


@pytest.mark.parametrize("argument", few(MISTAKES))
def test_a_mistake_is_one_line(script, tmp_path, argument):
    arguments = argument.split(" ") if "=[" not in argument else [argument]
    code, _, err = script("train", "logger=none", "trainer=cpu", f"hydra.run.dir={tmp_path}", *arguments)
    lines = err.strip().splitlines()
    assert code == 1
    assert len(lines) == 1, err
    for part in MISTAKES[argument]:
        assert part in lines[0]
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize("verb, given, key", [("evaluate", [], "checkpoint"), ("export", ["checkpoint=x"], "format")])
def test_what_only_the_user_can_say_is_asked_for_with_what_it_takes(script, verb, given, key):
    code, _, err = script(verb, *given)
    assert code == 1 and f"give {key}=… (" in err and len(err.splitlines()) == 1


def test_what_is_added_is_read_where_a_value_names_it(script, tmp_path):
    given = ["data=digits", "trainer=cpu", "logger=none", "dry_run=true", f"hydra.run.dir={tmp_path}"]
    code, _, err = script("train", "model=sdt_1_16", "+steps=2", "model.timesteps=${steps}", *given)
    assert (code, err) == (0, "")


@pytest.mark.parametrize("added", ["+foo=choice(1,2)", "+search.foo=1", "+search.n_trails=1", "+schedule.foo=1,2"])
def test_a_sweep_takes_no_key_that_nothing_reads(script, tmp_path, added):
    code, _, err = script(
        "sweep", "-m", "model=sdt_1_16", "data=digits", "model.timesteps=choice(1,2)", added, f"search.dir={tmp_path}"
    )
    assert code == 1 and "nothing reads it" in err and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "setting",
    few(
        """workers=abc workers=0 max_failures=-1 max_failures=null max_lives=0 heartbeat=abc heartbeat=0 seeds=1.5
        trust=abc anytime=1 default_first=on-demand""".split()  # noqa: SIM905
    ),
)
def test_a_setting_of_a_search_that_is_none_is_refused_before_anything_is_made(script, tmp_path, setting):
    given = ["-m", "model=sdt_1_16", "data=digits", "model.timesteps=choice(1,2)", f"search.dir={tmp_path}"]
    code, _, err = script("sweep", *given, f"search.{setting}")
    assert code == 1 and f"search.{setting.replace('=', ' is ').replace('null', 'None')}: " in err
    assert len(err.splitlines()) == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("reader", [None, "model.timesteps=${oc.select:steps,2}"])
def test_what_a_file_adds_to_the_space_is_read_by_something_too(script, tmp_path, reader):
    (tmp_path / "hparams_search").mkdir()
    space = "  space:\n    +steps: choice(1,2)\n    neuron.threshold: choice(0.5,1)\n"
    text = f"# @package _global_\nsearch:\n  study: mine\n  n_trials: 1\n{space}"
    (tmp_path / "hparams_search" / "mine.yaml").write_text(text, encoding="utf-8")
    given = ["-m", "--config-dir", str(tmp_path), "hparams_search=mine", "model=sdt_1_16", "data=digits", "logger=none"]
    given += [f"search.dir={tmp_path}/studies", "dry_run=true", *([reader] if reader else [])]
    code, out, err = script("sweep", *given)
    if reader:
        assert (code, err) == (0, "") and "1 trials" in out
    else:
        assert code == 1 and "'steps'" in err and len(err.splitlines()) == 1 and not (tmp_path / "studies").exists()


@pytest.mark.parametrize("text", ["=", "中文", "é", "🧠", *"([{})]#~'\"&;!,<>^`", "\\'", "a\nb", " ", "a?b=c#d, e"])
def test_the_hint_for_an_argument_that_hydra_cannot_read_works(text):
    path = f"/data/{text}x"
    try:
        read = compose([f"resume={path}"]).resume
    except Exception as error:
        hint = explain(error).partition("for the shell: ")[2]
        assert "\n" not in hint.replace(text, "")
        read = compose(shlex.split(hint)).resume  # as a shell hands it over
    assert read == path


def test_debug_shows_the_traceback(script, tmp_path):
    code, _, err = script("train", "debug=true", "model.timesteps=0", f"hydra.run.dir={tmp_path}")
    assert code == 1
    assert "Traceback" in err


def test_debug_true_is_said_anywhere_beside_a_way_of_debugging(script, tmp_path, monkeypatch):
    monkeypatch.delenv("SPIKEFRONT_TRACEBACKS", raising=False)
    code, _, err = script("train", "debug=fdr", "debug=True", "model.timesteps=0", f"hydra.run.dir={tmp_path}")
    assert code == 1 and "Traceback" in err
    code, _, err = script("energy", "debug=true", "model.timesteps=0", f"hydra.run.dir={tmp_path}")
    assert code == 1 and "Traceback" in err
    code, _, err = script("train", "debug=fdr", "debug=false", "model.timesteps=0", f"hydra.run.dir={tmp_path}")
    assert code == 1 and len(err.strip().splitlines()) == 1  # what an earlier command said is forgotten
    monkeypatch.setenv("SPIKEFRONT_TRACEBACKS", "1")  # as a sweep's workers are told
    code, _, err = script("train", "model.timesteps=0", f"hydra.run.dir={tmp_path}")
    assert code == 1 and "Traceback" in err


def test_a_way_of_debugging_that_is_none_is_said(script, tmp_path):
    code, _, err = script("train", "debug=frd", f"hydra.run.dir={tmp_path}")
    assert code == 1 and "debug=frd does not exist" in err and "fdr" in err


@pytest.mark.parametrize("name", few(["train", "evaluate", "energy", "sweep", "study", "report", "data", "audit"]))
def test_help_is_for_people(script, name):
    code, out, _ = script(name, "--help")
    assert code == 0
    assert out.count(f"python src/{name}.py") >= 4  # usage and three examples
    assert "Powered by Hydra" not in out
    assert ("\n  search/sampler: " in out) == (name == "sweep") and "  hydra" not in out.partition("Often")[0]


def test_imagenet_missing_says_where_it_is_expected(script, tmp_path):
    code, out, err = script(
        "train", "model=sdt_8_768", "data=imagenet", f"data.root={tmp_path}/in1k", f"hydra.run.dir={tmp_path}/run"
    )
    assert code == 1
    assert "66,339,144 parameters" in out
    assert len(err.strip().splitlines()) == 1
    assert f"{tmp_path}/in1k" in err
    assert "data.root" in err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"not a checkpoint", "can't be read"),
        ({"weights": torch.zeros(3)}, "was not written by train.py"),
        ([1, 2], "not a state dict"),
    ],
)
def test_a_foreign_checkpoint_is_one_line(script, tmp_path, content, says):
    path = tmp_path / "some.ckpt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    code, _, err = script("evaluate", f"checkpoint={path}", f"hydra.run.dir={tmp_path}/run")
    assert code == 1
    assert len(err.strip().splitlines()) == 1
    assert str(path) in err
    assert says in err


@pytest.fixture
def one_second(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clock = SimpleNamespace(now=lambda: datetime(2026, 1, 2, 3, 4, 5))
    monkeypatch.setattr("hydra.core.utils.datetime", clock)  # of ${now:…}


def test_two_commands_of_one_second_have_a_directory_each(script, one_second, monkeypatch):
    failing = ["model=sdt_1_16", "model.timesteps=0"]  # the directory is there before
    for _ in range(2):
        for name in ("train", "energy"):
            code, _, err = script(name, *failing)
            assert code == 1 and "timesteps" in err, err
    for folder in ("outputs/train", "outputs/energy"):
        assert {p.name for p in Path(folder).iterdir()} == {"2026-01-02_03-04-05", "2026-01-02_03-04-05-2"}
    monkeypatch.setenv("SLURM_PROCID", "1")  # another process of a run: where the first one is
    script("train", *failing)
    script("train", *failing, "hydra.run.dir=mine")
    script("train", *failing, "hydra.run.dir=mine")
    assert len(list(Path("outputs/train").iterdir())) == 2 and not Path("mine-2").exists()


def test_two_multiruns_of_one_second_have_a_directory_each(one_second):
    setup_globals()
    for place in ("multirun/2026-01-02/03-04-05", "multirun/2026-01-02/03-04-05-2"):
        sweep = {"dir": "multirun/${now:%Y-%m-%d}/${now:%H-%M-%S}"}
        cfg = OmegaConf.create({"hydra": {"sweep": sweep, "overrides": {"hydra": []}}})
        OwnDirectory().on_multirun_start(cfg)
        assert cfg.hydra.sweep.dir == place and Path(place).is_dir()
        assert cfg.hydra.overrides.hydra == [f"hydra.sweep.dir={place}"]  # by which each job is composed


def test_the_jobs_of_a_multirun_lie_in_its_directory(script, tmp_path):
    place = tmp_path / "mine"
    code, _, err = script("train", "-m", "model=sdt_1_16", "model.timesteps=0", f"hydra.sweep.dir={place}")
    assert code == 1 and "timesteps" in err and (place / "0").is_dir()


@pytest.mark.parametrize("name", ["train", pytest.param("energy", marks=pytest.mark.slow)])
def test_a_job_that_fails_does_not_end_the_others(script, tmp_path, name):
    own = ["model=sdt_1_16", "trainer=cpu", "logger=none", f"hydra.sweep.dir={tmp_path}"]
    how = ["dry_run=true"] if name == "train" else ["energy.rate=0.1"]
    code, out, err = script(name, "-m", *own, *how, "model.num_heads=7,8", "seed=0,1")
    assert code == 1
    assert out.count("nJ a sample") == 2  # both that can be
    lines = [line for line in err.splitlines() if line.startswith("spikefront: ")]
    assert len(lines) == 3 and all("model.num_heads=" in line for line in lines)
    assert lines[-1].startswith("spikefront: 2 of the jobs failed: #0 (") and "; #1 (" in lines[-1]
    code, _, err = script(name, "-m", *own, *how, "model.num_heads=8", "seed=0,1")
    assert code == 0, err


def test_the_launcher_of_sweeps_is_not_that_of_jobs(script, tmp_path):
    code, _, err = script("train", "-m", "hydra/launcher=local", "seed=0,1", f"hydra.sweep.dir={tmp_path}")
    assert code == 1 and err.strip().splitlines()[-1].startswith("spikefront: hydra/launcher=local starts the workers")


def test_what_is_imported_is_put_beyond_the_garbage_collector_once(monkeypatch):
    frozen = []
    monkeypatch.setattr(start, "_settled", set())
    monkeypatch.setattr(start.gc, "freeze", lambda: frozen.append(gc.isenabled()))
    for _ in range(2):  # a later job's garbage would stay for good
        with start.importing():
            assert not gc.isenabled()
    assert frozen == [False] and gc.isenabled()


@pytest.mark.parametrize("place", ["my photos, 2024", "plain"])
def test_a_home_in_a_value_is_the_users(script, tmp_path, monkeypatch, place):
    """No shell replaces the ``~`` of data.root=~/photos, and Hydra can't read it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    _, _, err = script("train", "data=image_folder", f"data.root=~/{place}", "logger=none", "trainer=cpu")
    assert err == f"spikefront: data.root: {tmp_path}/{place} is not there: give the folder that holds your pictures\n"


@pytest.mark.parametrize("own", [None, "7"])
def test_threads_that_wait_give_way_to_other_programs(script, monkeypatch, own):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    if own:
        monkeypatch.setenv("GOMP_SPINCOUNT", own)
    assert script("train", "--help")[0] == 0
    assert os.environ["GOMP_SPINCOUNT"] == (own or SPINS["GOMP_SPINCOUNT"])
