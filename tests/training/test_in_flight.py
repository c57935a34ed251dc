"""Rates and means of the log, by a clock that is moved by hand: finished work counts, not what was asked for."""

import numpy as np
import pytest

from demega_jax.training.in_flight import DISPATCHES_IN_FLIGHT, Finished, InFlight, Meter, Row


class Clock:
    """Seconds that pass when a dispatch is waited for, and at no other time."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def metrics(loss, skipped: int = 0, last: int = 0) -> dict[str, np.ndarray]:
    return {"loss": np.float32(loss), "skipped": np.int32(skipped), "last_skipped": np.int32(last)}


def test_rates_are_those_of_finished_steps_though_the_host_runs_ahead():
    """Each step takes 2 s on the device; the host asks for all of them at once."""
    clock = Clock()

    def wait(tree):
        clock.now += 2.0

    in_flight, meter = InFlight(clock, wait), Meter(0, 1, clock=clock)
    laps = []
    for step in range(1, 13):
        for finished in in_flight.start(step, metrics(step)):
            meter.add(finished.metrics)
            if finished.step % 4 == 0:
                laps.append((finished.step, meter.lap(finished)))
        assert clock.now == 2.0 * max(0, step - DISPATCHES_IN_FLIGHT)  # never waits for the newest
    assert [step for step, _ in laps] == [4, 8]
    for finished in in_flight.drain():
        meter.add(finished.metrics)
    laps.append((finished.step, meter.lap(finished)))
    assert [step for step, _ in laps] == [4, 8, 12]
    for step, lap in laps:
        assert (lap.steps, lap.seconds) == (4, 8.0)
        assert lap.means["loss"].tolist() == [step - 1.5]  # of steps step - 3 .. step


def test_validation_is_no_time_of_the_steps():
    clock = Clock()
    meter = Meter(10, 1, clock=clock)
    with meter.left_out():
        clock.now += 100
    clock.now += 3
    meter.add(metrics(1.0))
    lap = meter.lap(Finished(11, metrics(1.0), clock.now))
    assert (lap.steps, lap.seconds) == (1, 3.0)


def test_means_leave_out_what_is_not_finite_and_counters_are_the_last():
    """Two members, dispatches of two steps: [steps, members]."""
    meter = Meter(0, 2)
    first = {
        "loss": np.array([[1, np.nan], [3, np.inf]], np.float32),
        "skipped": np.array([[0, 1], [0, 2]]),
        "last_skipped": np.array([[0, 1], [0, 2]]),
    }
    second = {
        "loss": np.array([[np.nan, np.nan], [8, np.nan]], np.float32),
        "skipped": np.array([[1, 3], [1, 4]]),
        "last_skipped": np.array([[3, 3], [3, 4]]),
    }
    meter.add(first)
    meter.add(second)
    lap = meter.lap(Finished(4, second, 1.0))
    np.testing.assert_array_equal(lap.means["loss"], [4.0, np.nan])
    assert lap.counters["skipped"].tolist() == [1, 4] and lap.counters["last_skipped"].tolist() == [3, 4]


@pytest.mark.parametrize("stop", [1, 5, 9])
def test_a_stop_within_a_line_leaves_its_mean_as_it_was(stop):
    losses = np.random.default_rng(0).gumbel(3, 2, 10).astype(np.float32)
    whole, before = Meter(0, 1), Meter(0, 1)
    for loss in losses:
        whole.add(metrics(loss))
    for loss in losses[:stop]:
        before.add(metrics(loss))
    after = Meter(stop, 1, before.sums())
    for loss in losses[stop:]:
        after.add(metrics(loss))
    end = Finished(10, metrics(0), 1.0)
    assert after.lap(end).means["loss"].tolist() == whole.lap(end).means["loss"].tolist()
    assert whole.sums() == {}  # a line ends the sums


def skipped_at(steps: set[int], upto: int) -> np.ndarray:
    """`last_skipped` after each step of one model."""
    return np.array([max((s for s in steps if s <= step), default=0) for step in range(1, upto + 1)])


@pytest.mark.parametrize("stop", [None, 3, 7, 9])
def test_skipped_steps_in_a_row_over_lines_of_the_log_and_stops(stop):
    """Lines after steps 4, 8 and 12; steps 3 to 5, 8 and 9 are skipped in the first model, 1 and 2 in the second."""
    last = np.stack([skipped_at({3, 4, 5, 8, 9}, 12), skipped_at({1, 2}, 12)], axis=1)
    meter, found = Meter(0, 1), []
    for step in range(1, 13):
        values = {"loss": np.ones(2), "skipped": np.zeros(2, int), "last_skipped": last[step - 1]}
        meter.add(values)
        if step % 4 == 0:
            found.append(meter.lap(Finished(step, values, 1.0)).in_a_row.tolist())
        if step == stop:
            now, longest = (count.tolist() for count in meter.row())  # as the checkpoint holds them
            meter = Meter(step, 1, meter.sums(), row=Row(np.array(now), np.array(longest)))
    assert found == [[2, 2], [3, 0], [2, 0]]
