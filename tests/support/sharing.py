"""What is worked out once for all tests of a process: the suite composes some thousand times, mostly the same files,
and opens hundreds of databases."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path

from hydra._internal import config_loader_impl as loading
from hydra._internal import defaults_list as listing
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.defaults_list import DefaultsList, Overrides
from hydra.core.default_element import InputDefault
from optuna.storages._rdb.storage import _VersionManager

from spikefront.config import ROOT

PLACE = "SPIKEFRONT_TESTS_SHARE"  # environment: a directory of this run of the suite
OWN = (  # as the libraries have them
    (ConfigRepository, "load_config", ConfigRepository.load_config),
    (loading, "create_defaults_list", loading.create_defaults_list),
    (ConfigLoaderImpl, "_compose_config_from_defaults_list", ConfigLoaderImpl._compose_config_from_defaults_list),
    (listing, "_create_interpolation_map", listing._create_interpolation_map),
    (InputDefault, "_resolve_interpolation_impl", InputDefault._resolve_interpolation_impl),
)
OURS = [str(ROOT / folder) for folder in ("conf", "sweeps", "slurm")]


def share() -> None:
    """From here on this process, and what it forks, parses each of our files once and merges each choice of them once.

    Values that are overridden, interpolations and all errors are Hydra's own each time; so is everything where a
    directory that isn't ours has a part in it. Optuna's migrations, which it imports anew for each database, are
    looked through once too.
    """
    look, head = _VersionManager.get_head_version, []

    def get_head_version(self):
        if not head:
            head.append(look(self))
        return head[0]

    _VersionManager.get_head_version = get_head_version
    read, choose, merge, choices_so_far, resolve = (method for _, _, method in OWN)
    files: dict[str, bytes] = {}
    chosen: dict[tuple, bytes] = {}
    merged = Shared()

    def load_config(self, config_path):
        if not ours(self):
            return read(self, config_path)
        if config_path not in files:
            files[config_path] = pickle.dumps(read(self, config_path))
        return pickle.loads(files[config_path])

    def create_defaults_list(repo, config_name, overrides_list, prepend_hydra, skip_missing):
        given = (repo, config_name, overrides_list, prepend_hydra, skip_missing)
        if not ours(repo):
            return choose(*given)
        choices = tuple(o.input_line for o in overrides_list if repo.group_exists(o.key_or_group))
        key = (config_name, choices, prepend_hydra, skip_missing)
        if key not in chosen:
            made = choose(*given)
            chosen[key] = pickle.dumps((made.defaults, made.overrides.known_choices))
            return made
        overrides = Overrides(repo, overrides_list)
        defaults, overrides.known_choices = pickle.loads(chosen[key])
        return DefaultsList(defaults, None, overrides.config_overrides, overrides)  # nothing reads the tree

    def compose(self, defaults, repo):
        if not ours(repo):
            return merge(self, defaults, repo)
        return pickle.loads(merged.get(repr(defaults), lambda: pickle.dumps(merge(self, defaults, repo))))

    def later(*given):
        return functools.cache(lambda: choices_so_far(*given))

    ConfigRepository.load_config = load_config
    loading.create_defaults_list = create_defaults_list
    ConfigLoaderImpl._compose_config_from_defaults_list = compose
    # the choices so far are made for each file of a composition, and asked for by the few with an interpolated name
    listing._create_interpolation_map = later
    InputDefault._resolve_interpolation_impl = lambda self, choices, name: resolve(self, choices(), name)


class Shared:
    """What the processes of one run of the suite have made, by its name: each looks whether another has it already."""

    def __init__(self) -> None:
        self._place = Path(os.environ[PLACE]) if PLACE in os.environ else None
        self._here: dict[str, bytes] = {}

    def get(self, name: str, make: Callable[[], bytes]) -> bytes:
        if name not in self._here:
            self._here[name] = self._found(hashlib.sha256(name.encode()).hexdigest(), make) if self._place else make()
        return self._here[name]

    def _found(self, name: str, make: Callable[[], bytes]) -> bytes:
        file = self._place / name
        with contextlib.suppress(FileNotFoundError):
            return file.read_bytes()
        part = file.with_suffix(f".{os.getpid()}")
        part.write_bytes(made := make())
        part.replace(file)
        return made


def ours(repository) -> bool:
    """Whether nothing but our files and Hydra's own can be found there."""
    known = (*OURS, "hydra.conf")
    return all(s.scheme() not in ("file", "pkg") or s.path in known for s in repository.get_sources())
