"""The site's order: what is listed here first, then whatever other page there is."""

from pathlib import Path

from mkdocs.structure.files import File

DOCS = Path(__file__).parent
ELSEWHERE = {"slurm.md": "slurm/README.md"}  # pages that lie beside what they describe
START = ("index.md", "tutorial.md", "tutorial.zh.md")
TUTORIALS = ("tutorials/images.md", "tutorials/events.md", "tutorials/cluster.md", "tutorials/chip.md")
GUIDES = (
    "model.md",
    "families.md",
    "sparse.md",
    "gpu.md",
    "energy.md",
    "audit.md",
    "data.md",
    "own-data.md",
    "recipes.md",
    "distillation.md",
    "transfer.md",
    "sweeps.md",
    "elastic.md",
    "decision.md",
    "deploy.md",
    "deploy_chips.md",
    "cluster.md",
    "scale.md",
    "slurm.md",
    "wandb.md",
)
EXTEND = ("extend/neuron.md", "extend/attention.md", "extend/data.md", "extend/energy.md")
LAST = ("comparison.md", "api.md")


def on_config(config):
    pages = {p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md")} | set(ELSEWHERE)
    others = sorted(pages - {*START, *TUTORIALS, *GUIDES, *EXTEND, *LAST})
    guides = [p for p in (*GUIDES, *others) if p in pages]
    config["nav"] = [*START, {"Tutorials": list(TUTORIALS)}, {"Guides": guides}, {"Add your own": list(EXTEND)}, *LAST]
    return config


def on_files(files, config):
    for page, source in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(DOCS.parent / source).read_text(encoding="utf-8")))
    return files
