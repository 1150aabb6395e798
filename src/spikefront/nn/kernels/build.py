"""C++ kernels: compiled on first use with the machine's compiler, kept in the user's cache, called through ctypes."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from functools import cache
from pathlib import Path

from spikefront.files import cache_folder

HERE = Path(__file__).parent
FLAGS = ["-O3", "-march=native", "-std=c++17", "-fopenmp", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
FLAGS += ["-shared", "-fPIC"]


@cache
def library(name: str) -> ctypes.CDLL | None:
    """The compiled ``<name>.cpp`` of this folder, or None where it can't be had; says why, once.

    Compiled into ``$SPIKEFRONT_CACHE`` (by default ``~/.cache/spikefront``) under a name that holds the source, flags,
    compiler and processor, by atomic rename: any number of processes may start at once. ``SPIKEFRONT_KERNELS=off``
    turns kernels off.
    """
    if os.environ.get("SPIKEFRONT_KERNELS", "").lower() in ("off", "0", "false"):
        return None
    try:
        return ctypes.CDLL(str(_compiled(HERE / f"{name}.cpp")))
    except (OSError, subprocess.SubprocessError) as error:
        detail = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        _say(detail[0] if detail else type(error).__name__)
        return None


@cache
def _say(why: str) -> None:
    """Once, whichever kernels are missing."""
    warnings.warn(
        f"no compiled kernels ({why}): plain PyTorch gives the same results, slower. Installing g++ helps;"
        " SPIKEFRONT_KERNELS=off silences this.",
        RuntimeWarning,
        stacklevel=3,
    )


def _compiled(source: Path) -> Path:
    compiler = shutil.which(os.environ.get("CXX", "")) or shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        raise OSError("no C++ compiler found")
    version = subprocess.run([compiler, "-dumpfullversion"], capture_output=True, text=True, check=True).stdout
    texts = [path.read_text(encoding="utf-8") for path in (source, *sorted(HERE.glob("*.h")))]
    key = "\0".join([*texts, *FLAGS, compiler, version, processor()])
    path = cache_folder() / f"{source.stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        os.close(handle)
        try:
            command = [compiler, *FLAGS, str(source), "-o", scratch]
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
            os.replace(scratch, path)
        finally:
            Path(scratch).unlink(missing_ok=True)
    return path


def processor() -> str:
    """What ``-march=native`` depends on: a home directory may be shared by machines of several kinds."""
    return "".join(_lines()) or platform.processor() + platform.machine()


def name() -> str:
    """Of the processor, as it calls itself."""
    return next(
        (line.partition(":")[2].strip() for line in _lines() if line.startswith("model name")), platform.machine()
    )


@cache
def flags() -> frozenset[str]:
    """The instructions that the processor has, as Linux names them; empty where it can't be asked."""
    return frozenset(" ".join(line.partition(":")[2] for line in _lines() if not line.startswith("model name")).split())


def multiplies_bfloat16() -> bool | None:
    """Whether the processor has instructions for products of bfloat16; None where it can't be asked."""
    return bool(flags() & {"avx512_bf16", "amx_bf16", "bf16"}) if flags() else None


@cache
def _lines() -> tuple[str, ...]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()
    return tuple(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
