"""One machine as a SLURM cluster of its own: munged, slurmctld and slurmd, with all their files in one folder."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scontrol")
WITHIN = 60  # seconds in which the daemons start
CREDENTIAL = 20  # seconds that a credential of a job lasts, and as long a job that is requeued waits
CONF = """
ClusterName=one
SlurmctldHost=localhost
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/munge/socket,cred_expire={credential}
SlurmctldPort={controller}
SlurmdPort={worker}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/linear
SchedulerType=sched/builtin
MpiDefault=none
JobRequeue=1
KillWait=120
ReturnToService=2
NodeName=localhost CPUs={cores} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
"""


def missing() -> str:
    """What a cluster of one machine needs and this one has not; empty where it can be started."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        return f"no {', '.join(absent)}: apt install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "slurmd starts tasks as root only"


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """A cluster that ends with this block; gives the environment in which its commands find it.

    folder: short and readable for everybody, as sockets have short names.
    """
    for name, mode in (("munge", 0o755), ("state", 0o755), ("spool", 0o755)):
        (folder / name).mkdir()
        (folder / name).chmod(mode)
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(64))
    key.chmod(0o600)
    controller, worker = _free_port(), _free_port()
    conf = folder / "slurm.conf"
    conf.write_text(
        CONF.format(
            folder=folder, credential=CREDENTIAL, controller=controller, worker=worker, cores=os.cpu_count() or 1
        )
    )
    env = dict(os.environ, SLURM_CONF=str(conf))
    files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    munge = [f"--{option}={folder}/munge/{name}" for option, name in files.items()]
    commands = (
        ["munged", "--force", "--foreground", *munge],
        ["slurmctld", "-D", "-c"],
        ["slurmd", "-D", "-N", "localhost"],
    )
    with contextlib.ExitStack() as stack:
        for words in commands:
            stack.enter_context(_daemon(words, env, folder / f"{words[0]}.out"))
            if words[0] == "munged":
                wait_for((folder / "munge" / "socket").exists, WITHIN)
        wait_for(lambda: "idle" in said(env, "sinfo", "--noheader", "--format=%T"), WITHIN)
        yield env


def said(env: dict[str, str], *words: str) -> str:
    """What a command of the cluster prints, whatever its status is."""
    return subprocess.run(words, env=env, capture_output=True, text=True, check=False).stdout


def wait_for(there: Callable[[], bool], seconds: float) -> None:
    """Wait until it is there. TimeoutError: it is not, in so many seconds."""
    until = time.monotonic() + seconds
    while not there():
        if time.monotonic() > until:
            raise TimeoutError(f"{there} was not there within {seconds} s")
        time.sleep(0.2)


@contextlib.contextmanager
def _daemon(words: list[str], env: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("w") as to, subprocess.Popen(words, env=env, stdout=to, stderr=to) as process:
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
