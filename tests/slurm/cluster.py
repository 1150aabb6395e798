"""A real SLURM cluster on this machine, from Debian's packages and in one directory."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from filelock import FileLock
from system import missing

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "slurmdbd", "mariadbd")


def lacking() -> str | None:
    """Why no cluster can be started here, if so."""
    if os.geteuid() != 0:
        return "a SLURM cluster of one's own takes root"
    if "/usr/sbin" not in os.environ["PATH"].split(":"):
        os.environ["PATH"] += ":/usr/sbin:/sbin"
    if there_are_not := missing(PROGRAMS):
        return f"{', '.join(there_are_not)} of Debian's SLURM are not installed"
    return None


class Cluster:
    """``Cluster(directory).start()``; its commands read ``environment``."""

    def __init__(self, directory: Path, nodes: int = 2) -> None:
        self.directory, self.nodes = directory, nodes
        self.port = _free_ports(nodes + 3)
        self.environment = {**os.environ, "SLURM_CONF": str(directory / "slurm.conf")}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> Cluster:
        for name in ("state", "log", "run", "spool"):
            (self.directory / name).mkdir(mode=0o755, parents=True)
        self.directory.chmod(0o755)
        self._write_configuration()
        key = self.directory / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        run, log = self.directory / "run", self.directory / "log"
        self._daemon(
            "munged", "--foreground", f"--key-file={key}", f"--socket={run}/munge.sock", f"--pid-file={run}/munged.pid",
            f"--log-file={log}/munged.log", f"--seed-file={run}/munge.seed", "--force", "--num-threads=2",
        )  # fmt: skip
        self._start_accounting()
        self.start_controller()
        for node in range(1, self.nodes + 1):
            self.start_node(node)
        self._wait(lambda: self.run("sinfo", "-h", "-N", "-p", "main", "-o", "%T").split() == ["idle"] * self.nodes)
        return self

    def stop(self) -> None:
        subprocess.run(["scancel", "--full", "--user=root"], env=self.environment, capture_output=True, timeout=20)
        self._wait(lambda: not self.run("squeue", "-h"), seconds=15, must=False)
        for name in reversed(list(self._daemons)):
            self.kill(name, signal.SIGTERM)

    def run(self, *command: str) -> str:
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60).stdout.strip()

    def start_controller(self) -> None:
        self._daemon("slurmctld", "-D")
        self._wait(lambda: "UP" in self.run("scontrol", "ping"))

    def start_node(self, number: int) -> None:
        self._daemon("slurmd", "-D", "-N", f"node{number}", name=f"node{number}")

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End a daemon by its process: ``slurmctld``, ``node1`` …"""
        daemon = self._daemons.pop(name)
        daemon.send_signal(number)
        try:
            daemon.wait(15)
        except subprocess.TimeoutExpired:
            daemon.kill()

    def _start_accounting(self) -> None:
        run, log, data = (self.directory / name for name in ("run", "log", "db"))
        options = ["--no-defaults", "--user=root", f"--datadir={data}"]
        with FileLock(f"{tempfile.gettempdir()}/spikefront-mariadb-install.lock"):  # two at once fail now and then
            subprocess.run(
                ["mariadb-install-db", *options, "--auth-root-authentication-method=normal"],
                stdout=(log / "db-install.log").open("wb"), stderr=subprocess.STDOUT, check=True,
            )  # fmt: skip
        self._daemon(
            "mariadbd", *options, f"--socket={run}/db.sock", f"--port={self.port + 1}", "--bind-address=127.0.0.1",
            "--innodb-lock-wait-timeout=900",
        )  # fmt: skip
        grant = "create user slurm@'127.0.0.1' identified by 'slurm'; grant all on slurm.* to slurm@'127.0.0.1'"
        client = ["mariadb", "--no-defaults", f"--socket={run}/db.sock", "-e", grant]
        self._wait(lambda: subprocess.run(client, capture_output=True).returncode == 0)
        self._daemon("slurmdbd", "-D")
        self._wait(
            lambda: "started" in (log / "slurmdbd.log").read_text() if (log / "slurmdbd.log").exists() else False
        )

    def _daemon(self, program: str, *arguments: str, name: str | None = None) -> None:
        name = name or program
        with (self.directory / "log" / f"{name}.out").open("ab") as out:
            self._daemons[name] = subprocess.Popen(
                [program, *arguments], env=self.environment, stdout=out, stderr=out, start_new_session=True
            )

    def _wait(self, what, seconds: float = 60, must: bool = True) -> None:
        end = time.monotonic() + seconds
        while not what():
            if time.monotonic() > end:
                assert not must, f"SLURM did not come up; see {self.directory}/log"
                return
            time.sleep(0.2)

    def _write_configuration(self) -> None:
        d, port, host = self.directory, self.port, socket.gethostname().split(".")[0]
        (d / "slurm.conf").write_text(
            f"""
ClusterName=local
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={d}/run/munge.sock,cred_expire=5
CryptoType=crypto/munge
StateSaveLocation={d}/state
SlurmdSpoolDir={d}/spool/%n
SlurmctldPidFile={d}/run/slurmctld.pid
SlurmdPidFile={d}/run/slurmd-%n.pid
SlurmctldLogFile={d}/log/slurmctld.log
SlurmdLogFile={d}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePass={d}/run/munge.sock
AccountingStoragePort={port + 2}
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PreemptExemptTime=0
MpiDefault=none
ReturnToService=2
JobRequeue=1
KillWait=20
SlurmctldTimeout=10
SlurmdTimeout=10
MinJobAge=300
SlurmdParameters=config_overrides
"""
            + "\n".join(
                f"NodeName=node{i} NodeHostname={host} NodeAddr=127.0.0.1 Port={port + 2 + i} CPUs=4 RealMemory=8000"
                for i in range(1, self.nodes + 1)
            )
            + f"""
PartitionName=main Nodes=node[1-{self.nodes}] Default=YES MaxTime=UNLIMITED PriorityTier=1 GraceTime=20 State=UP
PartitionName=urgent Nodes=node[1-{self.nodes}] MaxTime=UNLIMITED PriorityTier=10 PreemptMode=OFF State=UP
"""
        )
        (d / "slurmdbd.conf").write_text(
            f"""
AuthType=auth/munge
AuthInfo=socket={d}/run/munge.sock
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port + 2}
SlurmUser=root
PidFile={d}/run/slurmdbd.pid
LogFile={d}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={port + 1}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
"""
        )
        (d / "slurmdbd.conf").chmod(0o600)


def _free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens on."""
    while True:
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            start = first.getsockname()[1]
        if start + count < 65536 and all(_free(start + i) for i in range(count)):
            return start


def _free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
