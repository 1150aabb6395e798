"""Where the configuration lives and how to compose it outside an entry script."""

from __future__ import annotations

import copy
import functools
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikefront.renamed import argument

if TYPE_CHECKING:  # `spikefront --help` waits for neither
    from hydra.conf import HydraConf
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import DictConfig

HERE = Path(__file__).resolve().parent
ROOT = HERE if (HERE / "conf").is_dir() else HERE.parents[1]  # a wheel holds in the package what a clone has at its top
CONF = ROOT / "conf"
SEARCHPATH = "hydra.searchpath"
WEIGHTS = (".ckpt", ".pth", ".pth.tar", ".safetensors")
# what is each machine's own
LOCAL = (
    *("threads", "data.root", "data.num_workers", "data.cache"),
    *("trainer.accelerator", "trainer.devices", "trainer.num_nodes"),
)


def compose(overrides: Sequence[str] = (), root: str = "train", with_hydra: bool = False) -> DictConfig:
    """Compose ``conf/<root>.yaml`` with Hydra ``overrides``; safe inside a running Hydra application too.

    Raises Hydra's own exceptions for names and values that don't exist; ``commands.cli.explain`` puts them in a line.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    globally = GlobalHydra.instance()
    running, globally.hydra = globally.hydra, None
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            chosen, _ = traceback_flag(overrides)  # studies of earlier versions keep it among their overrides
            given = [argument(o) for o in chosen]
            return hydra_compose(root, overrides=given, return_hydra_config=with_hydra)
    finally:
        GlobalHydra.instance().hydra = running


def traceback_flag(arguments: Iterable[str]) -> tuple[list[str], bool | None]:
    """Arguments without ``debug=true`` and ``debug=false``, and what the last of these says; None if there is none."""
    flags = {"debug=true": True, "debug=false": False}
    said = [flags.get(a.replace(" ", "").lower()) for a in arguments]
    rest = [a for a, flag in zip(arguments, said, strict=True) if flag is None]
    return rest, next((flag for flag in reversed(said) if flag is not None), None)


def places(hydra: DictConfig | HydraConf) -> list[str]:
    """A user's own configuration directories, ``--config-dir`` and ``hydra.searchpath``, for processes elsewhere.

    Args:
        hydra: Hydra's own node of a running application.

    Returns:
        None or one override, ``hydra.searchpath=[…]`` with absolute paths, which every command and ``compose`` take.
    """
    found = [s.path for s in hydra.runtime.config_sources if s.provider == "command-line"]
    found += [path if "://" in path else str(Path(path).absolute()) for path in map(_local, hydra.searchpath)]
    return [override(SEARCHPATH, found)] if found else []


def _local(path: str) -> str:
    return path.removeprefix("file://")


def override(key: str, value: Any) -> str:
    """``key=value`` as Hydra reads that value back."""
    return f"{key}={written(value)}"


def written(value: Any) -> str:
    """A value as Hydra reads it after ``key=``: bare where that is read back as the same, else quoted for Hydra.

    For a shell the whole argument is quoted once more (``shlex``).
    """
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{written(k)}:{written(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(written, value)) + "]"
    if not isinstance(value, str):
        return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return value if _reads_as(value) else _quoted(value)


def _quoted(text: str) -> str:
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(text, Quote.single).with_quotes()


def _reads_as(text: str) -> bool:
    """Whether a text without quotes is read as the string that it stands for, in a list too."""
    from hydra.errors import HydraException

    try:
        return override_parser().parse_override(f"key=[{text}]").value() == [text]
    except HydraException:
        return False


@functools.cache
def override_parser() -> OverridesParser:
    """Hydra's own, which takes its time to be made."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create()


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """A plain configuration as one mapping of dotted keys; lists and empty mappings are values."""
    if not (isinstance(node, Mapping) and node):
        return {prefix: node}
    parts = [flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in node.items()]
    return {key: value for part in parts for key, value in part.items()}


def unreadable(argument: str, why: BaseException | str) -> str:
    """A line about an argument that Hydra's grammar refuses, with the form that it takes if there is one.

    Args:
        why: what the parser raised.
    """
    from hydra.core.override_parser.types import Quote, QuotedString
    from hydra.errors import HydraException

    words = " ".join(str(why).split())
    key, equals, value = argument.partition("=")
    said = f"can't read the argument {argument!r}: {words}"
    if not equals:
        meant = f"checkpoint={argument}" if argument.endswith(WEIGHTS) else "key=value"
        return f"can't read the argument {argument!r}: it has no '='; write {meant}"
    if "while evaluating" in words:  # choice(…), interval(…) and their like
        return said
    quoted = f"{key}={QuotedString(value, Quote.double).with_quotes()}"
    try:
        override_parser().parse_override(quoted)
    except HydraException:
        return said
    return f"{said}; to mean that text, quote it for Hydra and for the shell: {shlex.quote(quoted)}"


def is_group(override: str) -> bool:
    """Whether an override chooses a config group's option rather than setting a value."""
    group = override.partition("=")[0].lstrip("+~").partition("@")[0]
    return (CONF / group).is_dir()


def merge(first: Iterable[str], then: Iterable[str]) -> list[str]:
    """Both lists of overrides; of two for one key the later stays."""
    return list({o.partition("=")[0].lstrip("+"): o for o in (*first, *then)}.values())


class Composer:
    """Composes the run of each of many points: what all share is composed once for each choice of config groups.

    Args:
        shared: Hydra overrides that every point has.
    """

    def __init__(self, shared: Sequence[str]) -> None:
        self._shared = list(shared)
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def __call__(self, overrides: Iterable[str]) -> DictConfig:
        """The run's configuration, unresolved: ``conf/train.yaml`` with the shared and these overrides."""
        from omegaconf import OmegaConf, open_dict

        overrides = [argument(o) for o in overrides]
        groups = tuple(o for o in overrides if is_group(o))
        if groups not in self._composed:
            cfg = compose(merge(self._shared, groups), root="sweep")
            with open_dict(cfg):
                cfg.pop("search", None)
            self._composed[groups] = cfg
        cfg = copy.deepcopy(self._composed[groups])
        for override in overrides:
            if override not in groups:
                parsed = override_parser().parse_override(override)
                added = parsed.is_add() or parsed.is_force_add()
                OmegaConf.update(cfg, parsed.key_or_group, parsed.value(), force_add=added)
        return cfg
