"""Dispatches that were started and have perhaps not finished, and the rates and means of those that have."""

import collections
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

# Dispatches that may be under way at once. Without a bound the host would run ahead of the devices, holding a batch
# for each step; and virtual CPU devices deadlock when too many collectives are under way.
DISPATCHES_IN_FLIGHT = 4
COUNTERS = ("skipped", "last_skipped")  # metrics that count steps: their last value is what matters


class Finished(NamedTuple):
    """A dispatch that has finished: its last step, the metrics of its steps, and when it was seen to have finished."""

    step: int
    metrics: Mapping[str, Array]
    seconds: float


class InFlight:
    """The dispatches under way, at most DISPATCHES_IN_FLIGHT, in order.

    The host waits for the oldest alone, and only when too many are under way: what is measured is finished work, not
    what the host has asked for.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter, wait: Callable[[PyTree], PyTree] | None = None):
        """wait: returns when the arrays of a tree are there; None: jax's own."""
        self._clock, self._wait = clock, wait or jax.block_until_ready
        self._queue: collections.deque[tuple[int, Mapping[str, Array]]] = collections.deque()

    def start(self, step: int, metrics: Mapping[str, Array]) -> Iterator[Finished]:
        """Take in a dispatch that was just started; those that must have finished before more may be started."""
        self._queue.append((step, metrics))
        while len(self._queue) > DISPATCHES_IN_FLIGHT:
            yield self._oldest()

    def drain(self) -> Iterator[Finished]:
        """Every dispatch that is left, when it has finished."""
        while self._queue:
            yield self._oldest()

    def _oldest(self) -> Finished:
        step, metrics = self._queue.popleft()
        self._wait(metrics)
        return Finished(step, metrics, self._clock())


class Lap(NamedTuple):
    """What happened between two lines of the log.

    seconds: that the steps took.  means [M]: of each metric and member, over the steps that were finite (NaN where none
    was).  counters [M]: their last values.
    """

    steps: int
    seconds: float
    means: dict[str, Float[np.ndarray, " M"]]
    counters: dict[str, Int[np.ndarray, " M"]]


Sums = dict[str, tuple[Float[np.ndarray, " M"], Int[np.ndarray, " M"]]]  # of finite values, and how many there were


class Meter:
    """Rates and means of finished dispatches since the last line of the log, validation left out.

    The sums since the last line are saved with a checkpoint, so that a resumed run logs the means of one that never
    stopped. They are exact: float64 holds sums of half a billion float32 numbers of like size.
    """

    def __init__(
        self, step: int, steps_per_dispatch: int, carried: Sums | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ):  # fmt: skip
        """step: after which the training run begins or goes on.  carried: `sums` of the run that it goes on from."""
        self._clock, self._step, self._each, self._carried = clock, step, steps_per_dispatch, carried or {}
        self._began, self._left_out = clock(), 0.0
        self._metrics: list[Mapping[str, Array]] = []

    def add(self, metrics: Mapping[str, Array]) -> None:
        """Take in the metrics of a dispatch that has finished; they stay on the devices until they are asked for."""
        self._metrics.append(metrics)

    def _by_step(self) -> dict[str, np.ndarray]:
        """[steps, M] of each metric since the last line, or since the run was resumed."""
        found = jax.device_get(self._metrics)
        names = found[0] if found else ()
        return {
            name: np.concatenate([np.reshape(metrics[name], (self._each, -1)) for metrics in found]) for name in names
        }

    def sums(self, by_step: Mapping[str, np.ndarray] | None = None) -> Sums:
        """Sums of the finite values since the last line, and their numbers."""
        found = dict(self._carried)
        for name, values in (self._by_step() if by_step is None else by_step).items():
            if name not in COUNTERS:
                finite = np.isfinite(values)
                total, count = np.where(finite, values, 0).sum(axis=0, dtype=np.float64), finite.sum(axis=0)
                before = found.get(name, (0.0, 0))
                found[name] = (before[0] + total, before[1] + count)
        return found

    def lap(self, finished: Finished, *, ends: bool = True) -> Lap:
        """What happened since the last lap, up to this dispatch.

        ends: the next lap begins here. A line besides the cadence, such as that of a run that is stopped, ends none: a
        resumed run logs what a run that never stopped does.
        """
        by_step = self._by_step()
        lap = Lap(
            steps=finished.step - self._step,
            seconds=max(finished.seconds - self._began - self._left_out, 1e-9),
            means={
                name: np.where(count > 0, total / np.maximum(count, 1), np.nan)
                for name, (total, count) in self.sums(by_step).items()
            },
            counters={name: by_step[name][-1] for name in COUNTERS},
        )
        if ends:
            self._metrics, self._carried = [], {}
            self._step, self._began, self._left_out = finished.step, finished.seconds, 0.0
        return lap

    @contextmanager
    def left_out(self) -> Iterator[None]:
        """The time that passes inside is no time of the steps."""
        began = self._clock()
        yield
        self._left_out += self._clock() - began
