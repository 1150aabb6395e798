"""The documentation does what it says: its files and commands, in a copy of the project."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import own
import pytest
import written
import yaml
from columns import BASES
from examples import few
from pages import FENCE, figures, page
from PIL import Image

from spikefront.config import CONF, ROOT, compose
from spikefront.data import build_data
from spikefront.files import cache_folder
from spikefront.sweeping.study.records import records
from spikefront.sweeping.study.sources import open_study
from spikefront.training.batch import scaled
from spikefront.training.inert import without_effect

EXTEND = ("neuron", "attention", "data", "energy")
TITLES = {  # of recipes that begin so
    "maxformer_": "Max-Former {}",
    "ms_qkformer_": "MS-QKFormer {}",
    "qkformer_": "QKFormer {}",
    "spikformer_": "Spikformer {}",
    "spikingformer_": "Spikingformer {}",
    "spikingresformer_": "SpikingResformer-{1}",
    "metaspikformer_8_512": "Meta-SpikeFormer 55 M",
    "e_spikeformer_": "E-SpikeFormer {2} M",
}


def commands(text: str) -> list[list[str]]:
    blocks = [block for kind, _, block in FENCE.findall(text) if kind == "sh"]
    return [shlex.split(line) for block in blocks for line in block.splitlines() if line]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The project with the files that the how-tos add."""
    root = tmp_path_factory.mktemp("project")
    for part in ("src", "conf", "sweeps", "slurm"):
        shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in EXTEND:
        added = [(title, block) for _, title, block in FENCE.findall(page(f"extend/{name}.md")) if title]
        assert len(added) == 2
        for title, block in added:
            assert not (root / title).exists()
            (root / title).write_text(block, encoding="utf-8")
    return root


def run(root, command: list[str]) -> str:
    assert command[0] == "python"
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command[1:]], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(params=["here", pytest.param("there", marks=pytest.mark.slow)])
def train_in(request, script, monkeypatch):
    """``train_in(copy, …)``: a training with the copy's files, in this process or in one of the copy itself."""

    def here(root, *arguments: str) -> str:
        for name in ("nn", "data", "energy"):
            package = importlib.import_module(f"spikefront.{name}")
            monkeypatch.setattr(package, "__path__", [*package.__path__, str(root / "src" / "spikefront" / name)])
        monkeypatch.chdir(root)
        code, out, err = script("train", f"--config-dir={root}/conf", *arguments)
        assert code == 0, err
        return out

    def there(root, *arguments: str) -> str:
        return run(root, ["python", "src/train.py", *arguments])

    return {"here": here, "there": there}[request.param]


def test_the_four_examples_work_together(copy, train_in):
    """A new neuron, attention, data set and cost model in one run, measured."""
    choices = "neuron=refractory attention=row data=gratings energy=crossbar model=sdt_1_16 trainer=cpu"
    settings = "trainer.max_epochs=1 trainer.limit_train_batches=4 logger=none neuron.threshold=0.1 hydra.run.dir=run"
    out = train_in(copy, *choices.split(), *settings.split())
    result = json.loads((copy / "run" / "result.json").read_text())
    assert result["convention"].startswith("crossbar") and result["energy_joules"] > 0, out
    assert 0 < result["firing_rate"] <= 0.5  # after each spike a timestep of rest


def test_every_link_of_a_page_leads_somewhere():
    nav = (ROOT / "docs" / "nav.py").read_text(encoding="utf-8")
    elsewhere = {ROOT / "docs" / page: ROOT / source for page, source in re.findall(r'"(\S+\.md)": "(\S+)"', nav)}
    assert elsewhere
    for path in (ROOT / "docs").rglob("*.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8")):
            place = (path.parent / target).resolve()
            assert elsewhere.get(place, place).is_file(), f"{path.name}: {target}"


def published(name: str, depth: int, dim: int) -> str:
    """What ``published.yaml`` calls the network that a recipe trains."""
    if name.endswith("_transfer"):
        return "SpikingResformer-S"
    model = re.sub(r"_(cifar10_dvs|cifar100?|gesture|t4)$", "", name)
    for family, title in TITLES.items():
        if model.startswith(family):
            size = model.removeprefix(family).removesuffix("_t1").replace("_", "-")
            return title.format(size, size.title(), size.removesuffix("m")) + ", T = 1" * model.endswith("_t1")
    return f"SDT {depth}-{dim}"


def recipe(name: str) -> str:
    """A recipe's columns on the page, but the last one: the accuracy that was published."""
    cfg = compose([f"experiment={name}", "output_dir=x"])
    schedule, data, cool = cfg.schedule, cfg.data, cfg.schedule.cooldown_epochs
    images, lr = "auto_augment" in data.augmentation, cfg.optimizer.lr
    lr = scaled(lr, schedule.lr_rule, schedule.lr_batch, cfg.trainer.effective_batch)
    lasts = f"{cfg.trainer.max_epochs - cool}" + f" + {cool}" * (cool > 0)
    some = f" of {len(data.augmentation.operations)}" if images and data.augmentation.operations else ""
    cells = (
        f"`{name}`",
        cfg.model.timesteps,
        f"{cfg.optimizer._target_.rsplit('.')[-1]} {short(lr)} → {short(schedule.min_lr)}",
        f"{cfg.optimizer.weight_decay:g}",
        f"{lasts}; {schedule.warmup_epochs} from {short(schedule.warmup_lr)}",
        f"{cfg.trainer.effective_batch // data.batch_size} × {data.batch_size}",
        data.augmentation.auto_augment.removeprefix("rand-") + some if images else "–",
        f"{data.augmentation.scale[0]:g}" if images else "–",
        f"{data.mixup.prob:g}" if data.mixup else "–",
    )
    return f"| {' | '.join(map(str, cells))} |"


def short(rate: float) -> str:
    digits, power = f"{rate:.2e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(power)}" if rate else "0"


ROWS = {
    re.match(r"\| `(\w+)`", row)[1]: row for row in re.findall(r"^\| `[a-z_0-9]+` \| \d.*", page("recipes.md"), re.M)
}


@pytest.mark.parametrize("name", few(ROWS, 15))
def test_a_recipe_is_what_the_page_says(name):
    table = yaml.safe_load((ROOT / "src/spikefront/tracking/published.yaml").read_text(encoding="utf-8"))
    assert ROWS[name].startswith(recipe(name))
    if told := re.search(r"([\d.]+)(?: \(288²\))? \|$", ROWS[name]):
        cfg = compose([f"experiment={name}", "output_dir=x"])
        (entry,) = (
            e for e in table[cfg.data.name] if e["name"] == published(name, cfg.model.get("depth"), cfg.model.dim)
        )
        assert float(told[1]) == pytest.approx(100 * entry["accuracy"])


def test_the_page_has_every_recipe():
    bases = {"imagenet", "cifar", "cifar10_dvs", *BASES}  # others stand on them, or have their earlier names
    assert sorted(ROWS) == sorted({p.stem for p in (CONF / "experiment").glob("*.yaml")} - bases)


def test_the_recipes_benchmark_compares_settings_that_act(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    recipes = importlib.import_module("recipes")
    for comparison in recipes.COMPARISONS:
        sides = next(recipes.pairs(comparison, 1))
        on, off = (compose([*recipes.EVERY, *side.overrides, "output_dir=x"]) for side in sides)
        assert on != off and without_effect(on) is None, comparison.name
        build_data(on.data, timesteps=on.model.timesteps)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXTEND)
def test_the_commands_of_each_example_run(copy, name):
    for command in commands(page(f"extend/{name}.md")):
        run(copy, [*command, "logger=none"] if "train.py" in command[1] else command)


@pytest.mark.slow
def test_the_tutorial_runs(copy):
    told = commands(page("tutorial.md"))
    assert [c[1] for c in told] == [f"src/{s}.py" for s in ("train", "energy", "sweep", "report", "study", "evaluate")]
    outputs = [run(copy, command) for command in told]
    assert "Pareto front of tutorial" in outputs[2] and (copy / "outputs" / "tutorial.html").is_file()
    assert "3 other seeds" in outputs[4] and "checkpoint: " in outputs[4]
    text = page("tutorial.md")
    for told_, out in (
        (r"test accuracy +\d.*", outputs[0]),
        (r"stopping early.*", outputs[0]),
        (r"stopping at.*", outputs[5]),
    ):
        said, found = (re.findall(told_, where) for where in (text, out))
        assert said and len(said) == len(found)
        for a, b in zip(said, found, strict=True):
            assert figures(a) == pytest.approx(figures(b), rel=0.05, abs=0.03), b
    points = {
        (p["number"], p["t"]): p["values"]
        for p in records(open_study(str(copy / "outputs/studies/tutorial")))["points"]
    }
    rows = re.findall(r"^ +(\d+) +(\d+) \*? +(0\.\d+) +\S+ +([\d.]+ [nµ]J)", text, re.M)
    assert len(rows) >= 5
    for trial, t, accuracy, energy in rows:
        found = points[int(trial), int(t)]
        assert float(accuracy) == pytest.approx(found["accuracy"], abs=0.05)
        assert figures(energy)[0] == pytest.approx(found["energy"] * 1e6, rel=0.08)
    assert max(figures(x)[3] for x in re.findall(r"\d/6 +trial.*", outputs[2]) if "accuracy" in x) > 0.85


@pytest.mark.slow
def test_the_way_from_a_front_to_a_network_runs(copy):
    text = page("decision.md")
    told = commands(text)
    outputs = [run(copy, command) for command in told]
    said = dict(zip(map(shlex.join, told), outputs, strict=True))
    (taken,) = (out for command, out in said.items() if "action=take" in command)
    assert "the sweep said" in taken and "2 other seeds" in taken
    (chips,) = (out for command, out in said.items() if "energy=" in command)
    assert "points of the front stay (chip_8bit" in chips
    question = outputs[-1]
    assert "accuracy at most so much energy can buy, by model.timesteps" in question and "ahead at" in question


@pytest.mark.slow
def test_the_ways_out_run(copy):
    """Every command of the page, then its Python; those that need an extra where that is installed."""
    text = page("deploy.md")
    needs = {"format=onnx": "onnxruntime", "format=nir": "nir"}
    absent = {form for form, package in needs.items() if importlib.util.find_spec(package) is None}
    told = [c for c in commands(text) if not absent & set(c)]
    outputs = {c[-2] if "format=" in c[-2] else c[1]: run(copy, c) for c in told}
    assert {"format=bundle", "format=torch", "format=int8", "format=int4", "format=neurobench"} <= set(outputs)
    assert "SynapticOperations" in outputs["format=neurobench"]
    assert "37 of 37 layers" in outputs["format=int8"] and "of 8 samples equal" in outputs["format=torch"]
    programs = [block for kind, _, block in FENCE.findall(text) if kind == "python"]
    assert len(programs) == 2
    for program in programs:
        run(copy, ["python", "-c", program])


@pytest.mark.parametrize(
    "pattern",
    [
        "spikingresformer_ti",
        *(pytest.param(p, marks=pytest.mark.slow) for p in ("maxformer_10_384", "e_spikeformer_19m")),
    ],
)
def test_the_families_table_is_what_the_benchmark_finds(monkeypatch, pattern):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    families = importlib.import_module("families")
    (row,) = families.table(pattern).splitlines()[2:]
    assert row in page("families.md").splitlines()


SHORT = (
    "model=sdt_1_16 trainer=cpu trainer.max_epochs=1 trainer.limit_train_batches=2 data.batch_size=4 data.num_workers=0"
    " model.timesteps=choice(1,2) logger=none search.workers=1 neuron.threshold=0.1 data.image_size=16"
)


def phone(home) -> None:
    """Pictures of two classes as a phone has them: turned by EXIF, one with alpha."""
    for c, name in enumerate(("cat", "my dog")):
        for i in range(8):
            path = own.picture(home / "photos" / name / f"IMG_{i}.jpg", 60 + 120 * c, i, size=(40, 30))
            with Image.open(path) as image:
                turned = image.getexif()
                turned[0x112] = 6
                image.save(path, exif=turned)
        with Image.open(path) as image:
            image.convert("RGBA").save(path.with_name("cut out.png"))


def camera(home) -> None:
    """RAW recordings of two classes."""
    for c, name in enumerate(("clap", "wave")):
        (home / "gestures" / name).mkdir(parents=True)
        for i in range(8):
            content = written.evt3(written.events(3000, seed=10 * c + i))
            (home / "gestures" / name / f"{i}.raw").write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("heading", "make", "root", "said"),
    [
        ("From a phone's pictures", phone, "photos", "turned    16 as EXIF says"),
        ("From a camera's recordings", camera, "gestures", "16 evt3"),
    ],
)
def test_the_way_from_a_folder_to_a_front(tmp_path, monkeypatch, heading, make, root, said):
    monkeypatch.setenv("SPIKEFRONT_CACHE", str(cache_folder()))  # compiled kernels
    monkeypatch.setenv("HOME", str(tmp_path))
    make(tmp_path)
    (tmp_path / "src").symlink_to(ROOT / "src")
    cache = f"data.cache={tmp_path}/cache"
    look, sweep, report = commands(
        page("own-data.md").split(f"### {heading}\n")[1].split("\n## ")[0].split("\n### ")[0]
    )
    out = run(tmp_path, [*look, cache])
    assert said in out and (tmp_path / root / "spikefront.png").is_file()
    assert shlex.split(out.splitlines()[-2])[2:5] == sweep[2:5]  # what is printed is what the page says
    assert f"Pareto front of {root}" in run(tmp_path, [*sweep, *SHORT.split(), cache])
    assert root in run(tmp_path, report) and (tmp_path / f"{root}.html").is_file()


@pytest.mark.slow
def test_the_audits_table_is_what_the_benchmark_finds(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    proofs = importlib.import_module("proofs")
    (row,) = proofs.table("statten_2_256").splitlines()[2:]
    assert row in page("audit.md").splitlines()
