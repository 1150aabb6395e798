"""Shared by all tests: entry scripts run in this process, W&B never leaves the machine."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import tempfile
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # a process a core: more threads would only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import forks
import pytest
import scripts
import sharing

# Files of few tests and many seconds: begun last, they would leave the other cores idle at the end
LONG = """tracking/pages/test_report training/test_ddp sweeping/study/test_accounting commands/test_wheel
    sweeping/worker/test_several_devices commands/test_own_configuration tracking/wandb/test_wandb
    commands/test_decision nn/test_operators training/test_preemption nn/test_families
    training/test_resumption sweeping/worker/test_limits sweeping/study/test_warm sweeping/worker/test_worker
    commands/test_cli test_docs training/test_distillation test_pairs energy/test_training
    energy/test_family_energy sweeping/worker/test_stages training/test_supernet training/test_run
    nn/test_variants""".split()  # noqa: SIM905


def pytest_configure(config):
    gc.disable()  # until all is imported
    if sharing.PLACE not in os.environ:
        place = tempfile.TemporaryDirectory(prefix="spikefront-tests-")
        os.environ[sharing.PLACE] = place.name
        config.add_cleanup(place.cleanup)
    sharing.share()
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:  # `nohup make test &`: what tests start would hear neither
            signal.signal(number, usual)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config, specs):
    if forks.POSSIBLE:
        forked = forks.Forks()
        forked.take(specs)
        config.add_cleanup(forked.close)


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc):
    """No case of a parametrised test is made that would be left out: a third of all."""
    if "not slow" not in metafunc.config.option.markexpr:
        return
    marks = metafunc.definition.own_markers  # a test's own, of which pytest makes its cases next
    for i, mark in enumerate(marks):
        if mark.name == "parametrize" and len(mark.args) == 2:
            cases, ids = list(mark.args[1]), mark.kwargs.get("ids")
            kept = [n for n, case in enumerate(cases) if not any(m.name == "slow" for m in getattr(case, "marks", ()))]
            if 0 < len(kept) < len(cases):
                named = {} if ids is None or callable(ids) else {"ids": [list(ids)[n] for n in kept]}
                again = pytest.mark.parametrize(mark.args[0], [cases[n] for n in kept], **{**mark.kwargs, **named})
                marks[i] = again.mark


def pytest_collection_modifyitems(items):
    places = {f"tests/{name}.py": i for i, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))
    gc.freeze()  # what is imported by now is not looked through again: a tenth of the suite's time
    gc.enable()


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.fixture
def script(monkeypatch, capfd):
    """Run an entry script as the shell would: ``script("train", "model=sdt_tiny")`` -> (exit code, stdout, stderr)."""

    def run(name: str, *arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = scripts.run_script(monkeypatch, f"src/{name}.py", *arguments)
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture
def quick(tmp_path: Path) -> list[str]:
    return scripts.quick(tmp_path)


@pytest.fixture
def make_sweep(tmp_path):
    """``make_sweep("search.n_trials=4", …)`` -> a ``pretended.Sweep`` in the test's directory."""
    from pretended import Sweep

    return lambda *overrides, **options: Sweep(tmp_path, "search/sampler=random", *overrides, **options)


@pytest.fixture(scope="session")
def database():
    """``database("mariadb")`` -> the URL of an empty database; its server runs until the tests end."""
    import mariadb
    import postgresql
    import sqlalchemy

    kinds, urls = {"mariadb": mariadb, "postgresql": postgresql}, {}
    with contextlib.ExitStack() as stack:

        def empty(kind):
            if kind not in urls:
                urls[kind] = stack.enter_context(kinds[kind].server())
            with sqlalchemy.create_engine(urls[kind]).begin() as connection:
                for statement in kinds[kind].EMPTY:
                    connection.execute(sqlalchemy.text(statement))
            return urls[kind]

        yield empty


@pytest.fixture
def pretend_gcs(monkeypatch):
    """An emulator of Google's store with an empty ``gs://bucket``, which the environment names."""
    pytest.importorskip("gcsfs")
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    import fsspec
    from postgresql import free_port

    server = emulator.create_server("127.0.0.1", port := free_port(), in_memory=True, default_bucket="bucket")
    server.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    store = fsspec.get_filesystem_class("gs")
    store.clear_instance_cache()
    yield
    server.stop()
    store.clear_instance_cache()


@pytest.fixture
def pretend_s3(monkeypatch, tmp_path):
    """An S3 server with an empty ``s3://bucket``, which the environment names; see ``support/pretend_s3.py``."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    import fsspec
    import requests
    from pretend_s3 import KEY, SECRET, PretendS3

    for name in [n for n in os.environ if n.startswith(("AWS_", "FSSPEC_"))]:
        monkeypatch.delenv(name)
    server = PretendS3()
    requests.post(f"{server.address}/moto-api/reset", timeout=20)  # it remembers what another had
    given = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": server.address}
    given |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_CONFIG_FILE": str(tmp_path / "none")}
    for name, value in {**given, "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}.items():
        monkeypatch.setenv(name, value)
    store = fsspec.get_filesystem_class("s3")
    store.clear_instance_cache()
    fsspec.filesystem("s3", use_listings_cache=False).mkdir("bucket")
    yield server
    server.close()
    store.clear_instance_cache()
