"""What runs on a GPU, rehearsed without one: some cases of tests/gpu in Triton's interpreter; all are collected."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASES = (
    "layouts_and_dtypes and float16 and channels and frames or steps-whole-10 or memory_order or half_precision"
    " or bias and True"
)


def test_some_cases_pass_in_the_interpreter():
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "pytest", "tests/gpu", "--confcutdir=tests/gpu", "-p", "no:cacheprovider"]
    command += ["-k", CASES]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTEST_ADDOPTS": ""}
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-1000:]
    assert int(re.search(r"(\d+) passed", found.stdout)[1]) >= 12, found.stdout[-3000:]
