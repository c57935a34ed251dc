"""Which of several processes this is: by the options, or by what a scheduler has put into the environment."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Annotated

from typer import Option

from demega_jax.errors import UserError, warn

PANEL = "Several processes"
PROCESS = "Which of them this is, from 0 (default: as the scheduler says)."
PROCESSES = "How many processes there are (default: as the scheduler says, or 1)."
COORDINATOR = "Address of process 0, where all meet (default: found under SLURM and on TPU pods)."
Coordinator = Annotated[str | None, Option(metavar="HOST:PORT", help=COORDINATOR, rich_help_panel=PANEL)]
Processes = Annotated[int | None, Option(metavar="N", min=1, max=65_536, help=PROCESSES, rich_help_panel=PANEL)]
ProcessId = Annotated[int | None, Option(metavar="I", min=0, max=65_535, help=PROCESS, rich_help_panel=PANEL)]
Within = Annotated[
    int, Option("--join-within", metavar="S", min=1, max=3600, help="Seconds to wait for all.", rich_help_panel=PANEL)
]
TPU_PORT = 8476
FIRST_PORT, PORTS = 61_440, 4096  # SLURM's jobs take one of these ports, by the number of the job, as in jax
TOGETHER = ("train", "evaluate")  # commands that several processes do together
EACH = ("doctor",)  # commands that are useful in every task of SLURM, as each is on a machine of its own
OUTPUT = "--json"  # of a command in EACH: every task would write the same file
SHARED_OUT = "--cells"  # of `sweep`: each task does others
ONE = "add all of --coordinator HOST:PORT --processes N --process-id I, or none of them"


@dataclasses.dataclass(frozen=True)
class Ours:
    """This process among several. number: which one.  within: seconds to wait for the others.  local: its number among
    the tasks of this machine, which takes the GPU of that number; None: it takes all devices."""

    coordinator: str
    processes: int
    number: int
    within: int
    local: int | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the coordinator."""
        host, _, port = self.coordinator.rpartition(":")
        return host.strip("[]"), int(port)


def processes_of(
    coordinator: str | None,
    processes: int | None,
    number: int | None,
    within: int,
    environment: Mapping[str, str] = os.environ,
) -> Ours | None:
    """This process among several; None where it works alone.

    Options decide; what they leave open comes from the environment: of SLURM's tasks, of Kubernetes' indexed jobs
    (JOB_COMPLETION_INDEX), of TPU pods. UserError: something is missing, or does not fit.
    """
    asked = (coordinator, processes, number)
    found = _found(environment, within)
    if asked == (None, None, None):
        return found
    if found is not None:
        coordinator = found.coordinator if coordinator is None else coordinator
        processes = found.processes if processes is None else processes
        number = found.number if number is None else number
    elif number is None and "JOB_COMPLETION_INDEX" in environment:
        number = _number(environment, "JOB_COMPLETION_INDEX")
    named = {"--coordinator": coordinator, "--processes": processes, "--process-id": number}
    if missing := [name for name, value in named.items() if value is None]:
        raise UserError(missing[0], "not given, beside another option of several processes", "all three", ONE)
    assert coordinator is not None and processes is not None and number is not None, "checked above"
    if number >= processes:
        wanted = f"0 to {processes - 1}, as --processes is {processes}"
        raise UserError("--process-id", f"process {number} of {processes}", wanted, "correct one of the two")
    _check_address(coordinator)
    if processes == 1:
        return None
    return Ours(coordinator, processes, number, within, None if found is None else found.local)


def _check_address(coordinator: str) -> None:
    host, colon, port = coordinator.rpartition(":")
    if not (host and colon and port.isdecimal() and port.isascii() and 0 < int(port) < 65_536):
        way_out = "write it as node1:61500, the same for every process"
        raise UserError("--coordinator", f"`{coordinator}`", "HOST:PORT, with a port from 1 to 65535", way_out)


def _found(environment: Mapping[str, str], within: int) -> Ours | None:
    """This process among the tasks of a SLURM step, or the hosts of a TPU pod; None where there is only one."""
    if "SLURM_JOB_ID" in environment:
        return _of_slurm(environment, within)
    hosts = [host for host in environment.get("TPU_WORKER_HOSTNAMES", "").split(",") if host]
    if len(hosts) > 1:
        return Ours(f"{hosts[0]}:{TPU_PORT}", len(hosts), _number(environment, "TPU_WORKER_ID"), within)
    return None


def _of_slurm(environment: Mapping[str, str], within: int) -> Ours | None:
    if "SLURM_STEP_NODELIST" not in environment:  # a batch script itself, or a shell: `srun` has started no task
        if int(environment.get("SLURM_NTASKS", "1")) > 1:
            warn(
                f"SLURM gave {environment['SLURM_NTASKS']} tasks, but this process was not started by `srun`, so it "
                "works alone; for all of them, write `srun` before the command"
            )
        return None
    name = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environment else "SLURM_NTASKS"
    tasks = _number(environment, name)
    if tasks == 1:
        return None
    port = FIRST_PORT + _number(environment, "SLURM_JOB_ID") % PORTS
    several = _number(environment, "SLURM_STEP_NUM_NODES", 1) < tasks
    local = _number(environment, "SLURM_LOCALID") if several else None
    host = first_host(environment["SLURM_STEP_NODELIST"])
    return Ours(f"{host}:{port}", tasks, _number(environment, "SLURM_PROCID"), within, local)


def check_one_task(command: str, words: Sequence[str], environment: Mapping[str, str] = os.environ) -> None:
    """UserError: several tasks of `srun` were started with a command that only one process can do: each of them would
    do the whole of it, and write the same files.

    words: those after the command.
    """
    options = {word.partition("=")[0] for word in words}
    alone = command not in TOGETHER and (command not in EACH or OUTPUT in options)
    if not alone or SHARED_OUT in options or "SLURM_STEP_NODELIST" not in environment:
        return
    tasks = environment.get("SLURM_STEP_NUM_TASKS") or environment.get("SLURM_NTASKS", "1")
    if tasks != "1":
        came = f"task {environment.get('SLURM_PROCID', '?')} of {tasks} tasks of SLURM, which would all do the same"
        way_out = f"start it as `srun --ntasks=1 demega-jax {command} ..`"
        if command == "sweep":
            way_out += ", or give each task cells of its own with --cells"
        raise UserError(f"demega-jax {command}", came, "one task", way_out)


def first_host(nodes: str) -> str:
    """The first host of a list as SLURM writes it: `node001`, `node[001-015],host2`, `a1,b2`."""
    before, bracket, inside = nodes.partition("[")
    if not bracket or "," in before:
        return nodes.partition(",")[0]
    return before + inside.partition("]")[0].replace("-", ",").partition(",")[0] + _after(inside)


def _after(inside: str) -> str:
    """What follows the bracket of the first host, as in `node[1-2]-ib`."""
    return inside.partition("]")[2].partition(",")[0]


def _number(environment: Mapping[str, str], name: str, otherwise: int | None = None) -> int:
    text = environment.get(name, "" if otherwise is None else str(otherwise))
    if not (text.isdecimal() and text.isascii()):
        came = f"`{text}`" if text else "it is not set, where other variables of the scheduler are"
        raise UserError(f"environment variable {name}", came, "a whole number", f"start it anew, or {ONE}")
    return int(text)
