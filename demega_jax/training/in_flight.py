"""Dispatches that are under way, and the rates and means of those that have finished."""

import collections
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

# Dispatches that may be under way at once. Without a bound the host would run ahead of the devices and hold a batch for
# each step. Virtual CPU devices also deadlock when too many collectives are under way.
DISPATCHES_IN_FLIGHT = 4
COUNTERS = ("skipped", "last_skipped")  # metrics that count steps: of these the last value counts, not the mean


Clock = Callable[[], float]


class Finished(NamedTuple):
    """A finished dispatch: its last step, the metrics of its steps, and when the host saw that it had finished."""

    step: int
    metrics: Mapping[str, Array]
    seconds: float


class InFlight:
    """The dispatches under way, in order, at most DISPATCHES_IN_FLIGHT.

    The host waits for the oldest only, and only when too many are under way. Rates are therefore measured over finished
    work, not over what the host has started.
    """

    def __init__(self, clock: Clock = time.perf_counter, wait: Callable[[PyTree], PyTree] = jax.block_until_ready):
        """clock: seconds, monotonic.  wait: returns when the arrays of a tree are computed."""
        self._clock, self._wait = clock, wait
        self._queue: collections.deque[tuple[int, Mapping[str, Array]]] = collections.deque()

    def start(self, step: int, metrics: Mapping[str, Array]) -> Iterator[Finished]:
        """Add a dispatch that was just started. Gives those that must finish before another may be started."""
        self._queue.append((step, metrics))
        while len(self._queue) > DISPATCHES_IN_FLIGHT:
            yield self._oldest()

    def drain(self) -> Iterator[Finished]:
        """Wait for every dispatch under way, in order."""
        while self._queue:
            yield self._oldest()

    def _oldest(self) -> Finished:
        step, metrics = self._queue.popleft()
        self._wait(metrics)
        return Finished(step, metrics, self._clock())


class Lap(NamedTuple):
    """What happened between two lines of the log.

    steps: how many.  seconds: how long they took.  means [M]: mean of each metric over the steps where it was finite,
    for each member; NaN where it never was.  counters [M]: last value of each counter.  in_a_row [M]: most steps in a
    row that were skipped, with those before that the same row began with.
    """

    steps: int
    seconds: float
    means: dict[str, Float[np.ndarray, " M"]]
    counters: dict[str, Int[np.ndarray, " M"]]
    in_a_row: Int[np.ndarray, " M"]


Sums = dict[str, tuple[Float[np.ndarray, " M"], Int[np.ndarray, " M"]]]  # of finite values, and how many there were


class Row(NamedTuple):
    """Steps in a row that were skipped. now [M]: up to the last step.  longest [M]: since the last line of the log."""

    now: Int[np.ndarray, " M"]
    longest: Int[np.ndarray, " M"]

    def then(self, skipped: Bool[np.ndarray, "S M"]) -> "Row":
        """The row after more steps, of which some were skipped."""
        now, longest = self
        for step in skipped:
            now = np.where(step, now + 1, 0)
            longest = np.maximum(longest, now)
        return Row(now, longest)


NO_ROW = Row(np.zeros((), int), np.zeros((), int))


class Meter:
    """Rates and means of the finished dispatches since the last line of the log, without the time of validation.

    A checkpoint holds the sums since that line, so that a resumed training run logs the same means as one that never
    stopped. The sums are exact: float64 holds sums of half a billion float32 numbers of similar size.
    """

    def __init__(
        self,
        step: int,
        steps_per_dispatch: int,
        carried: Sums | None = None,
        clock: Clock = time.perf_counter,
        row: Row = NO_ROW,
    ):
        """step: the last step before this training run begins or goes on.  carried, row: from its checkpoint."""
        self._clock, self._step, self._each, self._carried = clock, step, steps_per_dispatch, carried or {}
        self._row = row
        self._began, self._left_out = clock(), 0.0
        self._metrics: list[Mapping[str, Array]] = []

    def add(self, metrics: Mapping[str, Array]) -> None:
        """Add the metrics of a finished dispatch. They stay on the devices until they are needed."""
        self._metrics.append(metrics)

    def _by_step(self) -> dict[str, np.ndarray]:
        """Values [steps, M] of each metric since the last line, or since the training run was resumed."""
        found = jax.device_get(self._metrics)
        names = found[0] if found else ()
        return {name: np.concatenate([np.reshape(each[name], (self._each, -1)) for each in found]) for name in names}

    def sums(self, by_step: Mapping[str, np.ndarray] | None = None) -> Sums:
        """Sum and number of the finite values of each metric since the last line."""
        found = dict(self._carried)
        for name, values in (self._by_step() if by_step is None else by_step).items():
            if name not in COUNTERS:
                finite = np.isfinite(values)
                total, count = np.where(finite, values, 0).sum(axis=0, dtype=np.float64), finite.sum(axis=0)
                before = found.get(name, (0.0, 0))
                found[name] = (before[0] + total, before[1] + count)
        return found

    def row(self, by_step: Mapping[str, np.ndarray] | None = None) -> Row:
        """The row of skipped steps up to the last step."""
        last_skipped = (self._by_step() if by_step is None else by_step).get("last_skipped")
        if last_skipped is None:
            return self._row
        return self._row.then(last_skipped == self._step + 1 + np.arange(len(last_skipped))[:, None])

    def lap(self, finished: Finished, *, ends: bool = True) -> Lap:
        """What happened since the last lap, up to this dispatch.

        ends: whether the next lap begins here. A line that a stop adds ends no lap, so that a resumed training run logs
        the same lines as one that never stopped.
        """
        by_step = self._by_step()
        row = self.row(by_step)
        lap = Lap(
            steps=finished.step - self._step,
            seconds=max(finished.seconds - self._began - self._left_out, 1e-9),
            means={
                name: np.where(count > 0, total / np.maximum(count, 1), np.nan)
                for name, (total, count) in self.sums(by_step).items()
            },
            counters={name: by_step[name][-1] for name in COUNTERS},
            in_a_row=row.longest,
        )
        if ends:
            self._metrics, self._carried = [], {}
            self._row = Row(row.now, row.now)
            self._step, self._began, self._left_out = finished.step, finished.seconds, 0.0
        return lap

    @contextmanager
    def left_out(self) -> Iterator[None]:
        """Do not count the time that passes inside as time of the steps."""
        began = self._clock()
        yield
        self._left_out += self._clock() - began
