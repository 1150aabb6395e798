"""A stored configuration builds what only computes, whoever wrote it, and reads nothing of the machine."""

from __future__ import annotations

import pytest
import torch
import yaml
from examples import few

from spikefront import trust
from spikefront.config import CONF, ROOT, compose
from spikefront.errors import UserError
from spikefront.training import evaluate, run

TOUCH = {"_target_": "pathlib.Path.touch", "self": {"_target_": "pathlib.Path", "_args_": ["owned"]}}


def test_everything_that_is_configured_here_is_allowed():
    files = [*CONF.rglob("*.yaml"), *(ROOT / "sweeps").rglob("*.yaml")]
    read = [yaml.safe_load(f.read_text(encoding="utf-8")) or {} for f in files]
    stored = [{key: value for key, value in node.items() if key != "hydra"} for node in read]  # Hydra's node never is
    named = {t for node in stored for t in trust.targets(node)}
    assert len(named) > 50
    assert not [t for t in named if not trust.allowed(t)]


@pytest.mark.parametrize("name", ["torch.nn.Linear", "torch.optim.SGD", "timm.optim.Lamb", "optuna.samplers.GPSampler"])
def test_others_of_their_kind_are_too(name):
    assert trust.allowed(name)


@pytest.mark.parametrize(
    "name",
    """os.system builtins.eval pathlib.Path pathlib.Path.touch subprocess.Popen hydra.utils.call hydra.utils.get_method
    torch.load torch.hub.load torch.jit.load torch.classes.load_library torch.utils.cpp_extension.load
    torch.package.PackageImporter torch.nn.init.uniform_ torch.nn.Module.__subclasses__ torch.nn.Linear.__init__
    torch.nn.modules.module.OrderedDict pytorch_lightning.cli.LightningCLI
    pytorch_lightning.LightningModule.load_from_checkpoint pytorch_lightning.callbacks.model_checkpoint.shutil.rmtree
    timm.create_model timm.models.load_checkpoint optuna.create_study optuna.storages.RDBStorage
    spikefront.files.os.system spikefront.files.write_atomically spikefront.nn.external.importlib.import_module
    spikefront.nn.kernels.build.subprocess.run spikefront.training.team.Team spikefront.energy.meter.torch.load
    spikefront.training.team.subprocess.Popen spikefront.sweeping.worker.worker.Worker spikefront.commands.train.main
    torchvision.datasets.utils.download_url ${model.x} torch.nn..Linear nothing.at.all""".split(),  # noqa: SIM905
)
def test_no_name_lets_another_thing_through(name):
    assert not trust.allowed(name)


def test_a_module_is_not_imported_to_be_looked_at(tmp_path, monkeypatch):
    (tmp_path / "elsewhere.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert not trust.allowed("elsewhere.Neuron")


@pytest.mark.parametrize(
    "node",
    [
        TOUCH,
        {**TOUCH, "_partial_": True},
        {"_target_": "torch.nn.Sequential", "_args_": [TOUCH]},
        {"a": [{"b": TOUCH}]},
        {"_target_": "hydra.utils.get_class", "path": "subprocess.Popen"},
        {"_target_": "hydra.utils.get_object", "_args_": ["os.system"]},
        {"_target_": "hydra.utils.get_method", "path": "torch.nn.Linear"},
        {"_target_": "${a}"},
        {"root": "${oc.env:HOME}"},
        {"root": ["${oc.decode:${oc.env:X}}"]},
    ],
)
def test_wherever_it_stands(node):
    with pytest.raises(UserError, match=r"checkpoint x .*trust=true"):
        trust.check({"model": node}, "checkpoint x", "trust")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    limits = [f"trainer.limit_{part}_batches=1" for part in ("train", "val", "test")]
    few = ["model=sdt_1_16", "model.timesteps=1", "trainer=cpu", "trainer.max_epochs=1", "~callbacks.progress"]
    run.train(compose([*few, *limits, "data.batch_size=512", "logger=none", f"output_dir={directory}"]))
    return directory / "checkpoints/last.ckpt"


@pytest.mark.parametrize("part", few(["neuron", "embedding"]))
def test_evaluating_a_checkpoint_runs_nothing_that_it_brings(checkpoint, tmp_path, monkeypatch, script, part):
    monkeypatch.chdir(tmp_path)
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"]["config"]["model"][part] = TOUCH
    torch.save(content, "evil.ckpt")
    arguments = [f"output_dir={tmp_path}/out", "checkpoint=evil.ckpt"]
    with pytest.raises(UserError, match=r"checkpoint evil.ckpt would run pathlib\.Path.*trust=true"):
        evaluate(compose(arguments, root="evaluate"))
    code, _, err = script("energy", "checkpoint=evil.ckpt", f"hydra.run.dir={tmp_path}/out")
    assert code == 1 and "trust=true" in err
    assert not (tmp_path / "owned").exists()
    with pytest.raises(Exception):  # noqa: B017 - a path is no neuron
        evaluate(compose([*arguments, "trust=true"], root="evaluate"))
    assert (tmp_path / "owned").exists()


def test_an_honest_checkpoint_is_evaluated(checkpoint, tmp_path):
    assert evaluate(compose([f"checkpoint={checkpoint}", f"output_dir={tmp_path}"], root="evaluate")).samples
