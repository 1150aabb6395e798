"""Workers are forked from a process that has their imports behind it, and are otherwise as if they had been started."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from waiting import until

from spikefront.config import ROOT
from spikefront.errors import UserError
from spikefront.start import POOLS
from spikefront.sweeping.worker import template
from spikefront.sweeping.worker.processes import Processes
from spikefront.sweeping.worker.template import POSSIBLE, Template

pytestmark = pytest.mark.skipif(not POSSIBLE, reason="forks are for Linux")

READY = f"""
import os, signal, sys, time
sys.path.insert(0, {str(ROOT / "src")!r})
import numpy
from spikefront.sweeping.worker import template
from spikefront.sweeping.worker.processes import stop_with_parent
ready = os.getpid()
work = lambda: exec(sys.argv[1], globals())
if template.asked():
    template.serve(work)
work()
"""
SAY = "print(1, flush=True); time.sleep(99)"
CORE = max(os.sched_getaffinity(0))


@pytest.fixture
def program(tmp_path):
    script = tmp_path / "ready.py"
    script.write_text(READY)
    return [sys.executable, str(script)]


def begun(log):
    return log.exists() and log.read_text().startswith("1")


def test_a_fork_has_its_own_arguments_environment_output_cores_and_chance(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    template = Template(program, ["shown"])
    said = (
        "print(sys.argv[2:], os.environ['OWN'], 'SPIKEFRONT_TEMPLATE' in os.environ, os.getcwd(), sep='\\n');"
        "print(os.getsid(0) == os.getpid(), os.sched_getaffinity(0), os.getppid() == ready, sys.argv[0], sep='\\n');"
        " print(numpy.random.rand());"
        " print('and so', file=sys.stderr); sys.exit(7)"
    )
    logs = [tmp_path / "a.log", tmp_path / "b.log"]
    environment = {**os.environ, "OWN": "ö\n", "OMP_NUM_THREADS": "1"}
    forks = [template.start([*program, said, "x=1", "ü"], environment, log, [CORE]) for log in logs]
    assert psutil.Process(template._process.pid).cmdline()[-1] == "shown"
    until(lambda: all(f.poll() is not None for f in forks))
    assert [f.poll() for f in forks] == [7, 7]
    one, other = (log.read_text().split("\n") for log in logs)
    assert one[:9] == ["['x=1', 'ü']", "ö", "", "False", str(tmp_path), "True", f"{{{CORE}}}", "True", program[1]]
    assert one[10] == "and so" and one[9] != other[9]


def test_a_fork_ends_without_what_a_library_does_after_python(program, tmp_path, capfd):
    """As onnxruntime, which waits for a thread that a fork hasn't got."""
    abort = "import atexit, ctypes; libc = ctypes.CDLL(None); atexit.register(print, 'at exit');"
    abort += " libc.__cxa_atexit(ctypes.cast(libc.abort, ctypes.c_void_p), None, None); "
    alone = subprocess.run([*program, abort + "print('alone')"], capture_output=True, text=True)
    assert alone.stdout == "alone\nat exit\n" and alone.returncode == -signal.SIGABRT
    Processes([[*program, abort + "print('forked')"]], tmp_path, template=Template(program)).run()
    assert (tmp_path / "worker_0.log").read_text() == "forked\nat exit\n" and not capfd.readouterr().err


def test_a_killed_worker_is_told_by_its_signal_and_started_again(program, tmp_path, capfd):
    times = tmp_path / "times"
    worker = f"file = open({str(times)!r}, 'a'); file.write('1'); file.close()\n"
    worker += f"len(open({str(times)!r}).read()) < 2 and os.kill(os.getpid(), 9)"
    Processes([[*program, worker]], tmp_path, template=Template(program)).run()
    assert times.read_text() == "11" and "a worker was killed (SIGKILL)" in capfd.readouterr().err


def test_a_failing_worker_ends_the_sweep_with_its_words(program, tmp_path):
    failing = "print('spikefront: no such thing'); sys.exit(1)"
    with pytest.raises(UserError, match=r"^no such thing \(log: .*worker_0.log\)$"):
        Processes([[*program, failing], [*program, SAY]], tmp_path, template=Template(program)).run()


@pytest.mark.parametrize("imports", [True, False])
def test_an_interrupt_reaches_workers_that_run_and_keeps_others_from_beginning(program, tmp_path, imports):
    if not imports:
        Path(program[1]).write_text("import time\ntime.sleep(99)")
    log = tmp_path / "worker_0.log"

    def press():
        until(lambda: begun(log)) if imports else time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    group, started = Processes([[*program, SAY]], tmp_path, template=Template(program)), time.monotonic()
    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt):
        group.run()
    assert time.monotonic() - started < 60 and begun(log) == imports


@pytest.mark.parametrize("broken", ["sys.exit(3)", "import nothing_there", "os.kill(os.getpid(), 9)"])
def test_where_no_template_can_be_workers_are_started(tmp_path, capfd, broken):
    """As where an import fails, so that the worker says it in its log."""
    script = tmp_path / "broken.py"
    script.write_text(f"import os, sys\nif 'SPIKEFRONT_TEMPLATE' in os.environ: {broken}\nprint(sys.argv[1])")
    program = [sys.executable, str(script)]
    Processes([[*program, "1"]], tmp_path, template=Template(program)).run()
    assert begun(tmp_path / "worker_0.log") and not capfd.readouterr().err


def test_forks_stop_with_the_sweep_that_was_killed(program, tmp_path):
    sweep = (
        "import pathlib, sys; from spikefront.sweeping.worker.processes import Processes\n"
        "from spikefront.sweeping.worker.template import Template\n"
        "program, work = sys.argv[1:3], sys.argv[3]\n"
        "Processes([[*program, work]], pathlib.Path(sys.argv[4]), template=Template(program)).run()"
    )
    said, log = tmp_path / "said", tmp_path / "worker_0.log"
    work = f"""
stop_with_parent()
try:
    print(1, flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    open({str(said)!r}, 'w').close()
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen([sys.executable, "-c", sweep, *program, work, str(tmp_path)], env=environment)
    until(lambda: begun(log))
    (template,) = psutil.Process(process.pid).children()
    process.kill()
    process.wait()
    until(said.exists)
    until(lambda: not template.is_running())


SWEEP = str(ROOT / "src" / "sweep.py")


@pytest.mark.parametrize(
    ("arguments", "here"),
    [
        ("-m hparams_search=timesteps", True),
        ("hparams_search=timesteps --multirun", True),
        ("search.worker=true", False),  # is a worker
        ("-m hparams_search=timesteps dry_run=true", False),
        ("-m hparams_search=timesteps hydra/launcher=slurm", False),
        ("-m --cfg job", False),
        ("--help", False),
    ],
)
def test_the_template_of_a_sweep_imports_while_the_sweep_does(monkeypatch, arguments, here):
    monkeypatch.setattr(sys, "argv", [SWEEP, *arguments.split()])
    monkeypatch.setattr(template, "Template", lambda *how: SimpleNamespace(how=how, end=lambda: ended.append(how)))
    ended: list[tuple] = []
    whole = ([sys.executable, SWEEP], ("search.worker=true",))
    template.begin_ahead()
    assert [t.how for t in template._ahead] == ([whole] if here else [])
    template.spare()
    assert ended == ([whole] if here else []) and not template._ahead
    template.begin_ahead()
    assert template.begun().how == whole and not template._ahead


@pytest.mark.parametrize("arguments", ["hparams_search=timestep", "hparams_search=timesteps +launcher=none"])
def test_a_sweep_that_is_refused_leaves_no_template(tmp_path, arguments):
    mine = f"search.dir={tmp_path}"
    command = [sys.executable, SWEEP, "-m", *arguments.split(), mine]
    ended = subprocess.run(command, env={**os.environ, "MARK": mine}, capture_output=True, timeout=120)
    assert ended.returncode == 1
    until(lambda: not [p for p in psutil.process_iter(["environ"]) if (p.info["environ"] or {}).get("MARK") == mine])


IMPORTS = """
import os, torch
asked = []
for name in ("is_available", "device_count", "_lazy_init"):
    setattr(torch.cuda, name, lambda *_, name=name: asked.append(name) or 0)
torch._C._cuda_getDeviceCount = lambda: asked.append("count") or 0
from spikefront.commands.sweep import make_ready
make_ready()
print(asked, len(os.listdir("/proc/self/task")))
"""


@pytest.mark.slow
def test_what_workers_import_starts_no_thread_and_asks_for_no_gpu():
    """Neither lives on in a fork: who has counted GPUs before it can't use them after it."""
    alone = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **dict.fromkeys(POOLS, "1")}
    said = subprocess.run([sys.executable, "-c", IMPORTS], env=alone, capture_output=True, text=True, check=True)
    assert said.stdout.split("\n")[-2] == "[] 1"
