"""A real SLURM of one node on this machine: controller, node daemon and munge, all temporary.

Needs the packages slurmctld, slurmd, slurm-client and munge of Debian or Ubuntu, and root.
``python tests/executors/real_slurm.py FOLDER COMMAND...`` runs a command in it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "squeue", "munged")

CONF = """\
ClusterName=test
SlurmctldHost={host}
SlurmctldPort={port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
JobRequeue=1
GresTypes=gpu
NodeName={host} CPUs={cpus} Gres=gpu:2 State=UNKNOWN
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
#: two devices that are GPUs as far as SLURM can tell
GRES = "Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n"


def missing() -> str | None:
    """Why there can be no SLURM here, if there cannot."""
    absent = [p for p in PROGRAMS if shutil.which(p) is None]
    if absent:
        return f"{', '.join(absent)} not installed"
    return None if os.geteuid() == 0 else "the daemons must be started by root"


class RealSlurm:
    """The daemons, and the environment in which SLURM's commands find them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        (self.folder / "munge.key").chmod(0o400)
        conf = self.folder / "slurm.conf"
        conf.write_text(
            CONF.format(
                folder=self.folder, host=socket.gethostname(), cpus=os.cpu_count(),
                port=free_port(), node_port=free_port(),
            )
        )  # fmt: skip
        (self.folder / "gres.conf").write_text(GRES)
        self.environment = {**os.environ, "SLURM_CONF": str(conf)}
        self.daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the daemons; returns when the node takes jobs."""
        munge = [f"--{key}={self.folder}/munge.{value}" for key, value in (
            ("key-file", "key"), ("socket", "socket"), ("pid-file", "pid"), ("log-file", "log"),
            ("seed-file", "seed"),
        )]  # fmt: skip
        for command in (["munged", "-F", "--force", *munge], ["slurmctld", "-D"], ["slurmd", "-D"]):
            with (self.folder / f"{command[0]}.out").open("wb") as out:
                self.daemons.append(
                    subprocess.Popen(
                        command, env=self.environment, stdout=out, stderr=out,
                        start_new_session=True,
                    )
                )  # fmt: skip
            time.sleep(1)
        end = time.monotonic() + 60
        while "idle" not in self.run("sinfo", "--noheader", "--format=%T"):
            if time.monotonic() > end:
                logs = [p.read_text()[-1000:] for p in self.folder.glob("*.log")]
                raise RuntimeError("SLURM does not start:\n" + "\n".join(logs))
            time.sleep(0.5)

    def run(self, *command: str) -> str:
        """What one of SLURM's commands says."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        return done.stdout + done.stderr

    def stop(self) -> None:
        """End the daemons."""
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])


if __name__ == "__main__":
    cluster = RealSlurm(Path(sys.argv[1]))
    try:
        cluster.start()
        code = subprocess.run(sys.argv[2:], env=cluster.environment).returncode
    finally:
        cluster.stop()
    sys.exit(code)
