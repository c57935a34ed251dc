"""The roll call of several processes, which are threads here, at a real port of the loopback."""

import json
import socket
import threading
import time

import pytest
from helpers.errors import refused
from helpers.processes import free_port

from demega_jax.commands.shared.processes import Ours
from demega_jax.commands.shared.roll_call import roll_call
from demega_jax.errors import UserError


class Calls:
    """Processes that answer the roll call side by side. `said` has the error of each, or None once it goes on."""

    def __init__(self, *each: tuple[int, int], within: int = 10):
        """each: (number, processes) of each of them."""
        address = f"127.0.0.1:{free_port()}"
        self.said: list[str | None] = ["hangs"] * len(each)
        self.order: list[int] = []
        self.threads = [
            threading.Thread(target=self._answer, args=(place, Ours(address, count, number, within)), daemon=True)
            for place, (number, count) in enumerate(each)
        ]
        for thread in self.threads:
            thread.start()
        for thread in self.threads:
            thread.join(within + 10)

    def _answer(self, place: int, ours: Ours) -> None:
        try:
            with roll_call(ours):
                time.sleep(0.2 * (ours.number == 0))  # as the leader makes its service ready
                self.order.append(ours.number)
        except UserError as error:
            self.said[place] = str(error)
        else:
            self.said[place] = None


def test_all_go_on_once_the_leader_is_ready():
    calls = Calls((2, 3), (0, 3), (1, 3))
    assert calls.said == [None, None, None]
    assert calls.order[0] == 0


def test_who_is_missing_is_named_to_all():
    began = time.monotonic()
    calls = Calls((0, 4), (2, 4), within=1)
    assert time.monotonic() - began < 5
    assert calls.said[0] == calls.said[1]
    assert "after 1 s 2 of 4 processes have not come" in calls.said[0] and "(number 1, 3)" in calls.said[0]


@pytest.mark.parametrize(
    ("each", "fact"),
    [
        (((0, 3), (1, 3), (1, 3)), "two processes are number 1"),
        (((0, 3), (1, 2)), "process 1 counts 2 processes, and process 0 3"),
    ],
)
def test_who_does_not_fit_is_named_to_all(each, fact):
    calls = Calls(*each)
    assert all(said is not None and fact in said for said in calls.said)


def test_a_coordinator_that_is_not_there_is_refused_in_the_stated_time():
    began = time.monotonic()
    with refused("nothing answers", "after 1 s", where="--coordinator"):
        with roll_call(Ours(f"127.0.0.1:{free_port()}", 2, 1, 1)):
            pytest.fail("it went on")
    assert 1 <= time.monotonic() - began < 5


def test_something_else_at_the_port_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as other:
        threading.Thread(target=lambda: other.accept()[0].sendall(b"HTTP/1.1 400 Bad Request\r\n"), daemon=True).start()
        with refused("something else listens there"), roll_call(Ours(f"127.0.0.1:{other.getsockname()[1]}", 2, 1, 5)):
            pytest.fail("it went on")


def test_a_port_in_use_is_refused():
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        with refused(f"port {port}", "free port", where="--coordinator"), roll_call(Ours(f"127.0.0.1:{port}", 2, 0, 1)):
            pytest.fail("it went on")


@pytest.mark.parametrize(
    "line", [b"", b"GET / HTTP/1.1\n", b"[]\n", b'["demega-jax", null, 2]\n', b'{"a": 1}\n', b"\xff\n"]
)
def test_who_is_none_of_us_is_not_answered(line):
    """A port scanner, for example. The leader goes on with those who belong to it."""
    port = free_port()
    ours = Ours(f"127.0.0.1:{port}", 2, 0, 10)
    went_on = threading.Event()

    def lead() -> None:
        with roll_call(ours):
            went_on.set()

    thread = threading.Thread(target=lead, daemon=True)
    thread.start()
    with _connected(port) as stranger:
        stranger.sendall(line)
        stranger.shutdown(socket.SHUT_WR)
        assert stranger.recv(10) == b""
    with _connected(port) as follower:
        follower.sendall(json.dumps(["demega-jax", 1, 2]).encode() + b"\n")
        assert follower.recv(10) == b"go\n"
    thread.join(5)
    assert went_on.is_set()


def _connected(port: int) -> socket.socket:
    for _ in range(100):
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=5)
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise AssertionError("the leader does not listen")
