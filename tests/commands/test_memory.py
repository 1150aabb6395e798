"""Our commands keep freed memory for the next tensor; a host process of the library is left as it is."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc")

FAULTS = """
import contextlib, resource, sys, torch, spikefront.training.run  # as in a run: malloc's small bins are filled by then
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(sys.stderr):
    exec(sys.argv.pop(1))
faults = [0]
for _ in range(6):
    torch.zeros(2**24)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(min(b - a for a, b in zip(faults, faults[1:])))
"""
LIBRARY = """
import spikefront
model = spikefront.create_model("sdt_1_16", data="digits", num_classes=3)
model(torch.rand(2, 1, 8, 8)).sum().backward()
model.for_inference(sparse=True)(torch.rand(2, 1, 8, 8))
"""


def keeps_freed_memory(program: str, *arguments: str, cwd: object = None, **settings: str) -> bool:
    """Whether 64 MiB, freed and asked for again after ``program``, are soon the same pages."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")} | settings
    env["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", FAULTS, program, *arguments]
    out = subprocess.run(command, env=env, capture_output=True, text=True, check=True, cwd=cwd)
    return int(out.stdout) < 1000


@pytest.mark.slow
def test_as_a_library_we_leave_the_hosts_allocator_alone(tmp_path):
    assert not keeps_freed_memory(LIBRARY, cwd=tmp_path)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        pytest.param("train", ["dry_run=true", "model=sdt_1_16", "trainer=gpu"], marks=pytest.mark.slow),
        pytest.param("evaluate", ["checkpoint=nowhere"], marks=pytest.mark.slow),
        pytest.param("energy", ["model=sdt_1_16", "input=noise", "samples=1"], marks=pytest.mark.slow),
        pytest.param("sweep", ["search.worker=true", "search.study=nothing"], marks=pytest.mark.slow),
    ],
)
def test_our_commands_keep_what_is_freed(tmp_path, command, arguments):
    program = f"from spikefront.commands.{command} import main; main()"
    assert keeps_freed_memory(program, *arguments, "hydra.run.dir=run", cwd=tmp_path)


@pytest.mark.slow
def test_the_users_settings_come_first(tmp_path):
    program = "from spikefront.commands.memory import keep_freed_memory; keep_freed_memory()"
    assert keeps_freed_memory(program, cwd=tmp_path)
    assert not keeps_freed_memory(program, cwd=tmp_path, MALLOC_TOP_PAD_="0")
