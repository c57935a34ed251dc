"""Several processes that train one model together: what they tell each other beside the arrays of jax.

Process 0 leads: it alone prints, and reads and writes the run folder. The others follow. Messages go through the
key-value store of jax's coordination service, from a thread of its own, so that no step waits for them.
"""

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, NoReturn, Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils

from demega_jax.training.members import Member
from demega_jax.training.meta import Meta
from demega_jax.training.signals import Signals
from demega_jax.training.state import TrainState

EVERY = 1.0  # seconds between two looks at what the others say
LOST_AFTER = 30  # seconds of silence after which a process counts as lost
LINGER = 5  # seconds that a leader that fails waits for the others to read why
GO_ON = "Continue from the last checkpoint with --resume."
STATUS = 2  # exit status of a process that another one has ended

Kind = Literal["latest", "best"]


class Store(Protocol):
    """The part of jax's coordination client that is used here."""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None: ...

    def blocking_key_value_get(self, key: str, timeout_in_ms: int) -> str: ...

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]: ...


def end_at_once(line: str, status: int = STATUS) -> NoReturn:
    """End the process with a line on stderr (if it is not empty), without what jax would wait for at the end."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    if line:
        with contextlib.suppress(OSError):
            os.write(2, f"{line}\n".encode(errors="backslashreplace"))
    os._exit(status)


class Together:
    """This process among those that train together. `watched` says within which block the others are watched."""

    def __init__(
        self,
        store: Store,
        number: int,
        count: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        end: Callable[[str], None] = end_at_once,
    ):
        """number: of this process.  end: what ends the process, with a line for stderr."""
        self.number, self.count = number, count
        self._store, self._clock, self._end = store, clock, end
        self._signals: SharedSignals | None = None
        self._heard: dict[int, tuple[str, float]] = {}
        self._turn, self._over = 0, threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def leads(self) -> bool:
        """Whether this is process 0."""
        return self.number == 0

    def same(self, name: str, make: Callable[[], str]) -> str:
        """The text that the leader makes, in every process. A leader that fails ends the others by `watch`."""
        key = f"demega/text/{name}"
        if self.leads:
            text = make()
            self._store.key_value_set(key, text)
            return text
        while True:
            try:
                return self._store.blocking_key_value_get(key, 10_000)
            except jax.errors.JaxRuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    self._lost_coordinator()

    def same_state(self, state: TrainState, metas: list[Meta] | None) -> tuple[Any, list[Meta] | None]:
        """The leader's state, on the host, and its metas, in every process."""
        text = self.same("metas", lambda: json.dumps(metas))
        self.meet("state")
        return multihost_utils.broadcast_one_to_all(jax.tree.map(np.asarray, state)), json.loads(text)

    def fail(self, message: str) -> None:
        """Tell the others why this process ends. A leader waits until they have read it, but not for long."""
        self._over.set()
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self._store.key_value_set(f"demega/now/failed/{self.number}", message, allow_overwrite=True)
            until = self._clock() + LINGER
            while self.leads and self._clock() < until and len(self._said("gone")) < self.count - 1:
                time.sleep(0.1)

    def meet(self, place: str) -> None:
        """Wait until every process has come to this place, however long that takes. One that is lost or fails on its
        way ends the others by `watch`."""
        self.say(place, "")
        while len(self.said(place)) < self.count:
            time.sleep(0.05)

    def finish(self) -> None:
        """Wait until every process has come to its end; then nobody watches any more."""
        self.meet("done")
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def note(self, signals: "SharedSignals") -> None:
        """Share these signals with the others."""
        self._signals = signals

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Within this block a thread tells the others that this process lives, and ends it where another has failed."""
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()

    def wait_for_verdict(self) -> None:
        """Wait until the thread ends this process, as a collective fails where a peer is gone; return if it is not."""
        time.sleep(LOST_AFTER + 5 * EVERY)

    def _watch(self) -> None:
        while not self._over.wait(EVERY):
            try:
                self.look()
            except jax.errors.JaxRuntimeError:
                if not self._over.is_set():
                    self._lost_coordinator()

    def look(self) -> None:
        """Say that this process lives, and read what the others have said."""
        self._turn += 1
        self._store.key_value_set(f"demega/now/alive/{self.number}", str(self._turn), allow_overwrite=True)
        for number, message in self._said("failed").items():
            if number != self.number:
                self._leave(f"error: process {number} has ended, and so does process {self.number}: {message}")
        self._check_alive()
        if self._signals is not None:
            self._signals.look(self)

    def _check_alive(self) -> None:
        now, alive = self._clock(), self._said("alive")
        for number in range(self.count):
            said, since = self._heard.get(number, ("", now))
            turn = alive.get(number, "")
            self._heard[number] = (turn, now) if turn != said else (said, since)
            if now - self._heard[number][1] > LOST_AFTER:
                self._leave(
                    f"error: process {number} is lost: nothing was heard of it for {LOST_AFTER} s, so process "
                    f"{self.number} ends. {GO_ON}"
                )

    def say(self, kind: str, text: str) -> None:
        """Say something of this process to all."""
        self._store.key_value_set(f"demega/now/{kind}/{self.number}", text, allow_overwrite=True)

    def said(self, kind: str) -> dict[int, str]:
        """What each process has said of this kind."""
        return self._said(kind)

    def _said(self, kind: str) -> dict[int, str]:
        found = self._store.key_value_dir_get(f"demega/now/{kind}/")
        return {int(key.rpartition("/")[2]): value for key, value in found}

    def _lost_coordinator(self) -> None:
        self._leave(f"error: the coordinator of process 0 does not answer, so process {self.number} ends. {GO_ON}")

    def _leave(self, line: str) -> None:
        self._over.set()
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self.say("gone", "")
        self._end(line)


class SharedSignals(Signals):
    """Signals that all processes act on after the same step, whichever of them received one.

    Where one was received, the thread that watches says so; each process then says which step it has started, and all
    of them stop after the last of these. No process waits for the others before that.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock, self._known = threading.Lock(), threading.Event()
        self._asked, self._told = False, False
        self._started, self._last = 0, 0

    def stops_after(self, step: int, following: int) -> bool:
        """Whether training stops after this step, in every process. following: the last step of the next dispatch."""
        with self._lock:
            if not self._asked:
                self._started = following
                return False
        self._known.wait()
        return step >= self._last

    def look(self, together: Together) -> None:
        """Tell the others of a signal, and hear of theirs."""
        if self.received is not None and not self._told:
            together.say("stop", str(int(self.received)))
            self._told = True
        asked = together.said("stop")
        if not asked or self._known.is_set():
            return
        if not self._asked:
            with self._lock:
                self._asked = True
                together.say("started", str(self._started))
        if self.received is None:
            self.received = int(asked[min(asked)])
        started = together.said("started")
        if len(started) == together.count:
            self._last = max(int(step) for step in started.values())
            self._known.set()


class Follower(Member):
    """A model in a process that follows: its standing is the leader's, and nothing is written."""

    def __init__(self, folder: Any, config: Any, number: int | None, meta: Meta | None, skipped: int):
        self._describe(folder, config, number, meta, skipped)

    @contextlib.contextmanager
    def opened(self, resume_step: int | None) -> Iterator[None]:
        """There is nothing to open."""
        yield

    def log(self, split: Literal["train", "validation"], step: int, epoch: float, values: Any) -> None:
        """The leader writes the log."""

    def wait(self) -> None:
        """There is nothing to wait for."""

    def save(self, kind: Kind, state: Any, meta: Meta) -> None:
        """The leader saves. What it computes of the state is computed here too, as it may be on all devices."""
        self.of(state)
