"""The roll call: all processes meet at the coordinator's port before jax does, and whoever is missing is named.

jax would end a process with pages of text where another one does not come, comes twice, or counts differently.
"""

import contextlib
import json
import socket
import time
from collections.abc import Iterator

from demega_jax.commands.shared.processes import Ours
from demega_jax.errors import UserError, listed

GREETING = "demega-jax"
LINE_BYTES = 10_000
GO = "go"
PATIENCE = 10  # seconds for one line
SERVICE = 120  # seconds that the leader may take, once all are there, until it says so


@contextlib.contextmanager
def roll_call(ours: Ours) -> Iterator[None]:
    """Meet the others at the coordinator's port. The block of the leader (process 0) makes it ready for jax; that of
    the others begins then.

    UserError: nothing answers, or nothing can listen there; a process is missing, comes twice, or counts differently.
    """
    if ours.number == 0:
        with contextlib.closing(Leader(ours)) as leader:
            leader.gather()
            yield
            leader.answer(GO)
        return
    _report(ours)
    yield


class Leader:
    """Process 0, to which the others report."""

    def __init__(self, ours: Ours):
        self._ours, self._until = ours, time.monotonic() + ours.within
        self._present: dict[int, socket.socket] = {}

    def gather(self) -> None:
        """Wait until all are there. UserError: as for `roll_call`, which those who are there hear too."""
        with contextlib.closing(self._listen()) as server:
            while len(self._present) < self._ours.processes - 1:
                server.settimeout(max(0.01, self._until - time.monotonic()))
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    raise self._refused(self._missing()) from None
                self._hear(connection)

    def _listen(self) -> socket.socket:
        _, port = self._ours.address
        dual = socket.has_dualstack_ipv6()
        while True:
            try:
                return socket.create_server(("", port), family=_family(dual), dualstack_ipv6=dual, backlog=128)
            except OSError as error:
                came = error.strerror or str(error)
            if time.monotonic() > self._until:
                came = f"nothing can listen at port {port} ({came}), after {self._ours.within} s"
                way_out = "choose another port, for every process"
                raise UserError("--coordinator", came, "a free port of process 0", way_out)
            time.sleep(0.2)

    def _hear(self, connection: socket.socket) -> None:
        """Note who has come. Something that is none of us is not answered."""
        said = _read_line(connection)
        try:
            greeting, number, processes = json.loads(said)
            if greeting != GREETING:
                raise ValueError
            number, processes = int(number), int(processes)
        except (ValueError, TypeError):
            connection.close()
            return
        twice = number in self._present or number == 0
        self._present[-1 - len(self._present) if twice else number] = connection
        if twice:
            way_out = "start each process once, with numbers from 0"
            raise self._refused(UserError("--process-id", f"two processes are number {number}", "one each", way_out))
        if processes != self._ours.processes:
            came = f"process {number} counts {processes} processes, and process 0 {self._ours.processes}"
            raise self._refused(UserError("--processes", came, "the same number", "give every process the same"))

    def _missing(self) -> UserError:
        ours = self._ours
        missing = [number for number in range(1, ours.processes) if number not in self._present]
        came = (
            f"after {ours.within} s {len(missing)} of {ours.processes} processes have not come to {ours.coordinator} "
            f"(number {listed(missing)})"
        )
        way_out = "start them, or wait longer with --join-within"
        return UserError("--processes", came, "all of them", way_out)

    def _refused(self, error: UserError) -> UserError:
        self.answer(json.dumps([error.where, error.came, error.wanted, error.way_out]))
        return error

    def answer(self, line: str) -> None:
        """Say a line to all who are there."""
        for connection in self._present.values():
            with contextlib.suppress(OSError):  # it has gone meanwhile, as jax will notice
                connection.sendall(f"{line}\n".encode())

    def close(self) -> None:
        """Close the connections. Without an answer before, the others end too."""
        for connection in self._present.values():
            connection.close()


def _family(dual: bool) -> socket.AddressFamily:
    return socket.AF_INET6 if dual else socket.AF_INET


def _report(ours: Ours) -> None:
    """Report to process 0, and wait until all are there."""
    with _connect(ours) as connection:
        connection.sendall(f"{json.dumps([GREETING, ours.number, ours.processes])}\n".encode())
        said = _read_line(connection, ours.within + SERVICE)
    if said == GO:
        return
    with contextlib.suppress(ValueError):
        found = json.loads(said)
        if isinstance(found, list) and len(found) == 4 and all(isinstance(part, str) for part in found):
            raise UserError(*found)
    came = "process 0 has ended, or something else listens there"
    way_out = "see what process 0 said, and start all of them again"
    raise UserError(f"--coordinator {ours.coordinator}", came, "process 0", way_out)


def _connect(ours: Ours) -> socket.socket:
    until = time.monotonic() + ours.within
    while True:
        try:
            return socket.create_connection(ours.address, timeout=min(PATIENCE, ours.within))
        except OSError as error:
            came = error.strerror or str(error) or "no answer"
        if time.monotonic() > until:
            came = f"nothing answers at {ours.coordinator} ({came}), after {ours.within} s (--join-within)"
            way_out = "start process 0 on that host, and see that this host can reach it"
            raise UserError("--coordinator", came, "process 0, which listens there", way_out)
        time.sleep(0.2)


def _read_line(connection: socket.socket, seconds: float = PATIENCE) -> str:
    """A line, without its end; empty where none comes."""
    connection.settimeout(seconds)
    with contextlib.suppress(OSError), connection.makefile("rb") as file:
        return file.readline(LINE_BYTES).decode(errors="replace").strip()
    return ""
